"""Work that is done once: the pose NMS per image, reading a caffemodel; and done before a file is opened."""

import cv2
import numpy as np
import pytest
from small_networks import write_detector, write_network, write_pose

from rmpe_legacy.caffe import weights
from rmpe_legacy.cli import main
from rmpe_legacy.errors import NetError
from rmpe_legacy.formats import write
from rmpe_legacy.pose import pipeline
from rmpe_legacy.pose.detect import load_detector

NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
"""


class Counter:
    """Calls a function and counts the calls."""

    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.function(*args, **kwargs)


def test_the_pose_nms_runs_once_per_image(tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(images / f"{i}.png"), pixels)
    counter = Counter(pipeline.pose_nms)
    monkeypatch.setattr(pipeline, "pose_nms", counter)
    argv = ["demo", str(images), "--detector", *map(str, write_detector(tmp_path)), "--pose",
            *map(str, write_pose(tmp_path)), "--de-transform", "paper", "--output", str(tmp_path / "out"), "--report",
            str(tmp_path / "out.html")]
    assert main(argv) == 0
    assert counter.count == 3
    assert main(argv) == 0  # resumed: nothing is left to do
    assert counter.count == 3


def test_a_caffemodel_is_read_once(tmp_path, monkeypatch):
    counter = Counter(weights.read_weights)
    monkeypatch.setattr(weights, "read_weights", counter)
    load_detector(*write_detector(tmp_path))
    assert counter.count == 1


def test_a_network_that_cannot_be_written_opens_no_file(tmp_path, monkeypatch):
    files = write_network(tmp_path, "small", NET, 3)
    counter = Counter(write.all_or_none)
    monkeypatch.setattr(write, "all_or_none", counter)

    def fails(*_args, **_kwargs):
        raise NetError("cannot be expressed")

    monkeypatch.setattr("rmpe_legacy.export.onnx.light_onnx", fails)
    assert main(["convert", *map(str, files), str(tmp_path / "small.onnx")]) == 1
    assert counter.count == 0
    assert main(["convert", *map(str, files), str(tmp_path / "small.pt")]) == 0
    assert counter.count == 1


@pytest.mark.parametrize("suffix", [".onnx", ".py", ".pt", ".safetensors", ".h5"])
def test_the_net_is_built_before_the_files_are_opened(tmp_path, monkeypatch, suffix):
    from rmpe_legacy.caffe.load import ParsedNet

    files = write_network(tmp_path, "small", NET, 3)
    order = []
    build, all_or_none = ParsedNet.build, write.all_or_none
    monkeypatch.setattr(ParsedNet, "build", lambda *a, **k: order.append("build") or build(*a, **k))
    monkeypatch.setattr(write, "all_or_none", lambda *a: order.append("open") or all_or_none(*a))
    assert main(["convert", *map(str, files), str(tmp_path / f"out{suffix}"), "--no-verify"]) == 0
    assert order == ["build", "open"]
