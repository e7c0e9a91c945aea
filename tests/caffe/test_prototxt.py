"""Prototxt: what is read, what is kept though unknown, and how a mistake is told."""

import contextlib
import random
import re
import textwrap
import time
import tracemalloc

import numpy as np
import pytest
from paths import ROOT

from rmpe_legacy.caffe.proto import text as text_module
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.text import parse_text, read_text
from rmpe_legacy.caffe.proto.text_writer import format_text
from rmpe_legacy.errors import FileError, PrototxtError
from rmpe_legacy.wording import printable


def layer(text: str, dialect: str = "rmpe"):
    return parse_text(f"layer {{ {text} }}", dialect=dialect).layer[0]


class TestValues:
    def test_every_form_of_a_field(self):
        net = parse_text("""
            name: 'single' "quoted"  # and a comment
            input: "a", input: "b";
            input_dim: [1, 0x10, 010, -1]
            layer: < name: "\\x41\\102\\n\\"" top: ["t1", "t2"] >
            force_backward: 1
        """)
        assert net.name == "singlequoted"
        assert list(net.input) == ["a", "b"]
        assert list(net.input_dim) == [1, 16, 8, -1]
        assert net.layer[0].name == 'AB\n"'
        assert list(net.layer[0].top) == ["t1", "t2"]
        assert net.force_backward is True

    def test_numbers(self):
        solver = parse_text("base_lr: 1e-3f gamma: .5 power: 2. momentum: -inf weight_decay: nan delta: 1e50",
                            "SolverParameter")
        assert (solver.gamma, solver.power, solver.momentum, solver.delta) == (0.5, 2.0, float("-inf"), float("inf"))
        assert solver.weight_decay != solver.weight_decay
        assert solver.base_lr == 0.0010000000474974513, "a float field is rounded to single precision"

    def test_absent_fields_have_caffes_defaults(self):
        pooling = layer('name: "p"').pooling_param
        assert (pooling.pool, pooling.stride, pooling.global_pooling) == ("MAX", 1, False)
        assert not layer('name: "p"').has("pooling_param")
        assert layer("lrn_param { beta: 0.5 }").lrn_param.alpha == 1.0

    def test_dialects_differ_in_defaults_and_shape(self):
        assert layer("prior_box_param { min_size: 3 }", "rmpe").prior_box_param.clip is True
        assert layer("prior_box_param { min_size: 3 }", "ssd").prior_box_param.clip is False
        assert layer("prior_box_param { min_size: 3 }", "rmpe").prior_box_param.min_size == 3
        assert layer("prior_box_param { min_size: 3 min_size: 4 }", "ssd").prior_box_param.min_size == [3, 4]
        assert layer("", "rmpe").multibox_loss_param.do_neg_mining is True
        assert not layer("", "ssd").multibox_loss_param.has("do_neg_mining")

    def test_an_enum_by_number_has_its_name(self):
        assert layer("pooling_param { pool: 1 }").pooling_param.pool == "AVE"

    @pytest.mark.parametrize("text", [
        'name: "n" layer { name: "a" type: "X" loss_weight: 0.1 propagate_down: false include { phase: TEST } }',
        'layer { my_param { deep { value: 3.5 word: "w" many: [1, 2] } flag: true kind: SOME } '
        'pooling_param { pool: AVE } }',
        'layer { name: "\\t\\\\\\"\\303\\251" }',
    ])
    def test_written_text_reads_back(self, text: str):
        once = parse_text(text)
        again = parse_text(format_text(once))
        assert once == again
        assert [(u.name, u.value) for u in once.unknowns()] == [(u.name, u.value) for u in again.unknowns()]


class TestPlainNumbers:
    """Runs of fields with plain numbers are read faster; a comment in between lets each be read like any other."""

    NUMBERS = ("0", "-0", "7", "-7", "2147483647", "2147483648", "-2147483649", "9" * 18, "9" * 19,
               "0.5", "-0.5", "0.1", "1e5", "1E-3", "1.5e+300", "1e999", "3.4e38", "3.5e38", "1.", ".5", "1.5f",
               "017", "0x10", "00.5", "1e1000", "true", "abc", "1 2", "1,", "1;", "1}", "1]", "[1, 2]", '"1"', "- 1",
               "1e", "--1")
    FIELDS = (("base_lr", "SolverParameter"), ("max_iter", "SolverParameter"), ("stepvalue", "SolverParameter"),
              ("test_compute_loss", "SolverParameter"), ("solver_mode", "SolverParameter"), ("data", "BlobProto"),
              ("double_data", "BlobProto"), ("dim", "BlobShape"), ("lacking", "SolverParameter"),
              ("lacking", "a message that the schema lacks"))

    @staticmethod
    def told(text: str, message: str) -> tuple:
        """What is read, or the sentence without the place."""
        try:
            read = parse_text(text, message, path="p")
        except PrototxtError as error:
            return "error", str(error).partition("\n")[0].partition(": ")[2]
        return "read", format_text(read), [(u.owner, u.name, repr(u.value)) for u in read.unknown]

    @pytest.mark.parametrize(("name", "message"), FIELDS)
    def test_they_are_read_as_one_by_one(self, name, message):
        own = message not in ("SolverParameter", "BlobProto", "BlobShape")
        form, kind = ("own {{ {} }}", "SolverParameter") if own else ("{}", message)
        for first in ("1", "0.25"):
            for number in self.NUMBERS:
                plain = form.format("".join(f"{name}: {each} " for each in (first, first, number, 3)))
                slow = form.format("".join(f"{name}: #\n {each} " for each in (first, first, number, 3)))
                assert self.told(plain, kind) == self.told(slow, kind)

    def test_a_mistake_behind_them_is_told_with_its_place(self):
        with pytest.raises(PrototxtError, match=r"^p:3:7: BlobProto.data is a number, not 'x'"):
            parse_text("data: 1\ndata: 2.5\ndata: x\ndata: 4", "BlobProto", path="p")

    def test_lines_of_numbers_give_one_array(self):
        blob = parse_text("".join(f"data: {i / 8}\n" for i in range(1000)), "BlobProto")
        assert blob.data.dtype == np.float32
        np.testing.assert_array_equal(blob.data, np.arange(1000, dtype=np.float32) / 8)


class TestUnknown:
    def test_fields_are_kept_with_their_values_and_places(self):
        net = parse_text('layer {\n  name: "a"\n  my_param { size: 3 list: 1 list: 2 deep { x: -0.5 } word: FAST }\n}')
        (unknown,) = net.unknowns()
        assert (unknown.owner, unknown.name, unknown.where) == ("LayerParameter", "my_param", "<prototxt>:3:3")
        param = net.layer[0].my_param
        assert (param.size, param.list, param.deep.x, param.word) == (3, [1, 2], -0.5, "FAST")

    def test_a_value_that_an_enum_lacks_is_kept(self):
        net = parse_text("layer { pooling_param { pool: SUM } }")
        assert net.layer[0].pooling_param.pool == "SUM"
        assert [u.is_value for u in net.unknowns()] == [True]

    def test_a_plain_attribute_error_otherwise(self):
        with pytest.raises(AttributeError, match="LayerParameter has no field 'nothing'"):
            _ = layer("").nothing


MISTAKES = [  # text, place, words
    ("layer { name: 3 }", "1:15", "LayerParameter.name is a string; write it in quotes"),
    ("layer { name: \"a\" name: \"b\" }", "1:19", "given twice"),
    ("input_dim: 1.5", "1:12", "a whole number"),
    ("input_dim: 3000000000", "1:12", "from -2147483648 to 2147483647"),
    ("layer { pooling_param { kernel_size: -1 } }", "1:39", "from 0 to 4294967295"),
    ("force_backward: maybe", "1:17", "true or false"),
    ("layer { pooling_param { pool: \"MAX\" } }", "1:31", "one of MAX, AVE, STOCHASTIC"),
    ("layer { lrn_param { alpha: x } }", "1:28", "is a number"),
    ("layer { lrn_param: 3 }", "1:20", "is a message; write lrn_param { ... }"),
    ("name \"a\"", "1:6", "expected ':' after name"),
    ("layer { name: \"a\"", "1:18", "before the '}' that closes the message opened at 1:1"),
    ("layer { } }", "1:11", "expected a field name, got '}'"),
    ("\n\n  input: [\"a\" \"b\"", "3:18", "expected ',' or ']'"),
    ("name: \"never closed", "1:7", "the string is not closed before the end of its line"),
    ("foo bar", "1:5", "expected ':' or '{' after foo"),
    ('name: "C:\\Users\\me"', "1:10", "'\\U' is not a valid escape in a string; write a backslash as \\\\, or "
     "the path with /"),
    ('layer { data_param { source: "D:\\Data" } }', "1:33", "'\\D' is not a valid escape"),
    ("name: 'a\\x'", "1:9", "'\\x' is not a valid escape"),
    ("name: 'a\\u12'", "1:9", "'\\u' is not a valid escape"),
    ("name: 'a\\U00110000'", "1:9", "'\\U' is not a valid escape"),
    ('name: "a\\', "1:9", "is not a valid escape"),
    ("name: \"\\\"", "1:7", "not closed"),
    ('layers { name: "s" type: "Softmax" }', "1:26", "layers { ... } is the old format, with types as type: "
     "SOFTMAX; for types in quotes write layer"),
    ('layers { type: "NoSuch" }', "1:16", "with types as type: CONVOLUTION"),
    ("layer { type: INNER_PRODUCT }", "1:15", 'write it in quotes: type: "InnerProduct"'),
    ("layer { type: SOFTMAX_LOSS }", "1:15", 'write it in quotes: type: "SoftmaxWithLoss"'),
    ("layers { type: CONVOLUTION param { lr_mult: 1 } }", "1:34", "param { ... } belongs to the current format; with "
                                                                  "it, write "
     "layer"),
    ("input_dim: 0x" + "f" * 5000, "1:12", "is a int32, from -2147483648 to 2147483647"),
    ("input_dim: " + "9" * 5000, "1:12", "a whole number (int32), not '9999"),
    ("\u201cname\u201d: 3", "1:1", "expected a field name, got '\u201c'"),
    ("name: \u00e9", "1:7", "is a string"),
    ("[a.b: 1", "1:1", "expected the name of an extension and ']'"),
    ("['x']: 1", "1:1", "expected the name of an extension and ']'"),
    ("layer { \x1b[31m }", "1:9", "got '\\x1b'"),
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_place(text: str, place: str, words: str):
    with pytest.raises(PrototxtError) as caught:
        parse_text(text, path="net.prototxt")
    first, line, caret = str(caught.value).split("\n")
    assert first.startswith(f"net.prototxt:{place}: ")
    assert words in first
    row, column = map(int, place.split(":"))
    assert line == "    " + printable(text.split("\n")[row - 1])[: len(line) - 4]
    assert caret.index("^") == 4 + column - 1
    assert len(str(caught.value)) < 600


def test_the_caret_stands_below_the_place_behind_tabs():
    with pytest.raises(PrototxtError) as caught:
        parse_text("\tlayer {\tname: 3 }")
    assert str(caught.value).split("\n")[2] == "    \t       \t      ^"


def test_a_one_line_file_shows_the_neighbourhood_only():
    with pytest.raises(PrototxtError) as caught:
        parse_text('input: "a" ' * 100_000 + "input: 3 " + 'input: "a" ' * 100_000)
    assert len(str(caught.value)) < 500


def test_nesting_has_a_limit():
    with pytest.raises(PrototxtError, match="nested more than 100 deep"):
        parse_text("x { " * 100_000)


BYTES = [bytes(range(128, 256)), "\u7b2c\u4e00\u5c42".encode("gbk"), b"caf\xe9 \xa3\x9d", "caf\u00e9".encode(),
         b"\xff\xfe"]


class TestEncodings:
    """Caffe hands bytes through: an encoding is nobody's business but the reader's."""

    @pytest.mark.parametrize("data", BYTES)
    def test_any_bytes_in_a_comment_and_a_string(self, tmp_path, data):
        (tmp_path / "x").write_bytes(b"# " + data + b'\nname: "' + data + b'" layer { name: "a" } # ' + data)
        net = read_text(tmp_path / "x")
        assert net.name.encode("utf-8", "surrogateescape") == data
        assert net.layer[0].where == f"{tmp_path / 'x'}:2:{10 + len(net.name)}", "a column is a character"

    @pytest.mark.parametrize("data", BYTES)
    def test_they_come_back_from_what_is_written(self, data):
        name = data.decode("utf-8", "surrogateescape")
        net = parse_text(f'name: "{name}" strange {{ word: "{name}" }}')
        text = format_text(net)
        assert text.isascii()
        again = parse_text(text)
        assert (again.name, again.strange.word) == (name, name)

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_a_byte_order_mark_is_passed_over(self, tmp_path, newline):
        (tmp_path / "x").write_bytes(b"\xef\xbb\xbf" + f'name: "a"{newline}layer {{ name: "b" }}'.encode())
        net = read_text(tmp_path / "x")
        assert (net.name, net.layer[0].name) == ("a", "b")
        assert parse_text("\ufeffname: 'a'").name == "a"

    def test_a_column_behind_a_byte_order_mark(self, tmp_path):
        (tmp_path / "x").write_bytes(b"\xef\xbb\xbfname: 3")
        with pytest.raises(PrototxtError, match=r"x:1:7: NetParameter\.name is a string"):
            read_text(tmp_path / "x")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_utf_16_is_told(self, tmp_path, encoding):
        (tmp_path / "x").write_bytes('name: "a"\nlayer { name: "b" }'.encode(encoding))
        with pytest.raises(FileError, match="not text" if encoding == "utf-32-le" else "apparently UTF-16; save it"):
            read_text(tmp_path / "x")

    def test_half_a_surrogate_pair_is_no_text(self):
        with pytest.raises(PrototxtError, match="character 6 is half of a surrogate pair"):
            parse_text("name: \ud800")

    def test_escapes_of_protobuf(self):
        text = r"""name: "\a\b\f\n\r\t\v\\\?\'\"" input: "\7\12\101\477\x4\X41\u00e9\U0001f600" """
        net = parse_text(text)
        assert net.name == "\a\b\f\n\r\t\v\\?'\""
        assert net.input[0].encode("utf-8", "surrogateescape") == b"\x07\nA\x3f\x04A\xc3\xa9\xf0\x9f\x98\x80"

    def test_a_column_counts_characters(self):
        with pytest.raises(PrototxtError) as caught:
            parse_text('name: "\u00e9\u7b2c" input: 3', path="x")
        first, line, caret = str(caught.value).split("\n")
        assert first.startswith("x:1:19: ")
        assert caret.index("^") == 4 + 18
        assert line == '    name: "\u00e9\u7b2c" input: 3'


MANY = ["a:1 ", "a{}", "layer{}", "[a.b]:1 ", "layer{blobs{data:1}}", "#\n", " ", '"', "{", "a{", "a:", "'a'", "\\",
        "1", "a:[", "a{}}", "\x80", "layer{type:'x'}", "layer{include{stage:'a'}}", "input:'a' ", "input_dim:1 ",
        "input_dim:99999 "]


class TestHostile:
    """Time and memory in proportion to the file; nothing from it acts on a terminal, or on what is written."""

    @pytest.mark.parametrize("piece", MANY)
    @pytest.mark.slow
    def test_a_megabyte_of_it_is_read_or_refused_at_once(self, piece):
        text = piece * (1_000_000 // len(piece))
        tracemalloc.start()
        began = time.process_time()
        try:
            with contextlib.suppress(PrototxtError):
                parse_text(text)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert time.process_time() - began < 10, "tracemalloc makes it several times slower"
        assert peak < 4 * len(text) + (64 << 20)

    @pytest.mark.parametrize("text", ['name: "' + r"\"a" * 400_000 + '"', "name: " + '"a"' * 300_000,
                                      'layer { blobs { data: [' + "1.5," * 250_000 + "1] } }",
                                      "# " + "\u00e9" * 500_000 + "\nname: 'a'"])
    @pytest.mark.slow
    def test_long_values_are_read(self, text):
        began = time.process_time()
        parse_text(text)
        assert time.process_time() - began < 4

    def test_blobs_are_arrays(self):
        blob = layer("blobs { shape { dim: 3 } data: 1.5 data: [2, -inf] double_data: 1e300 }").blobs[0]
        assert (blob.data.dtype, blob.data.tolist()) == (np.float32, [1.5, 2, float("-inf")])
        assert (blob.double_data.dtype, blob.double_data.tolist()) == (np.float64, [1e300])

    def test_a_place_is_found_in_passing(self):
        lines = 100_000
        net = parse_text("\n".join(["input: 'a'"] * lines + ["a: 1"] * 100))
        began = time.process_time()
        assert [u.where for u in net.unknowns()][-1] == f"<prototxt>:{lines + 100}:1"
        assert net.origin.at(0) == "<prototxt>:1:1"
        assert net.origin.at(11) == "<prototxt>:2:1"
        assert time.process_time() - began < 1

    @pytest.mark.parametrize("name", ["a b", "a: 1 layer", "", "1a", "\u00e9", "[a] b", "a\n"], ids=ascii)
    def test_a_name_that_another_format_holds_is_not_written(self, name):
        message = Message(None, {name: 1})
        with pytest.raises(PrototxtError, match="cannot be the name of a field"):
            format_text(message)

    def test_a_value_of_an_enum_that_another_format_holds_is_not_written(self):
        message = parse_text("pool: MAX", "PoolingParameter").replace(pool="MAX } layer {")
        with pytest.raises(PrototxtError, match="cannot be a value of pool"):
            format_text(message)

    @pytest.mark.parametrize("value", ["\u00c9", "ABC", "abc", "A B", "1", "true", "nan", "", "A\u0301"], ids=ascii)
    def test_unknown_words_come_back(self, value):
        written = format_text(Message(None, {"a": value, "b": [value], "c": [], "d": [Message(None, {"e": value})]}))
        again = parse_text(f"x {{ {written} }}").x
        assert again.fields == {"a": value, "b": [value], "c": [], "d": [Message(None, {"e": value})]}

    @pytest.mark.parametrize("value", [0.1, 1e300, -2.5, 3, -7, True, float("inf"), 1 << 40])
    def test_unknown_numbers_come_back(self, value):
        again = parse_text(format_text(parse_text(f"x: {str(value).lower()}"))).x
        assert again == value
        assert type(again) is type(value)


class TestFiles:
    def test_a_null_character_in_the_name(self):
        with pytest.raises(FileError, match="null"):
            read_text("a\0b")

    def test_what_has_no_size_is_read_up_to_the_limit(self, monkeypatch):
        monkeypatch.setattr(text_module, "MAX_BYTES", 1000)
        with pytest.raises(FileError, match="1001 bytes is too large for a prototxt"):
            read_text("/dev/zero")

    def test_missing(self, tmp_path):
        with pytest.raises(FileError, match=r"no\.prototxt: No such file or directory"):
            read_text(tmp_path / "no.prototxt")

    @pytest.mark.parametrize("data", [b"\x0a\x05hello\x00", b"\xff\xfe\xfa"])
    def test_binary(self, tmp_path, data):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(FileError, match=r"not text|not UTF-8"):
            read_text(tmp_path / "x")

    def test_empty_is_an_empty_message(self, tmp_path):
        (tmp_path / "x").write_text("")
        assert read_text(tmp_path / "x").fields == {}


def test_docs_show_what_is_told():
    with pytest.raises(PrototxtError) as caught:
        parse_text(textwrap.dedent("""\
            layer {
              pooling_param { pool: MAX kernel_size: two }
            }"""), path="deploy.prototxt")
    assert str(caught.value) == (
        "deploy.prototxt:2:42: PoolingParameter.kernel_size is a whole number (uint32), not 'two'\n"
        "      pooling_param { pool: MAX kernel_size: two }\n"
        "                                             ^")


def test_a_placeholder_is_called_one():
    with pytest.raises(PrototxtError, match=r"not '\$\{NUM_LABELS\}', a placeholder of a template"):
        parse_text("layer { convolution_param { num_output: ${NUM_LABELS} } }", path="train.prototxt")


def closely(text: str, monkeypatch) -> object:
    """What the parser makes of a text when it looks closely at every field; an error's message."""
    with monkeypatch.context() as patch:
        patch.setattr(text_module._Parser, "_plain_fields", lambda self, message: None)
        return told(text)


def told(text: str) -> object:
    try:
        net = parse_text(text)
    except PrototxtError as error:
        return str(error)
    return repr(net), [str(unknown) for unknown in net.unknowns()]


class TestPlainFields:
    """Fields that one match reads have the values, the positions and the errors that the parser gives by tokens."""

    def test_all_networks_of_the_repository(self, monkeypatch):
        paths = sorted((ROOT / "prototxt").glob("*/*.prototxt"))
        assert len(paths) > 20
        for path in paths:
            text = path.read_text("utf-8")
            assert told(text) == closely(text, monkeypatch), path

    @pytest.mark.parametrize("field", [
        'name: "a" "b"', 'name: "a"\n"b"', 'name: "a" name: "b"', 'name: "a"# comment\n"b"', 'name: 1', 'name: word',
        'name: "é"', 'name: "\\x41"', 'name: "open', 'type: "ReLU"', "type: ReLU", "phase: TEST", "phase: 1",
        "phase: NEVER", 'phase: "TEST"', 'bottom: "a" bottom: "b" top: "c"', 'bottom: "a" bottom: 1', "bottom: x",
        "convolution_param: 1", "convolution_param: x", "convolution_param { num_output: 4.5 }",
        "convolution_param { num_output: -1 }", "convolution_param { num_output: 99999999999 }",
        "convolution_param { num_output: 010 kernel_size: 3 kernel_size: 0x3 }", "convolution_param { pad: 1, pad: 2 }",
        "convolution_param { bias_term: false }", "convolution_param { bias_term: f }",
        "convolution_param { bias_term: 0 }", "convolution_param { bias_term: no }",
        "param { lr_mult: 1 lr_mult: 2 }", "param { lr_mult: -0 decay_mult: 1e-3f }", "param { lr_mult: inf }",
        "blobs { data: 1 data: 2e400 data: .5 double_data: 1 shape { dim: 1 dim: 2 } }", "blobs { data: [] data: 1 }",
        'unheard_of: 3 unheard_of: 4 name: "n"', 'mine { a: 1 a: 2 b: "x" b: "y" c: MAX a: 3 }', "loss_weight: 1}",
        'name: "a" } layer { name: "b"', "phase:TEST", "phase :TEST", "force_backward: true",
    ])
    def test_what_is_read_and_told(self, field, monkeypatch):
        for text in (f"layer {{ {field} }}", f"layer {{ {field}\n}}\nname: 'end'", f"layer {{ {field}", field):
            assert told(text) == closely(text, monkeypatch)

    def test_the_memory_that_values_take_is_counted(self, monkeypatch):
        monkeypatch.setattr(text_module, "ROOM", 0)
        for text in ("layer { " + 'top: "a" ' * 100 + "}", "layer { " + "loss_weight: 1 " * 100 + "}",
                     "layer { mine { " + "a: 1 " * 100 + "} }"):
            assert "the file holds more messages and values" in told(text)
            assert told(text) == closely(text, monkeypatch)


NAMES = ["name", "force_backward", "layer", "layers", "state", "input_dim", "input_shape", "input", "foo", "top",
         "blobs", "data", "num", "shape", "dim", "phase", "level", "type", "loss_weight", "blobs_lr", "param",
         "lr_mult", "convolution_param", "pad", "num_output", "pool", "weight_filler", "std", "double_data",
         "include", "stage"]
VALUES = ["1", "-1", "0", "-0", "1.5", "1e5", "-inf", "inf", "true", "false", "TRAIN", '"x"', '"a b"', "'q'", '"\\n"',
          '"\xe9"', "0x1f", "010", "1f", "1.", ".5", "18446744073709551616", "1e400", "MAX", "CONVOLUTION", "FOO",
          "[1,2]", '["a"]', "[]", "-", '""', '"x""y"', "1b", '"x', "4294967295", "2147483648", "-bar", "{", "<"]
OPENINGS = ["layer {", "layers {", "foo {", "layer{ blobs {", "state {", "input_shape {", "foo <", "layer { param {",
            "layer{convolution_param{weight_filler{"]


def jumbled(rng: random.Random) -> str:
    """Fields of a network, few of them where they belong, some cut short."""
    parts, depth = [], 0
    for _ in range(rng.randrange(1, 16)):
        if rng.random() < 0.3:
            parts.append(rng.choice(OPENINGS))
            depth += len(re.findall("[{<]", parts[-1]))
        else:
            field = (rng.choice(NAMES) + rng.choice([":", ": ", " : ", ":\n", "{"]) + rng.choice(VALUES)
                     + rng.choice([" ", "\n", "\r\n", ",", ";", "", " #c\n", "#c\n", "}", " }\n"]))
            parts.append(field * rng.choice([1, 1, 1, 3]))
        if depth and rng.random() < 0.3:
            parts.append("} ")
            depth -= 1
    return "".join(parts) + "}" * depth


def outline(value):
    """All that a message holds, with the types of its values and the places in the text."""
    if isinstance(value, Message):
        return (value.position, {name: outline(item) for name, item in value.fields.items()},
                [(u.owner, u.name, outline(u.value), u.where) for u in value.unknown])
    return [outline(item) for item in value] if isinstance(value, list | np.ndarray) else repr(value)


def test_plain_fields_are_read_alike_by_one_match_and_by_tokens(monkeypatch):
    def reading(text: str):
        try:
            return outline(parse_text(text))
        except PrototxtError as error:
            return str(error)

    texts = [jumbled(random.Random(seed)) for seed in range(1500)]
    by_match = [reading(text) for text in texts]
    monkeypatch.setattr(text_module, "PLAIN_FIELD", re.compile("(?!)"))
    for text, found in zip(texts, by_match, strict=True):
        assert reading(text) == found, text
    assert 20 < sum(isinstance(found, tuple) for found in by_match) < len(texts)


def test_a_surrogate_pair_is_one_character():
    name = parse_text(r'name: "\ud83d\ude00\uD83D"').name
    assert name.encode("utf-8", "surrogateescape") == b"\xf0\x9f\x98\x80\xed\xa0\xbd"


@pytest.mark.parametrize(("text", "place", "words"), [
    ("foo: -bar", "1:7", "expected a number for foo, got 'bar'"),
    ('foo: -"x"', "1:7", "expected a number for foo"),
    ("foo: [1, 2,]", "1:12", "expected a value for foo, got ']'"),
    ("foo [1]", "1:6", "expected ':' or '{' after foo"),
    ("layer {\n loss_weight [1] }", "2:14", "expected ':' after loss_weight"),
])
def test_what_protobuf_refuses_is_refused(text: str, place: str, words: str):
    with pytest.raises(PrototxtError) as caught:
        parse_text(text)
    assert str(caught.value).startswith(f"<prototxt>:{place}: ")
    assert words in str(caught.value)


def test_an_unknown_value_of_an_enum_keeps_its_sign():
    [unknown] = parse_text("layer { phase: -1 }").layer[0].unknown
    assert (unknown.name, unknown.value, unknown.where) == ("phase", "-1", "<prototxt>:1:17")
