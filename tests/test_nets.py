"""Whole networks on a picture, blob by blob, against what the real Caffe gave (RMPE fork, CPU), and MTCNN's files."""

import json
import lzma
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import shared

from rmpe_legacy import load_net

RELATIVE = 1e-4  # of a blob's largest value; sums of up to 9216 products come in another order
POSE_MODES = {  # prefix of the arrays in blobs.npz -> what the SDTN did
    "": "published-identity",
    "fma_": "published-identity",  # with the fusions of the GPU build
    "ignored_": "published-ignored",
}


class Golden:
    """One network: its folder, its weights unpacked, and what Caffe gave."""

    def __init__(self, name: str, scratch: Path):
        self.folder = shared("golden", "nets", name)
        self.weights = scratch / f"{name}.caffemodel"
        with lzma.open(self.folder / "weights.caffemodel.xz") as packed, self.weights.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
        self.arrays = dict(np.load(self.folder / "blobs.npz"))
        self.stats = json.loads((self.folder / "stats.json").read_text())

    def run(self, **options) -> dict[str, np.ndarray]:
        """Every blob of one forward of ours."""
        net = load_net(self.folder / "deploy.prototxt", self.weights, keep_blobs=True, **options)
        with torch.no_grad():
            net(data=torch.from_numpy(self.arrays["data"]))
        return {name: blob.numpy() for name, blob in net.blobs.items()}


def error(want: np.ndarray, got: np.ndarray, largest: float | None = None) -> float:
    """The largest difference, relative to the blob's largest value."""
    largest = np.abs(want).max() if largest is None else largest
    return float(np.abs(want.astype(np.float64) - got).max() / largest)


def statistics_apart(want: dict, got: np.ndarray) -> float:
    """How far a blob is from the samples and moments that are stored of it."""
    largest = max(abs(want["min"]), abs(want["max"]), np.finfo(np.float32).tiny)
    samples = got.ravel()[:: want["samples_stride"]][: len(want["samples"])]
    moments = [(want[what], getattr(got.astype(np.float64), what)()) for what in ("mean", "std", "min", "max")]
    return max(error(np.array(a), np.array(b), largest) for a, b in [(want["samples"], samples), *moments])


@pytest.fixture(scope="module")
def ssd(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden("ssd", tmp_path_factory.mktemp("ssd"))


@pytest.fixture(scope="module")
def ssd_blobs(ssd: Golden) -> dict[str, np.ndarray]:
    return ssd.run()


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden("pose", tmp_path_factory.mktemp("pose"))


class TestDetector:
    def test_every_blob_has_caffes_shape_samples_and_moments(self, ssd: Golden, ssd_blobs):
        assert ssd.stats.keys() <= ssd_blobs.keys()
        assert {n: list(ssd_blobs[n].shape) for n in ssd.stats} == {n: w["shape"] for n, w in ssd.stats.items()}
        apart = {name: statistics_apart(want, ssd_blobs[name]) for name, want in ssd.stats.items()}
        assert not {name: a for name, a in apart.items() if not a <= RELATIVE}

    def test_stored_blobs_are_what_caffe_gave(self, ssd: Golden, ssd_blobs):
        assert len(ssd.arrays) >= 10
        apart = {name: error(want, ssd_blobs[name]) for name, want in ssd.arrays.items()}
        assert not {name: a for name, a in apart.items() if not a <= RELATIVE}

    def test_priors_are_caffes_to_the_bit(self, ssd: Golden, ssd_blobs):
        assert np.array_equal(ssd.arrays["mbox_priorbox"], ssd_blobs["mbox_priorbox"])

    def test_detects_the_same_boxes_in_the_same_order(self, ssd: Golden, ssd_blobs):
        want, got = ssd.arrays["detection_out"][0, 0], ssd_blobs["detection_out"][0, 0]
        assert got.shape == want.shape == (69, 7)
        assert np.array_equal(got[:, :2], want[:, :2])  # image, label
        assert np.abs(got - want).max() <= RELATIVE


@pytest.mark.parametrize("prefix", POSE_MODES)
def test_pose_network(pose: Golden, prefix: str):
    blobs = pose.run(de_transform=POSE_MODES[prefix])
    stored = {name.removeprefix(prefix): want for name, want in pose.arrays.items()
              if name.startswith(prefix) and (prefix or not name.startswith(("fma_", "ignored_")))}
    assert len(stored) >= 5
    joints = stored.pop("prediction_heatmap").reshape(16, 3)
    apart = {name: error(want, blobs[name]) for name, want in stored.items()}
    assert not {name: a for name, a in apart.items() if not a <= RELATIVE}
    got = blobs["prediction_heatmap"].reshape(16, 3)
    assert np.array_equal(got[:, :2], joints[:, :2]), "the same joints"
    assert error(joints[:, 2], got[:, 2]) <= RELATIVE
    if not prefix:
        apart = {name: statistics_apart(want, blobs[name]) for name, want in pose.stats.items()}
        assert not {name: a for name, a in apart.items() if not a <= RELATIVE}


@pytest.mark.parametrize("name", ["det1", "det2"])
def test_mtcnn(name: str):
    arrays = np.load(shared("expected", f"{name}_expected.npz"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # other people's trained files load without a warning
        net = load_net(shared("mtcnn", f"{name}.prototxt"), shared("mtcnn", f"{name}.caffemodel"))
    with torch.no_grad():
        out = net(data=torch.from_numpy(arrays["in_data"]))
    for blob, value in out.items():
        assert error(arrays[f"out_{blob}"], value.numpy()) <= 2e-6
