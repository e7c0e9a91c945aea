"""Prototxt: what is read, what is kept though unknown, and how a mistake is told."""

import textwrap

import pytest

from rmpe_legacy.errors import FileError, PrototxtError
from rmpe_legacy.proto.text import format_text, parse_text, read_text


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
    ("layer { name: \"a\" name: \"b\" }", "1:19", "given a second time"),
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
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_place(text: str, place: str, words: str):
    with pytest.raises(PrototxtError) as caught:
        parse_text(text, path="net.prototxt")
    first, line, caret = str(caught.value).split("\n")
    assert first.startswith(f"net.prototxt:{place}: ")
    assert words in first
    row, column = map(int, place.split(":"))
    assert line == "    " + text.split("\n")[row - 1]
    assert caret.index("^") == 4 + column - 1


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


class TestFiles:
    def test_missing(self, tmp_path):
        with pytest.raises(FileError, match=r"no\.prototxt: No such file or directory"):
            read_text(tmp_path / "no.prototxt")

    @pytest.mark.parametrize("data", [b"\x0a\x05hello\x00", b"\xff\xfe\xfa"])
    def test_binary(self, tmp_path, data):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(FileError, match="not text"):
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
