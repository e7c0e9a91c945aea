"""caffe.io's image path against what the original gave under Python 2.7, numpy 1.11 and skimage 0.12.

One folder of tests/golden/io is one case; docs in its CASES.md. Tolerances are relative to the range of the values.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from difference import Golden
from paths import TESTS
from PIL import Image

from rmpe_legacy.caffe.data import blobproto
from rmpe_legacy.caffe.data.image import (
    MAX_PIXELS,
    detector_input,
    load_image,
    load_image_bytes,
    oversample,
    pose_input,
    resize_image,
)
from rmpe_legacy.caffe.data.image_file import declared_size
from rmpe_legacy.caffe.data.transformer import Transformer
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode, encode
from rmpe_legacy.errors import FileError, InputError

GOLDEN = TESTS / "golden" / "io"
ONE_ROUNDING = 6e-8  # of the range: the last bit of single precision, where a sum lies between two numbers


class Case:
    """One folder: what it says of itself, and its arrays."""

    def __init__(self, name: str):
        self.folder = GOLDEN / name
        self.meta = json.loads((self.folder / "case.json").read_text())
        self.data = Golden.read(self.folder / "case.npz", "caffe.io")


def names(kind: str) -> list[str]:
    return sorted(path.parent.name for path in GOLDEN.glob("*/case.json")
                  if json.loads(path.read_text())["kind"] == kind)


def check(case: Case, name: str, got: np.ndarray, span: float, limit: float) -> None:
    """Type and values of an array; limit: of `span`, the range of the values."""
    assert got.dtype == case.data[name].dtype
    case.data.check(name, got, limit * (span or 1))


def span(values: np.ndarray) -> float:
    return float(values.max()) - float(values.min())


def test_every_case_has_its_test():
    """The last three kinds are tested with the pipeline, which they are part of."""
    kinds = {"load_image": 1, "resize_image": 49, "transformer": 21, "errors": 1, "oversample": 5, "blobproto": 1,
             "demo": 5, "cropBox": 1, "transformBoxInvert": 1}
    assert {kind: len(names(kind)) for kind in kinds} == kinds
    assert sum(kinds.values()) == len(list(GOLDEN.glob("*/case.json")))


# --- load_image -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:a photo has an EXIF orientation")  # jpeg_exif6.jpg; TestExifOrientation has more
@pytest.mark.parametrize("key", sorted(Case("load_image").meta["cases"]))
def test_load_image_is_the_original_to_the_bit(key: str):
    case = Case("load_image")
    about = case.meta["cases"][key]
    got = load_image(case.folder / about["file"], about["color"])
    assert got.dtype == np.float32
    case.data.check(key, got)


def png(w: int, h: int, rows: bytes = b"", bits: int = 8, color: int = 2) -> bytes:
    """A PNG file by its definition; rows include their filter bytes."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", w, h, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_of_sixteen_bit_colours_in_a_png_the_upper_eight_count(tmp_path: Path):
    pixels = np.random.default_rng(3).integers(0, 1 << 16, (4, 5, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    (tmp_path / "deep.png").write_bytes(png(5, 4, rows, bits=16))
    want = ((pixels >> 8) / 255).astype(np.float32)
    np.testing.assert_array_equal(load_image(tmp_path / "deep.png"), want)


def test_of_an_animation_the_first_picture_is_read(tmp_path: Path):
    if not hasattr(cv2, "imwriteanimation"):
        pytest.skip("this OpenCV writes no animations")
    frames = [np.full((6, 7, 3), value, np.uint8) for value in (0, 255)]
    animation = cv2.Animation()
    animation.frames, animation.durations = frames, [100, 100]
    assert cv2.imwriteanimation(str(tmp_path / "two.gif"), animation)
    got = load_image(tmp_path / "two.gif")
    assert got.shape == (6, 7, 3)
    assert got.max() == 0


def test_cmyk_is_what_pillow_makes_of_it_within_two_of_255(tmp_path: Path):
    path = tmp_path / "inks.jpg"
    inks = np.random.default_rng(0).integers(0, 256, (32, 40, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (40, 32), inks.tobytes()).save(path, quality=95)
    with Image.open(path) as picture:
        assert picture.mode == "CMYK"
        want = np.asarray(picture.convert("RGB"), dtype=np.float32)
    off = np.abs(load_image(path) * 255 - want)
    assert 1 < off.max() < 2.001


def test_floating_point_pictures_pass_as_they_are(tmp_path: Path):
    pixels = np.random.default_rng(4).random((5, 6), np.float32)
    cv2.imwrite(str(tmp_path / "float.tiff"), pixels)
    np.testing.assert_array_equal(load_image(tmp_path / "float.tiff", color=False)[:, :, 0], pixels)
    cv2.imwrite(str(tmp_path / "large.tiff"), pixels * 255)
    with pytest.raises(FileError, match=r"large.tiff: its pixels run from .* must lie between -1 and 1"):
        load_image(tmp_path / "large.tiff")


class TestBadPicture:
    def refused(self, path: Path, sentence: str):
        with pytest.raises(FileError, match=sentence):
            load_image(path)

    def test_missing(self, tmp_path: Path):
        self.refused(tmp_path / "no.png", "no.png: No such file or directory")

    def test_a_folder(self, tmp_path: Path):
        self.refused(tmp_path, "Is a directory")

    def test_a_name_that_no_file_can_have(self):
        self.refused(Path("a\0b"), "null")

    def test_empty(self, tmp_path: Path):
        (tmp_path / "empty.jpg").touch()
        self.refused(tmp_path / "empty.jpg", "empty.jpg: the file is empty; an image is expected")

    def test_text(self, tmp_path: Path):
        (tmp_path / "page.jpg").write_text("<!DOCTYPE html>")
        self.refused(tmp_path / "page.jpg", "page.jpg: not a readable image; the file is truncated")

    @pytest.mark.parametrize("name", ["rgb8.png", "jpeg_q95.jpg", "rgb8.gif", "rgb8.bmp", "rgb8.tif", "gray16.png"])
    def test_cut_off_anywhere(self, tmp_path: Path, name: str):
        whole = (GOLDEN / "load_image" / name).read_bytes()
        for length in (1, 7, 11, 20, 31, len(whole) // 3, len(whole) * 2 // 3, len(whole) - 70):
            (tmp_path / name).write_bytes(whole[:length])
            self.refused(tmp_path / name, f"{name}: not a readable image")

    @pytest.mark.parametrize("name", ["rgb8.png", "jpeg_q95.jpg", "rgb8.gif", "rgb8.bmp", "rgb8.tif", "gray16.png"])
    def test_damaged_anywhere(self, tmp_path: Path, name: str):
        """An image, or a sentence; nothing else."""
        whole = (GOLDEN / "load_image" / name).read_bytes()
        rng = np.random.default_rng(5)
        for _ in range(60):
            damaged = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                damaged[at] ^= int(rng.integers(1, 256))
            (tmp_path / name).write_bytes(damaged)
            with contextlib.suppress(FileError):
                assert load_image(tmp_path / name).shape[2] == 3

    def test_a_claim_of_an_enormous_size_is_refused_unread(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("memory would have been taken"))
        (tmp_path / "bomb.png").write_bytes(png(30_000, 30_001))
        self.refused(tmp_path / "bomb.png", f"bomb.png: claims to be 30000 x 30001 pixels, more than {MAX_PIXELS}")
        (tmp_path / "hollow.png").write_bytes(png(13_000, 13_001))
        self.refused(tmp_path / "hollow.png", r"claims to be 13000 x 13001 pixels, which its \d+ bytes cannot hold")


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_the_declared_size_is_the_size(kind: str):
    picture = np.random.default_rng(6).integers(0, 256, (23, 41, 3), np.uint8)
    done, data = cv2.imencode("." + kind, picture)
    assert done
    assert declared_size(data.tobytes()) == (23, 41)
    for length in range(40):
        assert declared_size(data.tobytes()[:length]) in (None, (23, 41))


@pytest.mark.parametrize("quality", [101, 40])  # lossless, and lossy
def test_the_declared_size_of_the_kinds_of_webp(quality: int):
    picture = np.random.default_rng(6).integers(0, 256, (23, 41, 4), np.uint8)
    for channels in (3, 4):
        data = cv2.imencode(".webp", picture[:, :, :channels], [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        assert declared_size(data) == (23, 41)


# --- resize_image -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("resize_image"))
def test_resize_image_is_the_original_to_one_rounding(name: str):
    case = Case(name)
    image, want = case.data["image"], case.data["out"]
    before = image.copy()
    got = resize_image(image, case.meta["new_dims"], case.meta["interp_order"], python2_division=True)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    keep = np.ones(want.shape, bool)
    if "tie_rows" in case.data:  # nearest: which of two equally near pixels is taken is noise in the original
        keep[case.data["tie_rows"]] = False
        keep[:, case.data["tie_cols"]] = False
    check(case, "out", np.where(keep, got, want), span(image), ONE_ROUNDING)
    np.testing.assert_array_equal(image, before)


def test_nearest_at_half_takes_one_of_the_two():
    case = Case("resize__nearest_half")
    image, want = case.data["image"], case.data["out"]
    got = resize_image(image, case.meta["new_dims"], 0)
    for result in (got, want):
        candidates = [np.abs(image[y::2, x::2] - result) < 1e-6 for y in (0, 1) for x in (0, 1)]
        assert np.any(candidates, axis=0).all()


def test_integers_are_divided_as_numbers_unless_python_2_is_asked_for():
    case = Case("resize__uint8_in_quirk")
    image = case.data["image"]
    got = resize_image(image, case.meta["new_dims"])
    as_floats = resize_image(image.astype(np.float32), case.meta["new_dims"])
    np.testing.assert_allclose(got, as_floats, rtol=0, atol=255 * 2 * ONE_ROUNDING)
    assert np.abs(got - case.data["out"]).max() > 100


def test_zoom_puts_zero_where_its_step_overshoots():
    """25 * (7 / 25) is more than 7: scipy has nothing there."""
    got = resize_image(np.ones((8, 5, 4), np.float32), (26, 5))
    assert (got[:-1] == 1).all()
    assert (got[-1] == 0).all()


def test_resize_takes_a_view_and_an_image_with_infinite_or_missing_values():
    image = np.random.default_rng(7).random((12, 20, 6), np.float32)[::-1, ::2, 1:4]
    np.testing.assert_array_equal(resize_image(image, (5, 7)), resize_image(image.copy(), (5, 7)))
    assert np.isnan(resize_image(np.full((3, 4, 3), np.nan, np.float32), (5, 7))).all()


@pytest.mark.parametrize(("shape", "kind", "dims", "order", "sentence"), [
    ((0, 0, 3), "f4", (5, 7), 1, "shape (0, 0, 3) has no pixels to resize"),
    ((4, 5), "f4", (5, 7), 1, "shape (4, 5) cannot be resized; give (height, width, channels)"),
    ((4, 5, 3), "c8", (5, 7), 1, "an image of complex64 values cannot be resized"),
    ((4, 5, 3), "f4", (5, 0), 1, "cannot resize to (5, 0); give (height, width) as positive whole numbers"),
    ((4, 5, 3), "f4", (5,), 1, "cannot resize to (5,)"),
    ((4, 5, 3), "f4", (5, 7), 6, "interpolation order 6 is not one of 0 to 5"),
])
def test_resize_says_what_it_cannot_do(shape, kind, dims, order, sentence):
    with pytest.raises(InputError) as error:
        resize_image(np.ones(shape, kind), dims, order)
    assert sentence in str(error.value)


# --- Transformer ------------------------------------------------------------------------------------------------


def transformer(case: Case) -> Transformer:
    """As the case sets it up, in its order."""
    made = Transformer({"data": case.meta["input_shape"]})
    for option in case.meta["order_of_set_calls"]:
        value = case.meta["options"][option]
        getattr(made, f"set_{option}")("data", case.data["opt_mean"] if option == "mean" else value)
    return made


@pytest.mark.parametrize("name", names("transformer"))
class TestTransformer:
    def test_preprocess(self, name: str):
        case = Case(name)
        given, want = case.data["in"].copy(), case.data["out"]
        got = transformer(case).preprocess("data", given)
        check(case, "out", got, span(want), 2 * ONE_ROUNDING)
        case.data.check("in_after", given)  # changed in place where the original does so

    def test_deprocess(self, name: str):
        case = Case(name)
        given = case.data["de_in"]
        if "de_error" in case.meta:
            with pytest.raises(InputError):
                transformer(case).deprocess("data", given)
            return
        before = given.copy()
        got = transformer(case).deprocess("data", given)
        check(case, "de_out", got, span(given), 2 * ONE_ROUNDING)
        np.testing.assert_array_equal(given, before)
        back = transformer(case).deprocess("data", case.data["out"])
        check(case, "de_out_of_out", back, span(case.data["out"]), 2 * ONE_ROUNDING)


def test_transformer_refuses_what_the_original_refuses():
    case = Case("transformer_errors")
    made = Transformer({"data": case.meta["input_shape"]})
    data = np.zeros((21, 33, 3), np.float32)
    mistakes = {
        "datum_2d": lambda: blobproto.array_to_datum(np.zeros((3, 4))),
        "mean_2d_on_3ch": lambda: made.set_mean("data", np.zeros((21, 33))),
        "mean_channels": lambda: made.set_mean("data", np.zeros(4)),
        "mean_ndim": lambda: made.set_mean("data", np.zeros((1, 3, 21, 33))),
        "mean_shape": lambda: made.set_mean("data", np.zeros((3, 21, 34))),
        "swap_wrong_len": lambda: made.set_channel_swap("data", (1, 0)),
        "transpose_wrong_len": lambda: made.set_transpose("data", (1, 0)),
        "unknown_input": lambda: made.set_raw_scale("x", 255),
        "unknown_input_pre": lambda: made.preprocess("x", data),
    }
    assert mistakes.keys() == case.meta["errors"].keys()
    for mistake in mistakes.values():
        with pytest.raises(InputError):
            mistake()


def test_transformer_refuses_more_with_a_sentence():
    made = Transformer({"data": (1, 3, 21, 33)})
    image = np.zeros((21, 33, 3), np.float32)
    made.set_transpose("data", (2, 0, 0))
    with pytest.raises(InputError, match=r"'data': 3 axes \(shape \(21, 33, 3\)\) cannot be transposed as \(2, 0, 0\)"):
        made.preprocess("data", image)
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 3))
    with pytest.raises(InputError, match=r"shape \(3, 21, 33\) does not have the channels \(2, 1, 3\)"):
        made.preprocess("data", image)
    made.set_channel_swap("data", (2, 1, 0))
    made.set_mean("data", np.zeros((3, 21, 33)))
    with pytest.raises(InputError, match="deprocess takes floats"):
        made.deprocess("data", np.zeros((3, 21, 33), int))
    with pytest.raises(InputError, match=r"mean of shape \(3, 21, 33\) does not fit values of shape \(21, 33\)"):
        made.deprocess("data", np.zeros((1, 21, 33)))


def test_transformer_copies_an_array_it_may_not_write_to():
    made = Transformer({"data": (1, 3, 21, 33)})
    made.set_raw_scale("data", np.float64(0.1))  # numbers count as single precision, whatever their type
    image = np.random.default_rng(8).random((21, 33, 3), np.float32)
    image.flags.writeable = False
    np.testing.assert_array_equal(made.preprocess("data", image), image * np.float32(0.1))


# --- oversample -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("oversample"))
def test_oversample_cuts_the_same_pieces(name: str):
    case = Case(name)
    got = oversample(case.data["images"], case.meta["crop_dims"])
    assert got.dtype == np.float32
    case.data.check("out", got)


@pytest.mark.parametrize(("shapes", "dims"), [
    ([(9, 8, 3)], (10, 5)), ([(9, 8, 3)], (5, 9)), ([(9, 8, 3), (7, 8, 3)], (8, 5)), ([(9, 8, 3), (9, 8, 1)], (8, 5)),
    ([(9, 8)], (8, 5)), ([], (8, 5)), ([(9, 8, 3)], (0, 5)),
])
def test_oversample_refuses_what_does_not_fit(shapes, dims):
    with pytest.raises(InputError, match="give"):
        oversample([np.zeros(shape, np.float32) for shape in shapes], dims)


# --- BlobProto and Datum ----------------------------------------------------------------------------------------


class TestBlobProto:
    case = Case("blobproto")

    @pytest.mark.parametrize("key", [k.removesuffix("_bytes") for k in case.data if k.endswith("_bytes")
                                     and k.startswith("blob")])
    def test_bytes_and_back(self, key: str):
        diff = np.asarray(self.case.data[f"{key}_in"] * 2) if key.endswith("_diff") else None
        stored = decode(self.case.data[f"{key}_bytes"].tobytes(), load_schema()["BlobProto"])
        self.case.data.check(f"{key}_back", blobproto.blobproto_to_array(stored))
        if key.endswith("_diff"):
            diff = blobproto.blobproto_to_array(stored, return_diff=True)
            self.case.data.check(f"{key}_back_diff", diff)
        made = blobproto.array_to_blobproto(self.case.data[f"{key}_in"], diff)
        assert encode(made) == self.case.data[f"{key}_bytes"].tobytes()
        assert blobproto.blobproto_to_array(made).dtype == np.float64

    @pytest.mark.parametrize("key", [k.removesuffix("_bytes") for k in case.data if k.startswith("datum")
                                     and k.endswith("_bytes")])
    def test_datum(self, key: str):
        label = key.rsplit("_", 1)[1]
        made = blobproto.array_to_datum(self.case.data[f"{key}_in"], None if label == "None" else int(label))
        assert encode(made) == self.case.data[f"{key}_bytes"].tobytes()
        stored = decode(self.case.data[f"{key}_bytes"].tobytes(), load_schema()["Datum"])
        back = blobproto.datum_to_array(stored)
        assert back.dtype == self.case.data[f"{key}_back"].dtype
        self.case.data.check(f"{key}_back", back)

    def test_vector(self):
        text = self.case.data["vec_bytes"].tobytes()
        arrays = [self.case.data["vec_in0"], self.case.data["vec_in1"]]
        assert blobproto.arraylist_to_blobprotovector_str(arrays) == text
        for i, back in enumerate(blobproto.blobprotovector_str_to_arraylist(text)):
            self.case.data.check(f"vec_back{i}", back)

    def test_four_dimensions_of_old(self):
        stored = decode(self.case.data["legacy_bytes"].tobytes(), load_schema()["BlobProto"])
        self.case.data.check("legacy_back", blobproto.blobproto_to_array(stored))

    def test_double_data_is_not_read_as_published(self):
        stored = decode(self.case.data["double_bytes"].tobytes(), load_schema()["BlobProto"])
        with pytest.raises(InputError, match="has 0 values; it is damaged, or stores them in an unsupported field"):
            blobproto.blobproto_to_array(stored)


# --- the two recipes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(21, 33), (40, 30)])
def test_recipes_are_the_demo_s_transformers(size):
    image = np.random.default_rng(9).random((40, 30, 3), np.float32)
    before = image.copy()
    pose, detector = Transformer({"data": (1, 3, *size)}), Transformer({"data": (1, 3, *size)})
    for made in (pose, detector):
        made.set_transpose("data", (2, 0, 1))
    detector.set_mean("data", np.array([104, 117, 123]))
    detector.set_raw_scale("data", 255)
    detector.set_channel_swap("data", (2, 1, 0))
    for recipe, made in ((pose_input, pose), (detector_input, detector)):
        got = recipe(image, *size)
        assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.float32, (3, *size), True)
        np.testing.assert_array_equal(got, made.preprocess("data", image.copy()))
        assert not np.shares_memory(got, image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("recipe", [pose_input, detector_input])
@pytest.mark.parametrize("image", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 1), np.float32), np.zeros((4, 5))])
def test_recipes_refuse_what_is_no_loaded_picture(recipe, image):
    with pytest.raises(InputError, match=r"is not what load_image returns; give \(height, width, 3\)"):
        recipe(image, 6, 7)


class TestExifOrientation:
    """A photo stored turned: read as stored, like in Caffe, with a warning."""

    @staticmethod
    def jpeg(orientation: bytes, order: str = "<", pixels: np.ndarray | None = None) -> bytes:
        _, data = cv2.imencode(".jpg", np.zeros((8, 12, 3), np.uint8) if pixels is None else pixels)
        tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2)
        tiff += struct.pack(order + "HHII", 0x10F, 2, 1, 0) + struct.pack(order + "HHI", 0x112, 3, 1) + orientation
        body = b"Exif\0\0" + tiff
        return data.tobytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data.tobytes()[2:]

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("value", range(2, 9))
    def test_warns_and_keeps_the_pixels(self, order, value):
        data = self.jpeg(struct.pack(order + "HH", value, 0), order)
        with pytest.warns(UserWarning, match="EXIF orientation, which is ignored, as in Caffe"):
            assert load_image_bytes(data, "a.jpg").shape == (8, 12, 3)

    @pytest.mark.parametrize("data", [struct.pack("<HH", value, 0) for value in (0, 1, 9)] + [b""],
                             ids=["none", "upright", "no such", "cut off"])
    def test_upright_or_damaged_is_no_warning(self, data, recwarn):
        assert load_image_bytes(self.jpeg(data), "a.jpg").shape == (8, 12, 3)
        assert not recwarn
