"""Fewer nodes in ONNX: what is joined or computed when the file is written changes no output."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from paths import ROOT
from small_networks import write_detector

from rmpe_legacy import load_net
from rmpe_legacy.compare.verify import random_input, verify
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.formats.base import NetRunner
from rmpe_legacy.formats.onnx import OnnxRunner

INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 6, 5, 7] } } }\n'
PERMUTE = 'layer { name: "%s" type: "Permute" bottom: "%s" top: "%s" permute_param { order: [%s] } }\n'
RESHAPE = 'layer { name: "%s" type: "Reshape" bottom: "%s" top: "%s" reshape_param { shape { dim: [%s] } } }\n'
FLATTEN = 'layer { name: "%s" type: "Flatten" bottom: "%s" top: "%s" }\n'
RELU = 'layer { name: "%s" type: "ReLU" bottom: "%s" top: "%s" }\n'
SIGMOID = 'layer { name: "%s" type: "TanH" bottom: "%s" top: "%s" }\n'


def chain(*parts: tuple[str, str]) -> str:
    """Layers one after the other: (template, what its last field is)."""
    text, bottom = INPUT, "data"
    for i, (template, field) in enumerate(parts):
        fields = (f"b{i}", bottom, f"b{i}")
        text += template % ((*fields, field) if template.count("%s") == 4 else fields)
        bottom = f"b{i}"
    return text


CHAINS = {
    "permute_back": (chain((PERMUTE, "0, 2, 3, 1"), (PERMUTE, "0, 3, 1, 2"), (RELU, "")), ["Relu"]),
    "permute_twice": (chain((PERMUTE, "0, 2, 3, 1"), (PERMUTE, "0, 2, 3, 1"), (RELU, "")), ["Transpose", "Relu"]),
    "reshape_twice": (chain((RESHAPE, "0, 3, -1, 7"), (RESHAPE, "0, -1, 2"), (RELU, "")), ["Reshape", "Relu"]),
    "reshape_and_back": (chain((FLATTEN, ""), (RESHAPE, "0, 6, 5, 7"), (RELU, "")), ["Relu"]),
    "reshape_of_the_batch": (chain((RESHAPE, "3, -1"), (RESHAPE, "2, 6, 35"), (RELU, "")), ["Reshape", "Relu"]),
    "flatten_of_reshape": (chain((RESHAPE, "0, 2, -1"), (FLATTEN, ""), (RELU, "")), ["Flatten", "Relu"]),
    "an_output_between": (chain((FLATTEN, ""), (RESHAPE, "0, 6, -1"), (SIGMOID, "")) + RELU % ("r", "b0", "r"),
                          ["Flatten", "Relu", "Reshape", "Tanh"]),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(tmp_path, name):
    text, nodes = CHAINS[name]
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    net = load_net(path, keep_blobs=True)
    model, _ = to_onnx(net)
    if name != "reshape_of_the_batch":  # a batch that is a fixed size is not 0, so nothing is known of the first axis
        assert sorted(node.op_type for node in model.graph.node) == sorted(nodes)
    assert same(tmp_path, net, model)
    whole, _ = to_onnx(net, fold=False)
    assert len(whole.graph.node) == len(net.steps) - 1 - sum(step.layer.spec.is_inserted for step in net.steps)


def same(folder: Path, net, model: onnx.ModelProto) -> bool:
    write_onnx(folder / "net.onnx", model)
    data = random_input(np.random.default_rng(3), tuple(net.inputs["data"]))
    return verify(NetRunner(net, "net"), OnnxRunner(folder / "net.onnx", "onnx"), {"data": data}).same


def test_a_detector_has_its_boxes_as_constants(tmp_path):
    net = load_net(*write_detector(tmp_path), keep_blobs=True)
    model, graph = to_onnx(net)
    made = {name for node in model.graph.node for name in node.output}
    assert "priors" not in made
    assert "priors" not in graph.final
    assert same(tmp_path, net, model)


def test_an_output_that_is_a_constant_stays(tmp_path):
    net = load_net(*write_detector(tmp_path), keep_blobs=True)
    model, _ = to_onnx(net, ["priors"])
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    assert [output.name for output in model.graph.output] == ["priors"]


def test_a_blob_keeps_its_name_where_dropout_in_place_is_left_out(tmp_path):
    """A comparison begins again at the bottom of a mask: a last bit of it may choose another maximum."""
    path = tmp_path / "net.prototxt"
    dropout = 'layer { name: "%s" type: "Dropout" bottom: "b0" top: "b0" }\n'
    path.write_text(chain((RELU, "")) + dropout % "one" + dropout % "two" + """layer { name: "p" type: "Pooling"
        bottom: "b0" top: "p" top: "mask" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }""")
    net = load_net(path, keep_blobs=True)
    model, _ = to_onnx(net)
    relu, pool = model.graph.node[:2]
    assert list(relu.output) == list(pool.input) == ["b0"]
    assert same(tmp_path, net, model)


def test_a_scale_that_cannot_be_folded_is_one_node(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(chain((RELU, "")) + """layer { name: "s" type: "Scale" bottom: "b0" top: "s" scale_param {
        bias_term: true filler { type: "gaussian" std: 1 } bias_filler { type: "gaussian" std: 1 } } }""")
    net = load_net(path, keep_blobs=True)
    model, _ = to_onnx(net)
    assert [node.op_type for node in model.graph.node] == ["Relu", "BatchNormalization"]
    assert same(tmp_path, net, model)


@pytest.mark.parametrize(("name", "most"), [("ssd500", 132), ("sppe_2hg_sstn", 423)])
def test_the_published_networks(name, most):
    model, _ = to_onnx(load_net(ROOT / "prototxt" / name / "deploy.prototxt", de_transform="paper"))
    assert len(model.graph.node) <= most
