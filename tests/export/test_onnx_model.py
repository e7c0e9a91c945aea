"""ONNX files whose weights are neither written nor read by way of a copy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from rmpe_legacy import load_net
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.errors import FileError
from rmpe_legacy.export import onnx_model
from rmpe_legacy.export.onnx import light_onnx, to_onnx
from rmpe_legacy.export.onnx_graph import as_stored, same_bits
from rmpe_legacy.export.onnx_model import OnnxModel, read_light
from rmpe_legacy.formats.base import NetRunner
from rmpe_legacy.formats.onnx import OnnxRunner

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 9, 8] } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 5 kernel_size: 3
  weight_filler { type: "msra" } bias_filler { type: "uniform" } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 7
  weight_filler { type: "msra" } } }
layer { name: "p" type: "Softmax" bottom: "f" top: "p" }"""


@pytest.fixture
def net(tmp_path: Path) -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    return load_net(path, keep_blobs=True)


def test_weights_are_the_networks_own(net):
    model, _ = light_onnx(net)
    assert not model.light.graph.initializer
    assert np.shares_memory(model.weights["f.weight"], net.state_dict()["f.weight"].numpy())


def test_what_is_written_is_the_whole_model(net, tmp_path):
    model, _ = light_onnx(net)
    model.write(tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx") == model.whole() == to_onnx(net)[0]


def test_constants_of_any_type_and_size(tmp_path):
    values = {"one": np.array(3, np.int64), "none": np.empty((0, 4), np.float32), "yes": np.array([True, False]),
              "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T, "big": np.array([1, 2], ">f4")}
    model = OnnxModel(onnx.ModelProto(ir_version=8), {name: as_stored(value) for name, value in values.items()})
    model.write(tmp_path / "net.onnx")
    read = {each.name: numpy_helper.to_array(each) for each in onnx.load(tmp_path / "net.onnx").graph.initializer}
    for name, value in values.items():
        assert read[name].shape == value.shape
        np.testing.assert_array_equal(read[name], value)


def test_equal_values_of_another_type_or_sign_are_others():
    zero = np.zeros(2, np.float32)
    assert same_bits(zero, zero.copy())
    assert not same_bits(zero, -zero)
    assert not same_bits(zero, zero.astype(np.int32))
    assert not same_bits(zero, zero.reshape(2, 1))
    assert same_bits(zero * np.nan, zero * np.nan)


@pytest.mark.parametrize("least", [0, 200, 1 << 16])
def test_a_file_of_which_weights_stay_where_they_are(net, tmp_path, monkeypatch, least):
    monkeypatch.setattr(onnx_model, "IN_FILE", least)
    path = tmp_path / "a net.onnx"
    light_onnx(net)[0].write(path)
    left = {each.name for each in read_light(path).graph.initializer if each.data_location == each.EXTERNAL}
    assert {0: {"c.weight", "c.bias", "f.weight", "f.bias"}, 200: {"c.weight", "f.weight"}}.get(least, set()) <= left
    assert verify(NetRunner(net, "net"), OnnxRunner(path, "onnx")).same


def test_a_link_to_a_file_elsewhere(net, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "IN_FILE", 0)
    (tmp_path / "far").mkdir()
    light_onnx(net)[0].write(tmp_path / "far" / "net.onnx")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "far" / "net.onnx")
    assert verify(NetRunner(net, "net"), OnnxRunner(tmp_path / "link.onnx", "onnx")).same


@pytest.mark.parametrize("name", [b"\xff.onnx", "\u00fc b%c#.onnx".encode()])
def test_a_name_that_is_not_ascii(net, tmp_path, monkeypatch, name):
    monkeypatch.setattr(onnx_model, "IN_FILE", 0)
    path = tmp_path / os.fsdecode(name)
    light_onnx(net)[0].write(path)
    assert verify(NetRunner(net, "net"), OnnxRunner(path, "onnx")).same


def test_a_weight_that_the_file_changes_is_found(net, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "IN_FILE", 0)
    path = tmp_path / "net.onnx"
    light_onnx(net)[0].write(path)
    data = bytearray(path.read_bytes())
    weight = net.state_dict()["f.weight"].numpy().tobytes()
    place = data.index(weight)
    data[place : place + len(weight)] = (np.frombuffer(weight, np.float32) * np.float32(1.01)).tobytes()
    path.write_bytes(data)
    assert verify(NetRunner(net, "net"), OnnxRunner(path, "onnx")).first.blob == "f"


def test_a_file_cut_anywhere_is_refused_or_runs(net, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "IN_FILE", 0)
    path = tmp_path / "net.onnx"
    light_onnx(net)[0].write(path)
    data, wrong = path.read_bytes(), 0
    for length in range(0, len(data), 61):
        path.write_bytes(data[:length])
        with pytest.raises(FileError, match=r"net\.onnx: not a readable ONNX file"):
            OnnxRunner(path, "onnx")
        wrong += 1
    assert wrong > 50


def test_a_number_without_an_end(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(ValueError, match="the number at byte 0 does not end"):
        read_light(tmp_path / "net.onnx")
