"""MATLAB files: everything that scipy writes or reads, both byte orders, and files that are damaged or made to harm."""

import random
import struct
import zlib

import numpy as np
import pytest
from shared import shared

from rmpe_legacy.errors import FileError
from rmpe_legacy.evaluation.matfile import UNREAD, Cell, Struct, parse_mat, read_mat

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def element(kind: int, body: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


def matrix(kind: int, shape: tuple[int, ...], body: bytes, name: bytes = b"", order: str = "<") -> bytes:
    """A matrix element of one of Matlab's classes, as its format has it."""
    return element(14, element(6, struct.pack(order + "II", kind, 0), order)
                   + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
                   + element(1, name, order) + body, order)


def mat(path, *elements: bytes, header: bytes = HEADER):
    path.write_bytes(header + b"".join(elements))
    return path


def same(ours, theirs):
    """Whether our value is what scipy read."""
    if isinstance(ours, Struct):
        assert (ours.shape, ours.fields) == (theirs.shape, theirs.dtype.names or ())
        for item, element in zip(ours.items, theirs.reshape(-1, order="F"), strict=True):
            for field, value in zip(ours.fields, item, strict=True):
                same(value, element[field])
    elif isinstance(ours, Cell):
        assert ours.shape == theirs.shape
        for item, element in zip(ours.items, theirs.reshape(-1, order="F"), strict=True):
            same(item, element)
    elif isinstance(ours, str | list):
        assert ours == (theirs.tolist() if isinstance(ours, list) else theirs.item() if theirs.size else "")
    elif isinstance(ours, float):
        assert theirs.shape == (1, 1)
        np.testing.assert_equal(ours, theirs.item())
    elif ours.shape != (0, 0) or theirs.shape != (1, 0):  # a value of no bytes is [] in Matlab, [[]] to scipy
        assert ours.dtype == np.float64
        np.testing.assert_array_equal(ours, theirs)


VARIABLES = {
    "double": np.array([[1.5, -2.25, np.nan], [np.inf, 0, 1e300]]),
    "scalar": 7.25,
    "whole": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "bytes": np.arange(5, dtype=np.uint8),
    "long": np.array([[2**40, -3]]),
    "single": np.float32([[0.1, 0.2]]),
    "yes": np.array([[True, False]]),
    "text": "wörd",
    "none": "",
    "rows": np.array(["abc", "de "]),
    "empty": np.zeros((0, 3)),
    "nothing": np.zeros((0, 0)),
    "record": {"x": 1.0, "y": np.uint16(300), "name": "a.jpg", "deep": {"inner": np.arange(3.0)}},
    "records": np.array([[(1.0, "p"), (2.0, "")]], [("id", object), ("label", object)]),
    "cell": np.array([[1.0, "two", np.arange(4.0).reshape(2, 2)]], object),
}


class TestWhatScipyWrites:
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("name", VARIABLES)
    def test_reads_back(self, name, compressed, tmp_path):
        scipy_io = pytest.importorskip("scipy.io")
        scipy_io.savemat(tmp_path / "a.mat", {name: VARIABLES[name]}, do_compression=compressed)
        same(read_mat(tmp_path / "a.mat")[name], scipy_io.loadmat(tmp_path / "a.mat")[name])

    def test_all_in_one_file_in_its_order(self, tmp_path):
        scipy_io = pytest.importorskip("scipy.io")
        scipy_io.savemat(tmp_path / "a.mat", VARIABLES)
        assert list(read_mat(tmp_path / "a.mat")) == list(VARIABLES)

    def test_what_is_not_read_says_so(self, tmp_path):
        scipy_io = pytest.importorskip("scipy.io")
        sparse = pytest.importorskip("scipy.sparse")
        scipy_io.savemat(tmp_path / "a.mat", {"c": np.array([[1 + 2j, 3]]), "s": sparse.csc_matrix([[0, 1.0]]), "n": 4})
        assert read_mat(tmp_path / "a.mat") == {"c": UNREAD, "s": UNREAD, "n": 4.0}


@pytest.mark.parametrize("name", ["mpi_val_groundtruth.mat", "pred_keypoints_mpii_multi.mat", "predictions.mat",
                                  "groups_v12.mat"])
def test_files_of_others_as_scipy_reads_them(name):
    scipy_io = pytest.importorskip("scipy.io")
    path = shared("mpii_multi", name)
    theirs = scipy_io.loadmat(path)
    for variable, value in read_mat(path).items():
        same(value, theirs[variable])


@pytest.mark.parametrize(("order", "header"), [("<", HEADER), (">", HEADER[:124] + b"\x01\x00MI")])
class TestByteOrder:
    def test_numbers_in_long_and_short_form(self, order, header, tmp_path):
        short = struct.pack(order + "I", 2 << 16 | 4) + struct.pack(order + "Hxx", 513)
        path = mat(tmp_path / "a.mat",
                   matrix(6, (1, 1), element(9, struct.pack(order + "d", 0.5), order), b"half", order),
                   matrix(6, (1, 1), short, b"short", order),
                   matrix(10, (2, 1), element(3, struct.pack(order + "2h", -1, 258), order), b"pair", order),
                   header=header)
        found = read_mat(path)
        assert (found["half"], found["short"]) == (0.5, 513)
        np.testing.assert_array_equal(found["pair"], [[-1], [258]])

    def test_numbers_in_a_cell(self, order, header, tmp_path):
        values = [matrix(6, (1, 1), element(9, struct.pack(order + "d", 2.5), order), order=order),
                  matrix(6, (1, 1), struct.pack(order + "I", 1 << 16 | 1) + struct.pack("bxxx", -3), order=order),
                  matrix(6, (0, 0), element(9, b"", order), order=order),
                  element(14, b"", order)]
        path = mat(tmp_path / "a.mat", matrix(1, (4, 1), b"".join(values), b"c", order), header=header)
        a, b, c, d = read_mat(path)["c"].items
        assert (a, b, c.shape, d.shape) == (2.5, -3, (0, 0), (0, 0))


class TestHarm:
    @pytest.mark.parametrize(("content", "sentence"), [
        (b"", "not a MATLAB 5 file"),
        (b"MATLAB 7.3 MAT-file".ljust(512), "a MATLAB 7.3 file; save it with -v7"),
        (b"# Created by Octave 7.3".ljust(512), "an Octave text file"),
        (HEADER + b"\x0e\0\0\0", "ends in the middle of a value"),
        (HEADER + struct.pack("<II", 14, 1 << 31), "a value of 2147483648 bytes"),
        (HEADER + element(15, b"not deflate"), "damaged MATLAB file: Error -3"),
        (HEADER + matrix(6, (1 << 15, 1 << 15), element(9, bytes(16))), "2 numbers for a matrix of"),
        (HEADER + matrix(6, (1, -1), element(9, b"")), r"dimensions \(1, -1\)"),
        (HEADER + matrix(1, (1 << 20, 1 << 10), bytes(64)), "1073741824 values in 64 bytes"),
        (HEADER + matrix(2, (1 << 20, 1 << 10), element(5, struct.pack("<i", 4)) + element(1, b"a\0\0\0")),
         "1073741824 values in 0 bytes"),
        (HEADER + matrix(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b"")), "no field names"),
        (HEADER + matrix(6, (1, 1), element(14, bytes(8))), "numbers of unknown type 14"),
    ])
    def test_is_a_sentence(self, content, sentence, tmp_path):
        path = tmp_path / "a.mat"
        path.write_bytes(content)
        with pytest.raises(FileError, match=sentence):
            read_mat(path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileError, match="No such file"):
            read_mat(tmp_path / "a.mat")

    def test_cells_in_cells_without_end(self, tmp_path):
        deep = b""
        for _ in range(2000):
            deep = matrix(1, (1, 1), deep)
        with pytest.raises(FileError, match="more than 32 nested cells or structs"):
            read_mat(mat(tmp_path / "a.mat", deep))

    @pytest.mark.parametrize(("kind", "size"), [(9, 48 << 20), (2, 5 << 20)])
    def test_a_small_file_that_unpacks_to_a_big_one(self, tmp_path, kind, size):
        """Numbers of 8 bytes, and of one, each of which becomes a double."""
        count = size // (8 if kind == 9 else 1)
        bomb = zlib.compress(matrix(6, (count, 1), element(kind, bytes(size)), b"a"))
        with pytest.raises(FileError, match=r"holds more than 3\d MB, too much for a file of its size"):
            read_mat(mat(tmp_path / "a.mat", struct.pack("<II", 15, len(bomb)) + bomb))

    def test_more_matrices_than_a_small_file_has(self, tmp_path):
        """A cell of text each, which takes ten times as long to read as a number."""
        bomb = zlib.compress(matrix(1, (200_000, 1), matrix(4, (1, 1), element(4, b"a\0")) * 200_000, b"a"))
        with pytest.raises(FileError, match="holds more cells, structs and matrices than a file of its size"):
            read_mat(mat(tmp_path / "a.mat", struct.pack("<II", 15, len(bomb)) + bomb))

    @pytest.mark.parametrize("matlab_class", [1, 2, 4, 6])
    @pytest.mark.parametrize(("shape", "sentence"), [
        ((1,) * 33, "33 dimensions, more than 32"), ((2,) * 100_000, "100000 dimensions, more than 32"),
        ((0, 2**31 - 1, 2**31 - 1), r"dimensions \(0, 2147483647, 2147483647\)"),
        ((2**31 - 1,) * 32, r"dimensions \(2147483647, "),
    ])
    def test_dimensions(self, tmp_path, matlab_class, shape, sentence):
        with pytest.raises(FileError, match=sentence):
            read_mat(mat(tmp_path / "a.mat", matrix(matlab_class, shape, element(9, b""))))

    def test_damage_anywhere_is_a_sentence_or_harmless(self):
        values = [matrix(6, (1, 1), element(9, struct.pack("<d", i))) for i in range(3)]
        values.append(matrix(4, (1, 2), element(4, b"a\0b\0")))
        inner = matrix(2, (1, 2), element(5, struct.pack("<i", 4)) + element(1, b"x\0\0\0yy\0\0") + b"".join(values))
        whole = matrix(1, (1, 2), inner + matrix(6, (2, 2), element(2, b"abcd")), b"v")
        rng = random.Random(7)
        for case in range(3000):
            bad = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                bad[rng.randrange(len(bad))] = rng.choice([0, 1, 14, 15, 127, 255, rng.randrange(256)])
            content = bytes(bad[: rng.randrange(len(bad))] if case % 4 == 0 else bad)
            if case % 3 == 0:
                packed = zlib.compress(content)
                content = struct.pack("<II", 15, len(packed)) + packed
            try:
                parse_mat(HEADER + content)
            except FileError:
                continue
