"""JSON files: what Python cannot compute with or write again is refused where it is read."""

import json

import pytest

from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.formats.base import Setting
from rmpe_legacy.formats.network_json import network_json, read_json_network
from rmpe_legacy.readers.json_file import read_json

NET = ('layer {{ name: "{0}" type: "Input" top: "{0}" input_param {{ shape {{ dim: 1 }} }} }} '
       'layer {{ name: "{0} end" type: "ReLU" bottom: "{0}" top: "{0} end" }}')


@pytest.mark.parametrize(("text", "value"), [
    ("[1, -2.5, null, true]", [1, -2.5, None, True]), ('{"a": "\\u00e9\\ud83d\\ude00"}', {"a": "é😀"}),
    ("9223372036854775807", (1 << 63) - 1), ("1" + "0" * 30, 1e30), ("-" + "9" * 6000, float("-inf")),
    ('"\\udcff"', "\udcff"),  # a byte that is not UTF-8
])
def test_is_read(tmp_path, text, value):
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize(("data", "words"), [
    (b"", "not a readable JSON file: Expecting value"), (b"[1, ", "not a readable JSON file: Expecting value"),
    (b"\xff\xfe[\0]\0", "not a readable JSON file: 'utf-8' codec"), (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 100_000, "nested too deep"), (b'["\\ud800"]', "half of a surrogate pair"),
    (b'{"\\udfff": 1}', "half of a surrogate pair"), (b'[[{"a": ["x\\udc00"]}]]', "half of a surrogate pair"),
])
def test_is_a_sentence(tmp_path, data, words):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(FileError, match=r"a\.json: .*" + words):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_too_large(tmp_path):
    (tmp_path / "a.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(FileError, match="is larger than 1 MB, the limit"):
        read_json(tmp_path / "a.json", 1 << 20)


@pytest.mark.parametrize("name", ["plain", "größe 中", r"\377\200", "\\033[31m\\n\\t"])
def test_a_network_s_names_come_back_whatever_their_bytes(tmp_path, name):
    message = parse_text(NET.format(name), "NetParameter")
    text = network_json(message, Setting(), None)
    (tmp_path / "net.json").write_text(text, "utf-8")
    assert json.loads(text)["net"]["layer"][0]["name"] == message.layer[0].name
    assert read_json_network(tmp_path / "net.json")[0].message == message


@pytest.mark.parametrize(("field", "value", "words"), [
    ("nms_threshold", "1" + "0" * 400, "read"), ("nms_threshold", '"x"', "expected float, got"),
    ("dim", "1e400", "expected int64, got Infinity"), ("dim", "1" + "0" * 400, "expected int64, got Infinity"),
])
def test_a_network_s_numbers(tmp_path, field, value, words):
    dim, threshold = (value, "1") if field == "dim" else ("1", value)
    settings = (f'"input_param": {{"shape": [{{"dim": [{dim}]}}]}}, '
                f'"detection_output_param": {{"nms_param": {{"nms_threshold": {threshold}}}}}')
    layer = f'{{"name": "x", "type": "Input", "top": ["x"], {settings}}}'
    head = {"format": "rmpe_legacy network", "version": 1, "dialect": "rmpe", "phase": "TEST", "level": 0, "stages": [],
            "de_transform": None, "weights": None}
    (tmp_path / "net.json").write_text(f'{json.dumps(head)[:-1]}, "net": {{"layer": [{layer}]}}}}')
    if words == "read":
        message = read_json_network(tmp_path / "net.json")[0].specs[0].message
        assert message.detection_output_param.nms_param.nms_threshold == float("inf")
        return
    with pytest.raises(FileError, match=words):
        read_json_network(tmp_path / "net.json")


def test_an_unknown_field_nested_without_end(tmp_path):
    deep = '{"a":' * 200 + "1" + "}" * 200
    (tmp_path / "net.json").write_text(
        '{"format": "rmpe_legacy network", "version": 1, "dialect": "rmpe", "phase": "TEST", "level": 0, "stages": [], '
        f'"de_transform": null, "weights": null, "net": {{"(unknown fields)": [["x", {deep}]]}}}}')
    with pytest.raises(FileError, match="more than 64 levels"):
        read_json_network(tmp_path / "net.json")


def changed(**changes: object) -> dict:
    """The JSON of a small network, with some entries replaced."""
    return json.loads(network_json(parse_text(NET.format("x"), "NetParameter"), Setting(), None)) | changes


def layer(**fields: object) -> dict:
    return {"layer": [{"name": "x", "type": "Input", "top": ["x"], **fields}]}


@pytest.mark.parametrize(("document", "words"), [
    ([1], "is not an rmpe_legacy network, as written by rmpe convert"),
    (changed(format="other"), "is not an rmpe_legacy network, version 1, as written by rmpe convert"),
    (changed(version=2), "is not an rmpe_legacy network, version 1, as written by rmpe convert"),
    (changed(weights="../w.pt"), "weights is '../w.pt'; expected the name of a file in the same folder"),
    (changed(weights=".."), "weights is '..'; expected the name of a file in the same folder"),
    (changed(weights=5), "weights is 5; expected the name of a file in the same folder"),
    (changed(phase="VAL"), 'phase is "VAL"; expected one of TRAIN, TEST'),
    (changed(dialect=["bvlc"]), 'dialect is ["bvlc"]; expected one of rmpe, ssd, bvlc, '),
    (changed(level="0"), "level must be a whole number, and stages a list of names"),
    (changed(stages=[1]), "level must be a whole number, and stages a list of names"),
    (changed(net=None), "net: expected a NetParameter; the file is damaged, or of another dialect"),
    (changed(net={"layer": {}}), "net.layer: expected a list; the file is damaged"),
    (changed(net={"layer": [7]}), "net.layer[0]: expected a LayerParameter; the file is damaged"),
    (changed(net=layer(colour=1)), "net.layer[0]: LayerParameter has no field 'colour'; the file is damaged"),
    (changed(net=layer(name=5)), "net.layer[0].name: expected string, got 5"),
    (changed(net=layer(phase=0)), "net.layer[0].phase: expected "),
    (changed(net=layer(transform_param={"mirror": 1})), "net.layer[0].transform_param.mirror: expected bool, got 1"),
    (changed(net={"(unknown fields)": {"x": 1}}), "net: (unknown fields) must be a list of names and values"),
    (changed(net={"(unknown fields)": [["x", 1, 2]]}), "net: (unknown fields) must be a list of names and values"),
])
def test_a_network_that_is_not_one(tmp_path, document, words):
    (tmp_path / "net.json").write_text(json.dumps(document))
    with pytest.raises(FileError) as caught:
        read_json_network(tmp_path / "net.json")
    assert str(caught.value).startswith(f"{tmp_path / 'net.json'}: ")
    assert words in str(caught.value)


def test_unknown_fields_numbers_and_enums_come_back(tmp_path):
    """What a schema does not know, and what JSON has no number for."""
    message = parse_text('mystery { a: 1 b: "x" c: [1, 2.5] d { e: inf } } layer { name: "p" type: "Pooling" '
                         "pooling_param { pool: MEDIAN } } layer { name: \"r\" type: \"ReLU\" "
                         "relu_param { negative_slope: -inf } }", "NetParameter")
    document = json.loads(network_json(message, Setting(), None))
    assert document["net"]["(unknown fields)"] == [["mystery", {"a": 1, "b": "x", "c": [1, 2.5], "d": {"e": "inf"}}]]
    assert document["net"]["layer"][1]["relu_param"] == {"negative_slope": "-inf"}
    (tmp_path / "net.json").write_text(json.dumps(document))
    with pytest.raises(RmpeError) as caught:
        read_json_network(tmp_path / "net.json")
    assert "net.json: NetParameter has no field 'mystery'\n" in str(caught.value)
    assert str(caught.value).endswith("net.layer[0].pooling_param: PoolingParameter.pool has no value MEDIAN")
