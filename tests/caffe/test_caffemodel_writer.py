"""Caffemodels that we write: read back by our reader and by protobuf itself, whole or not there at all."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from harness import GOLDEN

from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.errors import FileError, NetError

FILES = sorted((GOLDEN / "layers").glob("*/weights.caffemodel"))
VALUES = np.arange(6, dtype=np.float32)
PROTOTXT = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
layer {
  name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 bias_term: false }
}
"""


def layer(*blobs: np.ndarray, name: str = "fc", legacy: bool = False) -> TrainedLayer:
    return TrainedLayer(name, "InnerProduct", tuple(StoredBlob(b.shape, b.reshape(-1), legacy) for b in blobs))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.parent.name)
def test_a_round_trip_keeps_every_bit(path: Path, tmp_path: Path):
    before = read_weights(path)
    write_caffemodel(tmp_path / "again.caffemodel", before)
    after = read_weights(tmp_path / "again.caffemodel")
    assert [(a.name, a.type) for a in after] == [(b.name, b.type) for b in before]
    for a, b in zip(after, before, strict=True):
        assert [(x.shape, x.legacy, x.data.dtype, x.data.tobytes()) for x in a.blobs] == \
            [(x.shape, x.legacy, x.data.dtype, x.data.tobytes()) for x in b.blobs]


class TestContents:
    @pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", ">f8"])
    def test_protobuf_reads_it(self, tmp_path: Path, dtype: str):
        values = np.array([[1.5, -2.25, 3.0], [0.0, -0.5, 1e-3]], dtype)
        write_caffemodel(tmp_path / "a.caffemodel", [layer(values)], name="net")
        net = caffe_pb2().NetParameter.FromString((tmp_path / "a.caffemodel").read_bytes())
        blob = net.layer[0].blobs[0]
        assert (net.name, net.layer[0].name, net.layer[0].type, list(blob.shape.dim)) == (
            "net", "fc", "InnerProduct", [2, 3])
        stored = {4: blob.data, 8: blob.double_data}.get(values.itemsize)
        stored = np.frombuffer(blob.raw_data, "<f2") if stored is None else np.array(stored)
        np.testing.assert_array_equal(stored.reshape(2, 3).astype(values.dtype), values)

    def test_with_the_whole_network_in_it(self, tmp_path: Path):
        net = parse_text(PROTOTXT)
        write_caffemodel(tmp_path / "a.caffemodel", [layer(VALUES.reshape(2, 3))], net)
        read = caffe_pb2().NetParameter.FromString((tmp_path / "a.caffemodel").read_bytes())
        assert [one.type for one in read.layer] == ["Input", "InnerProduct"]
        assert read.layer[1].inner_product_param.num_output == 2
        assert list(read.layer[1].bottom) == ["data"]
        assert list(read.layer[1].blobs[0].data) == VALUES.tolist()

    def test_a_transposed_array_is_written_as_it_reads(self, tmp_path: Path):
        values = VALUES.reshape(2, 3).T
        blob = StoredBlob(values.shape, values.reshape(-1))
        write_caffemodel(tmp_path / "a.caffemodel", [TrainedLayer("fc", "", (blob,))])
        assert read_weights(tmp_path / "a.caffemodel")[0].blobs[0].data.tolist() == [0, 3, 1, 4, 2, 5]

    def test_weights_are_not_copied(self, tmp_path: Path):
        values = np.zeros(4_000_000, np.float32)
        tracemalloc.start()
        write_caffemodel(tmp_path / "a.caffemodel", [layer(values)])
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()
        assert (tmp_path / "a.caffemodel").stat().st_size > values.nbytes


class TestErrors:
    def test_weights_of_a_layer_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(NetError, match="weights of conv9, which the network does not have"):
            write_caffemodel(tmp_path / "a.caffemodel", [layer(VALUES, name="conv9")], parse_text(PROTOTXT))
        assert not list(tmp_path.iterdir())

    def test_more_than_caffe_reads(self, tmp_path: Path):
        huge = np.lib.stride_tricks.as_strided(VALUES, (600_000_000,), (0,))
        with pytest.raises(FileError, match=r"would be 2\.2 GiB; Caffe reads files of up to 2 GiB"):
            write_caffemodel(tmp_path / "a.caffemodel", [layer(huge)])
        assert not list(tmp_path.iterdir())

    def test_a_blob_that_another_layer_owns(self, tmp_path: Path):
        with pytest.raises(NetError, match="fc: blob 0 is shared"):
            write_caffemodel(tmp_path / "a.caffemodel", [TrainedLayer("fc", "", (None,))])

    def test_integers(self, tmp_path: Path):
        with pytest.raises(NetError, match="a blob of int64"):
            write_caffemodel(tmp_path / "a.caffemodel", [layer(np.arange(3))])

    def test_a_folder_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(FileError, match=r"a\.caffemodel: there is no folder"):
            write_caffemodel(tmp_path / "none" / "a.caffemodel", [layer(VALUES)])
