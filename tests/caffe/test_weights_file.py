"""Caffemodels: every form that Caffe wrote, and files that are damaged or made to harm."""

import random
import struct
import time

import h5py
import numpy as np
import pytest
from google.protobuf import text_format
from harness import GOLDEN

from rmpe_legacy.caffe.proto.caffemodel import parse_weights, read_weights
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.proto.wire import varint
from rmpe_legacy.errors import FileError, RmpeError

NET = caffe_pb2().NetParameter
VALUES = np.array([1.5, -2.25, 3.0, 0.0, -0.5, 1e-3], np.float32)


def net(text: str) -> bytes:
    return text_format.Parse(text, NET()).SerializeToString()


def field(number: int, wire: int, body: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(body)) + body if wire == 2 else body)


def caffemodel(blob: bytes) -> bytes:
    """A V2 file with one layer "a" that has this one BlobProto."""
    return field(100, 2, field(1, 2, b"a") + field(7, 2, blob))


SHAPE = field(7, 2, field(1, 2, bytes([2, 3])))
PACKED = field(5, 2, VALUES.tobytes())


class TestForms:
    @pytest.mark.parametrize(("name", "blob", "dtype"), [
        ("packed floats", SHAPE + PACKED, np.float32),
        ("unpacked floats", SHAPE + b"".join(field(5, 5, struct.pack("<f", v)) for v in VALUES), np.float32),
        ("pieces of both", SHAPE + field(5, 2, VALUES[:2].tobytes())
         + b"".join(field(5, 5, struct.pack("<f", v)) for v in VALUES[2:]), np.float32),
        ("doubles", SHAPE + field(8, 2, VALUES.astype(np.float64).tobytes()), np.float64),
        ("unpacked doubles", SHAPE + b"".join(field(8, 1, struct.pack("<d", v)) for v in VALUES), np.float64),
        ("half precision", SHAPE + field(10, 0, b"\2") + field(12, 2, VALUES.astype(np.float16).tobytes()), np.float16),
        ("raw single precision", SHAPE + field(10, 0, b"\1") + field(12, 2, VALUES.tobytes()), np.float32),
        ("unpacked dimensions", field(7, 2, field(1, 0, b"\2") + field(1, 0, b"\3")) + PACKED, np.float32),
    ])
    def test_a_blob(self, name, blob, dtype):
        (layer,) = parse_weights(caffemodel(blob))
        assert layer.blobs[0].shape == (2, 3)
        assert layer.blobs[0].data.dtype == dtype
        np.testing.assert_array_equal(layer.blobs[0].data, VALUES.astype(dtype))

    def test_a_million_unpacked_floats_are_read_in_one_go(self):
        many = np.arange(1_000_003, dtype=np.float32)
        record = np.zeros(len(many), [("tag", "u1"), ("value", "<f4")])
        record["tag"], record["value"] = 5 << 3 | 5, many
        shape = field(7, 2, field(1, 2, varint(len(many))))
        (layer,) = parse_weights(caffemodel(shape + record.tobytes()))
        np.testing.assert_array_equal(layer.blobs[0].data, many)

    def test_old_dimensions_are_compared_from_the_end(self):
        old = b"".join(field(n, 0, bytes([d])) for n, d in ((1, 1), (2, 1), (3, 2), (4, 3)))
        blob = parse_weights(caffemodel(old + PACKED))[0].blobs[0]
        assert blob.fits((2, 3))
        assert blob.fits((1, 2, 3))
        assert not blob.fits((3, 2))
        assert not blob.fits((6,))

    def test_a_new_shape_must_be_equal(self):
        blob = parse_weights(caffemodel(SHAPE + PACKED))[0].blobs[0]
        assert blob.fits((2, 3))
        assert not blob.fits((1, 1, 2, 3))

    def test_packed_floats_are_views_of_the_file(self, tmp_path):
        (tmp_path / "x").write_bytes(caffemodel(SHAPE + PACKED))
        data = read_weights(tmp_path / "x")[0].blobs[0].data
        assert not data.flags.owndata
        assert not data.flags.writeable

    def test_hdf5_gives_what_the_caffemodel_gives(self):
        folder = GOLDEN / "layers" / "Net__hdf5_weights"
        theirs = read_weights(folder / "weights.caffemodel.h5")
        with h5py.File(folder / "weights.caffemodel.h5") as file:
            assert [layer.name for layer in theirs] == list(file["data"])
            for layer in theirs:
                for i, blob in enumerate(layer.blobs):
                    want = file["data"][layer.name][str(i)]
                    assert blob.shape == want.shape
                    np.testing.assert_array_equal(blob.data, want[()].ravel())


class TestHostile:
    @pytest.mark.parametrize(("name", "data", "words"), [
        ("empty", b"", "the file is empty"),
        ("text", b'layer { name: "a" }', "this is text"),
        ("zip", b"PK\x03\x04" + bytes(50), "zip archive"),
        ("html", b"<!DOCTYPE html>", "web page"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("nothing", field(1, 2, b"a net\0 without layers"), "contains no layers"),
        ("length beyond the end", field(100, 2, b"x" * 9)[:-3], "but only 6 are left"),
        ("length of 2^63", varint(100 << 3 | 2) + varint(1 << 63) + bytes(9), "are left"),
        ("group wire type", bytes([100 << 3 & 255 | 3]) + bytes(9), "wire type"),
        ("endless varint", b"\xff" * 20, "more than 64 bits"),
        ("values missing", caffemodel(SHAPE + field(5, 2, VALUES[:4].tobytes())), "shape 2 x 3 with 4 values"),
        ("dimensions of 2^40", caffemodel(field(7, 2, field(1, 2, varint(1 << 40) * 3)) + PACKED), "with 6 values"),
        ("negative dimension", caffemodel(field(7, 2, field(1, 2, varint(-1) + varint(-6))) + PACKED), "shape -1 x -6"),
        ("half of a float", caffemodel(SHAPE + field(5, 2, VALUES.tobytes()[:-1])), "not a multiple of 4"),
        ("half of a half", caffemodel(SHAPE + field(10, 0, b"\2") + field(12, 2, b"abc")), "not readable"),
    ])
    def test_a_sentence(self, tmp_path, name, data, words):
        (tmp_path / "x.caffemodel").write_bytes(data)
        with pytest.raises(FileError, match=r"x\.caffemodel: .*" + words):
            read_weights(tmp_path / "x.caffemodel")

    @pytest.mark.slow
    def test_differs_in_refusing_more_messages_than_a_network_has(self):
        layer = field(100, 2, field(1, 2, b"a") + field(7, 2, SHAPE + PACKED))
        assert len(parse_weights(layer * 20_000)) == 20_000  # with a blob and a shape each
        with pytest.raises(FileError, match="more than 65536 messages and unknown fields at byte"):
            parse_weights(layer * 22_000)

    @pytest.mark.parametrize(("name", "data"), [
        ("dimensions", caffemodel(field(7, 2, field(1, 2, b"\2" * 900_000)) + PACKED)),
        ("dimensions one by one", caffemodel(field(7, 2, field(1, 0, b"\2") * 400_000) + PACKED)),
        ("values in small pieces", caffemodel(field(5, 2, b"abcd") * 150_000)),
        ("single values between others", caffemodel((field(5, 5, b"abcd") + field(1, 0, b"\1")) * 140_000)),
        ("empty pieces", caffemodel(field(5, 2, b"") * 450_000)),
        ("shapes that merge", caffemodel(field(7, 2, b"") * 450_000)),
        ("names that replace each other", field(100, 2, field(1, 2, b"a") * 300_000 + field(7, 2, b""))),
        ("numbers that nobody wants", field(20, 0, b"\1") * 300_000 + caffemodel(b"")),
        ("empty layers", field(100, 2, b"") * 300_000), ("empty blobs", field(100, 2, field(7, 2, b"") * 450_000)),
    ])
    @pytest.mark.slow
    def test_a_megabyte_of_it_takes_no_time(self, name, data):
        began = time.process_time()
        with pytest.raises(FileError):
            parse_weights(data)
        assert time.process_time() - began < 2

    def test_values_in_pieces_are_joined_in_order(self):
        pieces = b"".join(field(5, 2, VALUES[i : i + 1].tobytes()) for i in range(3)) + field(5, 2, b"")
        pieces += b"".join(field(5, 5, VALUES[i : i + 1].tobytes()) for i in range(3, 6))
        (layer,) = parse_weights(caffemodel(SHAPE + pieces))
        np.testing.assert_array_equal(layer.blobs[0].data, VALUES)

    def test_a_tower_of_messages_is_no_recursion(self):
        tower = b""
        for _ in range(2000):
            tower = field(2, 2, tower)
        assert parse_weights(tower)[0].blobs == ()

    def test_cut_anywhere(self):
        data = (GOLDEN / "layers" / "Net__v1_double_blobs" / "weights.caffemodel").read_bytes()
        for end in range(1, len(data), 7):
            try:
                parse_weights(data[:end])
            except RmpeError:
                continue

    @pytest.mark.slow
    def test_any_byte_changed(self):
        rng = random.Random(1701)
        for name in ("Net__v2_legacy_blobs", "Net__v0_prototxt_v0_caffemodel", "LSTM__static"):
            data = (GOLDEN / "layers" / name / "weights.caffemodel").read_bytes()
            for _ in range(1500):
                mutant = bytearray(data)
                for _ in range(rng.randint(1, 4)):
                    mutant[rng.randrange(min(len(mutant), 400))] = rng.randrange(256)
                try:
                    parse_weights(bytes(mutant))
                except RmpeError:
                    continue


class TestHostileHdf5:
    def write(self, path, **links):
        with h5py.File(path, "w") as file:
            layer = file.create_group("data").create_group("a")
            for name, value in links.items():
                layer[name.strip("_")] = value
        return path

    def test_links_out_of_the_file(self, tmp_path):
        secret = self.write(tmp_path / "secret.h5", _0=np.ones(3))
        for link in (h5py.ExternalLink(str(secret), "/data/a/0"), h5py.SoftLink("/data/b")):
            with pytest.raises(FileError, match="a link to elsewhere"):
                read_weights(self.write(tmp_path / "x.h5", _0=link))

    def test_values_in_another_file(self, tmp_path):
        (tmp_path / "raw").write_bytes(bytes(80))
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_group("data").create_group("a").create_dataset(
                "0", (10,), "f8", external=[(str(tmp_path / "raw"), 0, 80)])
        with pytest.raises(FileError, match="its values are in another file"):
            read_weights(tmp_path / "x.h5")

    def test_a_claim_of_a_terabyte(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file.create_group("data").create_group("a").create_dataset("0", (1 << 38,), "f4", chunks=(1 << 20,))
        with pytest.raises(FileError, match="claims 1099511627776 bytes, too much for a file"):
            read_weights(tmp_path / "x.h5")

    def test_other_contents(self, tmp_path):
        with pytest.raises(FileError, match="numbers are expected"):
            read_weights(self.write(tmp_path / "x.h5", weight=np.ones(3)))
        with pytest.raises(FileError, match="not floating-point"):
            read_weights(self.write(tmp_path / "y.h5", _0=np.ones(3, np.int32)))
        with h5py.File(tmp_path / "z.h5", "w") as file:
            file["x"] = 1
        with pytest.raises(FileError, match="without the group 'data'"):
            read_weights(tmp_path / "z.h5")

    def test_truncated(self, tmp_path):
        data = (GOLDEN / "layers" / "Net__hdf5_weights" / "weights.caffemodel.h5").read_bytes()
        (tmp_path / "x.h5").write_bytes(data[: len(data) // 2])
        with pytest.raises(FileError, match="not a readable HDF5 file"):
            read_weights(tmp_path / "x.h5")
