"""Google's protobuf as the judge of our readers and writers: text, binary and defaults must agree with it."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from harness import GOLDEN
from paths import ROOT

from rmpe_legacy.caffe.proto.dialects import BASES
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.protobuf import caffe_pb2
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.caffe.proto.text_writer import format_text
from rmpe_legacy.caffe.proto.wire import decode, encode
from rmpe_legacy.errors import PrototxtError

NETWORKS = [path for path in ROOT.glob("prototxt/*/*.prototxt") if path.name != "solver.prototxt"]
PROTOTXTS = sorted([*GOLDEN.glob("layers/*/net.prototxt"), *NETWORKS])
ODD = [
    'name:"x""y"', """name:"x"'y' # c""", 'name:"x"# c\n"y"', 'name:"x"force_backward:true',
    'name:"x",force_backward:1',
    'name:"x";force_backward:t', 'name:"x"\r\nforce_backward:0x1', 'name:\n"x"', "name:'it\"s'", 'name:"x\r"',
    'name:"x',
    'name:"a\0b"', 'name:"é\\303\\251"', r'name:"\u00e9\U0001F600"', r'name:"\x"', r'name:"\U00110000"', "name:x",
    "name:", "name", 'name::"x"', 'name:["x"]', 'name:"x"}', 'name:"x" name:"x"', 'name:"x"\x0bforce_backward:true',
    "force_backward:TRUE", "force_backward:2", "layer{loss_weight:1.f loss_weight:.5 loss_weight:5.}",
    "layer{loss_weight:-inf loss_weight:Infinity loss_weight:1e400 loss_weight:-1e400 }", "layer{loss_weight:--1 }",
    "layer{loss_weight:3.4028235677973366e38 loss_weight:1e-400 loss_weight:16777217 loss_weight:-0 }",
    "layer{loss_weight:1e }", "layer{loss_weight:[1,2] loss_weight:3}", "layer{loss_weight:[1,2,] }",
    "layer{loss_weight [1,2] }", "layer{loss_weight:[1 2] }", "layer{loss_weight 1 }", "layer{loss_weight:#c\n1}",
    "layer{loss_weight:1_0 loss_weight: }", 'layer:[{name:"a"},<name:"b">]', "layer:<loss_weight:1 >",
    'layer{name:"a">',
    "layer{phase:TRAIN}", "layer{phase:1 }", 'layer{phase:"TRAIN" }', "layer{phase:TRAIN phase:TEST}", "layer{",
    "layer}",
    "state{level:2147483647}", "state{level:2147483648 }", "state{level:-2147483648 }", "state{level:-0x80000000 }",
    "state{level:010 }", "state{level:09 }", "state{level:0x }", "state{level:1.0 }", "state{level:1f }",
    f"state{{level:{'9' * 5000} }}", f"layer{{loss_weight:0.{'9' * 5000} loss_weight:{'9' * 5000} }}",
    "input_shape{dim:9223372036854775807 dim:-9223372036854775808 }", "input_shape{dim:9223372036854775808 }",
    "layer{convolution_param{num_output:4294967295,kernel_size:3;stride:2}}",
    "layer{convolution_param{num_output:-1 }}",
    "layer{blobs{data:1 data:inf data:1e39 double_data:1e400 double_data:0.1}}", "layer{blobs{data:true}}",
    'foo:-inf name:"x"', 'foo:-bar name:"x"', 'foo:[1,2] name:"x"', 'foo:[1,2,] name:"x"', 'foo 1 name:"x"',
    'foo{a:1 a:2 b:"x" a:-x} name:"x"', 'foo:"a" "b" name:"x"', 'foo:"a" 1', "foo:0x", 'foo [1] name:"x"',
]
CAFFEMODELS = sorted(GOLDEN.glob("layers/*/weights.caffemodel"))


@pytest.mark.parametrize("path", PROTOTXTS, ids=lambda p: p.parent.name + "/" + p.name)
@pytest.mark.slow
def test_text_and_binary(path: Path):
    text = path.read_text()
    theirs = text_format.Parse(text, caffe_pb2().NetParameter())
    ours = parse_text(text)
    assert plain(decode(theirs.SerializeToString(), load_schema()["NetParameter"])) == plain(ours)
    assert caffe_pb2().NetParameter.FromString(encode(ours)) == theirs
    assert text_format.Parse(format_text(ours), caffe_pb2().NetParameter()) == theirs


@pytest.mark.parametrize("text", ODD)
def test_odd_text(text: str):
    """Both read the same message, or both refuse the text."""
    try:
        theirs = text_format.Parse(text, caffe_pb2().NetParameter(), allow_unknown_field=True)
    except (text_format.ParseError, UnicodeError):
        theirs = None
    try:
        ours = parse_text(text)
    except PrototxtError:
        ours = None
    assert (ours is None) == (theirs is None)
    assert ours is None or caffe_pb2().NetParameter.FromString(encode(ours)) == theirs


@pytest.mark.parametrize("path", CAFFEMODELS, ids=lambda p: p.parent.name)
def test_a_caffemodel_written_again_is_the_same(path: Path):
    data = path.read_bytes()
    ours = decode(data, load_schema()["NetParameter"])
    written = encode(ours)
    assert caffe_pb2().NetParameter.FromString(written) == caffe_pb2().NetParameter.FromString(data)


@pytest.mark.parametrize("dialect", BASES)
def test_defaults(dialect: str):
    for name, message in load_schema(dialect).messages.items():
        empty, theirs = message.empty, getattr(caffe_pb2(dialect), name)()
        for field in message.fields.values():
            if not field.repeated and field.message is None:
                want = getattr(theirs, field.name)
                want = field.enum.names[want] if field.enum else want
                assert getattr(empty, field.name) == want, f"{name}.{field.name}"


def plain(value):
    """Messages and arrays as dicts and lists, to compare."""
    if isinstance(value, Message):
        return {name: plain(item) for name, item in value.fields.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, memoryview) else value
