"""``rmpe forward``: arrays and images in, an .npz out, and every mistake one sentence that leaves nothing behind."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from harness import GOLDEN

from rmpe_legacy.caffe.data.image import detector_input, load_image, pose_input
from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.cli import main

RESIDUAL = GOLDEN / "layers" / "Net__residual"
CAFFES = (RESIDUAL / "net.prototxt", RESIDUAL / "weights.caffemodel")
PICTURE = GOLDEN / "io" / "load_image" / "jpeg_exif6.jpg"
INPUTS = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 11 } } }
layer { name: "more" type: "Input" top: "flat" input_param { shape { dim: 5 } } }
layer { name: "twice" type: "Power" bottom: "x" top: "file" power_param { scale: 2 } }
layer { name: "half" type: "Power" bottom: "flat" top: "half" power_param { scale: 0.5 } }
layer { name: "same" type: "Split" bottom: "file" top: "a" top: "b" }
"""


@pytest.fixture
def rmpe(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(INPUTS)
    np.save("x.npy", np.random.default_rng(1).random((1, 3, 9, 11), np.float32))
    np.save("flat.npy", np.arange(5))

    def run(*argv) -> tuple[int, str, str]:
        code = main(["forward", *(str(a) for a in argv)])
        return (code, *capsys.readouterr())

    return run


def written(path="blobs.npz") -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(RESIDUAL / "case.npz"))


class TestRun:
    @pytest.mark.filterwarnings("default:the weights file has nothing")
    def test_weights_of_another_network_need_lenient(self, rmpe):
        """Caffe would compute with random numbers."""
        Path("one.prototxt").write_text(
            'layer { name: "i" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }\n'
            'layer { name: "elsewhere" type: "InnerProduct" bottom: "data" top: "y" '
            'inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }')
        np.save("in.npy", np.ones((1, 3, 4, 4), np.float32))
        given = ("one.prototxt", CAFFES[1], "--input", "data=in.npy")
        code, out, err = rmpe(*given)
        assert (code, out) == (1, "")
        assert "no weights for elsewhere, whose parameters would be random; give the weights of this network" in err
        assert not Path("blobs.npz").exists()
        assert rmpe(*given, "--lenient")[0] == 0
        assert written()["y"].shape == (1, 2)

    def test_writes_the_outputs_that_caffe_gave(self, rmpe, golden):
        np.save("in.npy", golden["in_data"])
        code, out, err = rmpe(*CAFFES, "--input", "data=in.npy")
        assert (code, err) == (0, "")
        got = written()
        assert list(got) == ["sum2"]
        assert got["sum2"].dtype == np.float32
        np.testing.assert_allclose(got["sum2"], golden["blob_sum2"], rtol=2e-6, atol=1e-6)
        assert out.splitlines() == [f"{'sum2':<24} (1, 4, 5, 5)", "written to blobs.npz"]

    def test_blobs_by_name_and_all(self, rmpe, golden):
        np.savez("in.npz", other=np.zeros(3), data=golden["in_data"])
        run = (*CAFFES, "--input", "data=in.npz", "--output", "o.npz", "--blobs")
        assert rmpe(*run, "sum,c1,sum")[0] == 0
        assert list(written("o.npz")) == ["sum", "c1"]
        assert rmpe(*run, "all")[0] == 0
        got = written("o.npz")
        assert list(got) == ["data", "c1", "c2", "sum", "c3", "sum2"]  # not the copies of Split layers
        for name, value in got.items():
            np.testing.assert_allclose(value, golden[f"blob_{name}"], rtol=2e-6, atol=1e-6)

    def test_kinds_of_arrays(self, rmpe):
        x = np.load("x.npy")
        np.save("big_endian.npy", np.asfortranarray(x.astype(">f8")))
        np.savez_compressed("single.npz", whatever=x)
        for file in ("x.npy", "big_endian.npy", "single.npz"):
            assert rmpe("net.prototxt", "--input", f"x={file}", "--input", "flat=flat.npy", "--blobs", "file,half") == \
                (0, f"{'file':<24} (1, 3, 9, 11)\n{'half':<24} (5,)\nwritten to blobs.npz\n", "")
            got = written()
            np.testing.assert_array_equal(got["file"], 2 * x)
            np.testing.assert_array_equal(got["half"], np.arange(5, dtype=np.float32) / 2)

    def test_a_single_value_stays_one(self, rmpe):
        Path("one.prototxt").write_text('layer { name: "i" type: "Input" top: "i" input_param { shape { } } }')
        np.save("one.npy", 7)
        assert rmpe("one.prototxt", "--input", "i=one.npy")[0] == 0
        assert written()["i"].shape == ()
        assert written()["i"] == 7

    @pytest.mark.filterwarnings("ignore:a photo has an EXIF orientation")
    @pytest.mark.parametrize(("options", "recipe"), [
        ((), pose_input), (("--image", "pose"), pose_input), (("--image", "detector"), detector_input)])
    def test_a_picture_takes_the_size_of_the_prototxt(self, rmpe, options, recipe):
        code, _, err = rmpe("net.prototxt", "--input", f"x={PICTURE}", "--input", "flat=flat.npy", "--blobs", "x",
                            *options)
        assert code == 0
        assert "pixels, resized to 11 x 9; " in err
        np.testing.assert_array_equal(written()["x"], recipe(load_image(PICTURE), 9, 11)[None])

    def test_an_older_file_is_replaced_and_nothing_else_left(self, rmpe, tmp_path):
        np.savez("blobs.npz", old=np.zeros(2))
        before = {path.name for path in tmp_path.iterdir()}
        assert rmpe("net.prototxt", "--input", "x=x.npy", "--input", "flat=flat.npy")[0] == 0
        assert {path.name for path in tmp_path.iterdir()} == before
        assert list(written()) == ["a", "b", "half"]

    def test_a_file_of_another_kind_is_not_replaced(self, rmpe):
        Path("notes.txt").write_text("mine")
        code, _, err = rmpe("net.prototxt", "--input", "x=x.npy", "--input", "flat=flat.npy", "--output", "notes.txt")
        assert (code, err) == (1, "rmpe: notes.txt: is there already and holds text, not an .npz of arrays; give "
                                  "another name, or remove it first\n")
        assert Path("notes.txt").read_text() == "mine"

    @pytest.mark.usefixtures("rmpe")
    def test_a_dash_is_standard_output(self):
        done = subprocess.run([sys.executable, "-m", "rmpe_legacy", "forward", "net.prototxt", "--input", "x=x.npy",
                               "--input", "flat=flat.npy", "--output", "-"], capture_output=True, check=True)
        assert list(np.load(io.BytesIO(done.stdout))) == ["a", "b", "half"]
        assert b"written to -" in done.stderr

    def test_a_network_that_needs_no_input(self, rmpe):
        Path("ones.py").write_text("import torch\nfrom rmpe_legacy import Layer, register\n"
                                   "@register('Ones')\nclass Ones(Layer):\n    bottoms = 0\n"
                                   "    def reshape(self):\n        return [(2, 3)]\n"
                                   "    def forward(self):\n        return torch.ones(2, 3)\n")
        Path("own.prototxt").write_text('layer { name: "ones" type: "Ones" top: "ones" }')
        try:
            assert rmpe("own.prototxt", "--plugin", "ones.py")[0] == 0
        finally:
            registry._LAYERS.pop("Ones", None)
        np.testing.assert_array_equal(written()["ones"], np.ones((2, 3), np.float32))


def bad_files() -> None:
    """Files that are no input."""
    Path("text.npy").write_text("1 2 3")
    Path("text.npz").write_text("1 2 3")
    Path("empty.npy").touch()
    Path("x.txt").write_text("1 2 3")
    Path("cut.npy").write_bytes(Path("x.npy").read_bytes()[:300])
    np.save("words.npy", np.array(["a", "b"]))
    np.save("large.npy", np.full((2, 3, 9, 11), 1e39))
    np.save("none.npy", np.zeros((1, 3, 0, 11)))
    np.save("wide.npy", np.zeros((3, 9, 11)))
    np.savez("two.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez("object.npz", x=np.array([{}], object))
    Path("pickle.npy").write_bytes(pickle.dumps([1, 2]))
    with zipfile.ZipFile("other.npz", "w") as archive:
        archive.writestr("x", "no array")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3, 99999999999, 11)}\n"
    Path("claims.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)


class TestMistakes:
    @pytest.mark.parametrize(("input", "words"), [
        ("x", "input 'x' is not of the form NAME=FILE; the inputs are 'x', 'flat'"),
        ("=x.npy", "input '=x.npy' is not of the form NAME=FILE"),
        ("x=", "input 'x=' is not of the form NAME=FILE"),
        ("flatt=x.npy", "no input 'flatt'; did you mean 'flat'?; the inputs are 'x', 'flat'"),
        ("file=x.npy", "no input 'file'"),
        ("flat=flat.npy", "input 'flat' is given twice; give it once"),
        ("x=no.npy", "no.npy: No such file or directory"),
        ("x=.", ".: Is a directory"),
        ("x=text.npy", "text.npy: not an array that can be read ("),
        ("x=text.npz", "text.npz: not an array that can be read ("),
        ("x=empty.npy", "empty.npy: not an array that can be read ("),
        ("x=cut.npy", "cut.npy: not an array that can be read ("),
        ("x=claims.npy", "claims.npy: not an array that can be read ("),
        ("x=pickle.npy", "pickle.npy: not an array that can be read ("),
        ("x=object.npz", "object.npz: x: holds values other than numbers and text"),
        ("x=other.npz", "other.npz: x: not an array that can be read ("),
        ("x=words.npy", "words.npy: holds <U1 values; an input needs an array of numbers"),
        ("x=two.npz", "two.npz: holds 'a', 'b', but no 'x'; rename one"),
        ("x=none.npy", "none.npy: its array is 1 x 3 x 0 x 11; input 'x' is 2 x 3 x 9 x 11, and needs the same"),
        ("x=large.npy", "large.npy: holds values beyond 3.4e+38, the largest number of single precision"),
        ("x=wide.npy", "wide.npy: its array is 3 x 9 x 11; input 'x' is 2 x 3 x 9 x 11, and needs the same"),
        ("x=x.txt", "x.txt: not a readable image"),
        ("x=no.jpg", "no.jpg: No such file or directory"),
    ])
    def test_in_an_input(self, rmpe, input, words):
        bad_files()
        self.is_one_sentence(rmpe("net.prototxt", "--input", "flat=flat.npy", "--input", input), words)

    def test_a_picture_for_an_input_that_is_none(self, rmpe):
        self.is_one_sentence(rmpe("net.prototxt", "--input", "x=x.npy", "--input", f"flat={PICTURE}"),
                             "an image needs an input of N x 3 x height x width; 'flat' is 5. Give a .npy or .npz")

    def test_an_input_that_would_be_replaced(self, rmpe):
        np.savez("in.npz", x=np.zeros((2, 3, 9, 11)))
        before = Path("in.npz").read_bytes()
        self.is_one_sentence(rmpe("net.prototxt", "--input", "flat=flat.npy", "--input", "x=in.npz", "--output",
                                  "./in.npz"), "./in.npz: is an input, which the blobs would replace")
        assert Path("in.npz").read_bytes() == before

    def test_an_input_that_is_missing(self, rmpe):
        self.is_one_sentence(rmpe("net.prototxt", "--input", "x=x.npy"), "no value for input 'flat'; give each with "
                             "--input NAME=FILE")

    def test_a_shape_that_a_layer_refuses(self, rmpe):
        np.save("in.npy", np.zeros((1, 5, 9, 9)))
        self.is_one_sentence(rmpe(*CAFFES, "--input", "data=in.npy"),
                             "c1 (Convolution): ")

    @pytest.mark.parametrize(("options", "words"), [
        (("--blobs", "a,filee"), "no blob 'filee'; did you mean 'file'?; `rmpe show` lists them under top"),
        (("--blobs", ""), "no blob ''; `rmpe show` lists them"),
        (("--output", "no/blobs.npz"), "no/blobs.npz: there is no folder no; make it first"),
        (("--output", "."), ".: is a folder; give the name of a file in it"),
        (("--device", "abacus"), "device 'abacus' cannot be used: PyTorch knows no such device; --device cpu always"),
        (("--device", "meta"), "device 'meta' cannot be used: "),
    ])
    def test_in_an_option(self, rmpe, options, words):
        self.is_one_sentence(rmpe("net.prototxt", "--input", "x=x.npy", "--input", "flat=flat.npy", *options), words,
                             2 if options[0] == "--device" else 1)

    def test_a_failure_while_writing_keeps_the_older_file(self, rmpe, tmp_path, monkeypatch):
        def full(*_args, **_options):
            raise OSError(28, "No space left on device")

        Path("blobs.npz").write_text("old")
        monkeypatch.setattr(np.lib.format, "write_array", full)
        before = {path.name for path in tmp_path.iterdir()}
        self.is_one_sentence(rmpe("net.prototxt", "--input", "x=x.npy", "--input", "flat=flat.npy"),
                             "blobs.npz: cannot be written: No space left on device")
        assert Path("blobs.npz").read_text() == "old"
        assert {path.name for path in tmp_path.iterdir()} == before

    @staticmethod
    def is_one_sentence(result: tuple[int, str, str], words: str, exit_code: int = 1):
        code, out, err = result
        assert code == exit_code
        assert out == ""
        assert err.startswith("rmpe: ")
        assert words in err
        assert err.count("\n") == 1
