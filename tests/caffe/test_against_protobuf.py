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

NETWORKS = [path for path in ROOT.glob("prototxt/*/*.prototxt") if path.name != "solver.prototxt"]
PROTOTXTS = sorted([*GOLDEN.glob("layers/*/net.prototxt"), *NETWORKS])
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
