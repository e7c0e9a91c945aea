"""Values on which layers that pick boxes are compared where a network's own leave nothing to compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import yolo_detector
from exported import by_onnx
from harness import GOLDEN

from rmpe_legacy import load_net
from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import Verdict, verify
from rmpe_legacy.formats.base import NetRunner

CASES = ["YoloDetectionOutput__basic", "YoloDetectionOutput__batch2_merged", "Yolov3DetectionOutput__one_head_rect",
         "Yolov3DetectionOutput__two_heads", "Proposal__scores", "Proposal__one_anchor", "BoxGroupOutput__one_group",
         "BoxGroupOutput__two_strides_scores"]
SCORES = {"Proposal": (0,), "BoxGroupOutput": (0, 2)}  # bottoms whose equal values would leave the order open


def last_layer(case: str) -> tuple[Layer, list[tuple[int, ...]]]:
    step = load_net(GOLDEN / "forks" / case / "net.prototxt").steps[-1]
    return step.layer, [tuple(shape) for shape in step.bottom_shapes or ()]


def typical(layer: Layer, shapes: list[tuple[int, ...]], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    values = [layer.typical(i, shapes, rng) for i in range(len(shapes))]
    return [value for value in values if value is not None]


@pytest.mark.parametrize("case", CASES)
def test_they_give_several_boxes(case: str):
    layer, shapes = last_layer(case)
    counts = []
    for seed in range(8):
        values = typical(layer, shapes, seed)
        assert [value.shape for value in values] == shapes
        tops = layer.forward(*(torch.from_numpy(value.astype(np.float32)) for value in values))
        found = tops[0] if isinstance(tops, tuple) else tops
        assert torch.isfinite(found).all()
        rows = found.reshape(-1, 7 if found.shape[:2] == (1, 1) else 5)
        counts.append(len(rows[:, -4:].unique(dim=0)))
    assert sorted(counts)[4] > 1


@pytest.mark.parametrize("case", CASES)
def test_a_seed_gives_the_same_again_and_another_seed_others(case: str):
    layer, shapes = last_layer(case)
    one, again, other = (typical(layer, shapes, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(*pair) for pair in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_a_large_map_has_some_hundred_objects(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text(yolo_detector(3, 3, 1600, 1600))
    step = load_net(path).steps[-1]
    (maps,) = typical(step.layer, [tuple(shape) for shape in step.bottom_shapes], 1)
    assert maps.shape == (1, 8, 100, 100)
    assert 100 < (maps[:, 4] > -19).sum() < 300


@pytest.mark.parametrize("case", [case for case in CASES if case.partition("__")[0] in SCORES])
def test_no_two_scores_are_equal(case: str):
    layer, shapes = last_layer(case)
    values = typical(layer, shapes, 1701)
    for i in SCORES[case.partition("__")[0]][: len(shapes)]:
        if i < len(shapes):
            scores = values[i].astype(np.float32)
            assert len(np.unique(scores)) == scores.size
            assert 0 < scores.min() < scores.max() < 1


class TestARealDifferenceIsNotHidden:
    """The maps of this YOLO are those of a trained one in size, so rounding does not change which boxes are kept."""

    def network(self, folder: Path, version: int, threshold: str) -> Net:
        folder.mkdir(exist_ok=True)
        path = folder / "net.prototxt"
        path.write_text(yolo_detector(version, 3, 256, 256).replace("nms_threshold: 0.45",
                                                                     f"nms_threshold: {threshold}"))
        net = load_net(path)
        with torch.no_grad():
            for blob in net.parameters():
                blob.copy_(torch.randn(blob.shape, generator=torch.Generator().manual_seed(3)))
        return net

    def compared(self, folder: Path, version: int, threshold: str) -> Verdict:
        return verify(NetRunner(self.network(folder, version, "0.45"), "net"),
                      by_onnx(self.network(folder / "other", version, threshold), folder))

    @pytest.mark.parametrize("version", [2, 3])
    def test_the_same_threshold(self, version: int, tmp_path: Path):
        verdict = self.compared(tmp_path, version, "0.45")
        assert verdict.same, str(verdict)
        assert verdict.typical == ()

    @pytest.mark.parametrize("version", [2, 3])
    def test_another_threshold(self, version: int, tmp_path: Path):
        verdict = self.compared(tmp_path, version, "0.1")
        assert [d.blob for d in verdict.differences if not d.is_same] == ["detection_out"]
        assert verdict.typical == ()


class TestANetworkThatOverflows:
    """Its scaled scores are all much alike, so a layer that picks boxes would pick nearly all of them."""

    def compared(self, folder: Path, version: int, threshold: str) -> Verdict:
        nets = []
        for name, limit in (("net", "0.45"), ("other", threshold)):
            (folder / name).mkdir()
            path = folder / name / "net.prototxt"
            text = yolo_detector(version, 3, 256, 256)
            path.write_text(text.replace("nms_threshold: 0.45", f"nms_threshold: {limit}"))
            nets.append(load_net(path))
            with torch.no_grad():
                for blob in nets[-1].parameters():
                    blob.copy_(1e25 * torch.randn(blob.shape, generator=torch.Generator().manual_seed(3)))
        return verify(NetRunner(nets[0], "net"), by_onnx(nets[1], folder))

    @pytest.mark.parametrize("version", [2, 3])
    def test_its_boxes_are_picked_from_typical_values(self, version: int, tmp_path: Path):
        verdict = self.compared(tmp_path, version, "0.45")
        assert verdict.same, str(verdict)
        assert verdict.typical
        assert not {*verdict.typical} & {*verdict.scaled}
        assert not verdict.overflows

    @pytest.mark.parametrize("version", [2, 3])
    def test_another_threshold_is_found(self, version: int, tmp_path: Path):
        assert self.compared(tmp_path, version, "0.02").first.blob == "detection_out"
