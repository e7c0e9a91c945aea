"""caffe.io as scripts see it, against what the original gave; tests/golden/io/CASES.md says how."""

import io
import json

import cv2
import numpy as np
import pytest
from paths import GOLDEN

from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.errors import RmpeError

CASES = {path.parent.name: json.loads(path.read_text()) for path in sorted((GOLDEN / "io").glob("*/case.json"))}
LIMIT = 1.2e-7  # of the range of the values: two roundings of single precision


def of_kind(kind):
    names = [name for name, meta in CASES.items() if meta["kind"] == kind]
    assert names
    return names


def arrays(name):
    with np.load(GOLDEN / "io" / name / "case.npz") as file:
        return dict(file)


def check(got, want):
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=0, atol=LIMIT * (float(np.ptp(want)) or 1))


@pytest.mark.parametrize("name", of_kind("transformer"))
def test_transformer(name):
    meta, data = CASES[name], arrays(name)
    transformer = caffe.io.Transformer({"data": meta["input_shape"]})
    for option in meta["order_of_set_calls"]:
        value = data["opt_mean"] if option == "mean" else meta["options"][option]
        getattr(transformer, f"set_{option}")("data", value)
    check(transformer.preprocess("data", data["in"].copy()), data["out"])
    if "de_error" in meta:
        with pytest.raises(RmpeError):
            transformer.deprocess("data", data["de_in"])
    else:
        got = transformer.deprocess("data", data["de_in"])
        assert got.dtype == data["de_out"].dtype
        np.testing.assert_allclose(got, data["de_out"], rtol=0, atol=LIMIT * (float(np.ptp(data["de_in"])) or 1))


@pytest.mark.parametrize("name", [name for name in of_kind("resize_image") if "nearest" not in name and
                                  not name.startswith("resize__uint8")])
def test_resize_image(name):
    """Of nearest neighbours the original takes one or the other by noise; integers it divides as Python 2 does."""
    meta, data = CASES[name], arrays(name)
    got = caffe.io.resize_image(data["image"], meta["new_dims"], meta["interp_order"])
    assert (got.shape, got.dtype) == (data["out"].shape, data["out"].dtype)
    np.testing.assert_allclose(got, data["out"], rtol=0, atol=LIMIT * (float(np.ptp(data["image"])) or 1))


@pytest.mark.parametrize("name", of_kind("oversample"))
def test_oversample(name):
    meta, data = CASES[name], arrays(name)
    assert np.array_equal(caffe.io.oversample(data["images"], meta["crop_dims"]), data["out"])


def test_messages_hold_the_arrays():
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    blob = caffe.io.array_to_blobproto(array)
    assert blob.DESCRIPTOR.name == "BlobProto"
    assert np.array_equal(caffe.io.blobproto_to_array(type(blob).FromString(blob.SerializeToString())), array)
    datum = caffe.io.array_to_datum((array * 9).astype(np.uint8), 7)
    assert (datum.label, datum.channels, datum.height, datum.width) == (7, 2, 3, 4)
    assert np.array_equal(caffe.io.datum_to_array(datum), (array * 9).astype(np.uint8))


def test_an_image_from_an_open_file(tmp_path):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.random.default_rng(2).integers(0, 255, (5, 6, 3), np.uint8))
    want = caffe.io.load_image(path)
    assert np.array_equal(caffe.io.load_image(io.BytesIO(path.read_bytes())), want)
    with path.open("rb") as file:
        assert np.array_equal(caffe.io.load_image(file), want)
    with pytest.raises(OSError, match="an image in memory"):
        caffe.io.load_image(io.BytesIO(b"none"))
