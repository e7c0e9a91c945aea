"""Arrays from .npy and .npz files: what numpy wrote comes out as numpy reads it; damage ends in a sentence."""

import io
import random
import struct
import zipfile

import numpy as np
import pytest

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.readers.npy import Npz, OtherArrayError, read_npy

ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array(3.5), np.zeros((0, 5)), np.arange(3, dtype=">i2"),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([True, False]), np.array([1, 2], np.float16),
    np.array(["text", "größe"]), np.arange(2, dtype=np.uint64), np.arange(5)[:, None],
]


def npy(header: str, values: bytes = bytes(64), version: int = 1) -> bytes:
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header.encode() + values


def shaped(shape: str) -> bytes:
    return npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}")


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.name} {a.shape}")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes(tmp_path, array, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version)
    ours = read_npy(tmp_path / "a.npy")
    assert ours.dtype == array.dtype
    np.testing.assert_array_equal(ours, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(tmp_path, save):
    save(tmp_path / "a.npz", **{f"x{i}": array for i, array in enumerate(ARRAYS)})
    stored = Npz(tmp_path / "a.npz")
    assert stored.names == [f"x{i}" for i in range(len(ARRAYS))]
    for name, array in zip(stored.names, ARRAYS, strict=True):
        np.testing.assert_array_equal(Npz(tmp_path / "a.npz").read(name), array)
    assert list(stored.numbers()) == [f"x{i}" for i, array in enumerate(ARRAYS) if array.dtype.kind != "U"]


@pytest.mark.parametrize("header", [
    '{"shape": (2, 3), "fortran_order": False, "descr": "<f4"}',
    "{'descr':'<f4','fortran_order':False,'shape':(2L,3L)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }                  \n",
])
def test_headers_of_other_writers(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(npy(header, np.arange(6, dtype="<f4").tobytes()))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), np.arange(6).reshape(2, 3))


HOSTILE = {
    "empty": (b"", "it is empty"),
    "text": (b"1 2 3 4 5 6 7", "it does not start like a NumPy file"),
    "long header": (npy("x" * 20000), "a header of 20000 bytes"),
    "header beyond the end": (b"\x93NUMPY\1\0\xff\xff", "a header of 65535 bytes"),
    "code": (npy("__import__('os').system('true')"), "does not give type, order and shape"),
    "nested brackets": (npy("(" * 9000), "does not give type, order and shape"),
    "two shapes": (shaped("1,), 'shape': (2,"), "once each"),
    "negative": (shaped("-1,"), "does not give"),
    "huge": (shaped("99999999999,"), "64 bytes for its values"),
    "huge and empty": (shaped(f"0, {1 << 62}, {1 << 62}"), "a shape of"),
    "40 dimensions": (shaped(f"{'1, ' * 40}"), "a shape of"),
    "a number of 5000 digits": (shaped(f"{'9' * 5000},"), "a shape"),
    "two numbers in one place": (shaped("1 2,"), "a shape of"),
    "objects": (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "values other than numbers"),
    "records": (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"), "values other than numbers"),
    "floats of 3 bytes": (npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}"), "values other than numbers"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damage_is_a_sentence(tmp_path, name):
    data, words = HOSTILE[name]
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(FileError, match=r"a\.npy: .*" + words) as caught:
        read_npy(tmp_path / "a.npy")
    assert len(str(caught.value)) < 400
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    with pytest.raises(FileError, match=r"a\.npz: x: .*" + words):
        Npz(tmp_path / "a.npz").read("x")


def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive, \
            archive.open("x.npy", "w") as member:
        member.write(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (16777216,)}", b""))
        for _ in range(64):
            member.write(bytes(1 << 20))
    with pytest.raises(FileError, match=r"x claims 671\d+ bytes, too much for a file of \d+ bytes"):
        Npz(tmp_path / "a.npz").read("x")


def test_an_archive_that_understates_what_it_holds(tmp_path):
    """zipfile would unpack all of it, and throw away what is too much."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(50_000_000, np.uint8))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    for at in (data.index(b"PK\1\2") + 24, 22):
        data[at : at + 4] = struct.pack("<I", 100)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(FileError):
        Npz(tmp_path / "a.npz").read("x")


def test_other_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}"))
    with pytest.raises(FileError, match="compressed in a way that numpy does not use"):
        Npz(tmp_path / "a.npz").numbers()


def test_text_is_left_out_and_objects_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", o=np.array([{}], object), x=np.ones(2))
    stored = Npz(tmp_path / "a.npz")
    assert list(stored.numbers()) == ["x"]
    with pytest.raises(OtherArrayError, match=r"a\.npz: o: holds values other"):
        stored.read("o")


def test_any_byte_changed(tmp_path):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.arange(50.0), y=np.zeros((3, 4), np.float32))
    rng, outcomes = random.Random(1701), set()
    for _ in range(2000):
        mutant = bytearray(buffer.getvalue())
        for _ in range(rng.randint(1, 3)):
            mutant[rng.randrange(len(mutant))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        (tmp_path / "a.npz").write_bytes(mutant)
        try:
            Npz(tmp_path / "a.npz").numbers()
            outcomes.add("read")
        except RmpeError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
