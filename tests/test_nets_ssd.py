"""RMPE's person detector on a picture, blob by blob, against what the real Caffe gave (RMPE fork, CPU)."""

import json
import lzma
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rmpe_legacy import load_net

RELATIVE = 1e-4  # of a blob's largest value; VGG's sums of up to 9216 products come in another order


@pytest.fixture(scope="module")
def golden() -> Path:
    if not os.environ.get("RMPE_SHARED"):
        pytest.skip("RMPE_SHARED is not set: the detector that Caffe ran is not at hand")
    return Path(os.environ["RMPE_SHARED"]) / "golden" / "nets" / "ssd"


@pytest.fixture(scope="module")
def blobs(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Every blob of one forward of ours."""
    weights = tmp_path_factory.mktemp("ssd") / "ssd.caffemodel"
    with lzma.open(golden / "weights.caffemodel.xz") as packed, weights.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    net = load_net(golden / "deploy.prototxt", weights, keep_blobs=True)
    weights.unlink()
    with torch.no_grad():
        net(data=torch.from_numpy(np.load(golden / "blobs.npz")["data"]))
    return {name: blob.numpy() for name, blob in net.blobs.items()}


def error(want: np.ndarray, got: np.ndarray, largest: float) -> float:
    return float(np.abs(want.astype(np.float64) - got).max() / largest)


def test_every_blob_has_caffes_shape_and_samples(golden: Path, blobs: dict[str, np.ndarray]):
    stats = json.loads((golden / "stats.json").read_text())
    assert stats.keys() <= blobs.keys()
    wrong = []
    for name, want in stats.items():
        got = blobs[name]
        assert list(got.shape) == want["shape"], name
        largest = max(abs(want["min"]), abs(want["max"]))
        samples = got.ravel()[:: want["samples_stride"]][: len(want["samples"])]
        apart = max(error(np.array(want["samples"]), samples, largest),
                    *(error(np.array(want[what]), getattr(got.astype(np.float64), what)(), largest)
                      for what in ("mean", "std", "min", "max")))
        if not apart <= RELATIVE:
            wrong.append(f"{name}: {apart:.3g}")
    assert not wrong


@pytest.mark.parametrize("name", ["conv6_2", "conv7_2", "conv8_2", "pool6", "mbox_loc", "mbox_conf",
                                  "mbox_priorbox", "mbox_conf_softmax"])
def test_blob_is_what_caffe_gave(golden: Path, blobs: dict[str, np.ndarray], name: str):
    want = np.load(golden / "blobs.npz")[name]
    assert error(want, blobs[name], np.abs(want).max()) <= RELATIVE


def test_priors_are_caffes_to_the_bit(golden: Path, blobs: dict[str, np.ndarray]):
    assert np.array_equal(np.load(golden / "blobs.npz")["mbox_priorbox"], blobs["mbox_priorbox"])


def test_detects_the_same_boxes_in_the_same_order(golden: Path, blobs: dict[str, np.ndarray]):
    want, got = np.load(golden / "blobs.npz")["detection_out"][0, 0], blobs["detection_out"][0, 0]
    assert got.shape == want.shape == (69, 7)
    assert np.array_equal(got[:, :2], want[:, :2])  # image, label
    assert np.abs(got - want).max() <= RELATIVE
