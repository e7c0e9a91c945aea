"""Names of files in messages: safe to print, short, and the known name that was meant."""

import pytest

from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.wording import call_of_net, did_you_mean, html_text, printable, shorten

FIELDS = load_schema("rmpe")


@pytest.mark.parametrize(("names", "call"), [
    (["data", "im_info"], "net(data=..., im_info=...)"), (["a b"], 'net(**{"a b": ...})'), ([], "net()"),
    (["a/b", "data", "class", "1"], 'net(data=..., **{"a/b": ..., "class": ..., "1": ...})'),
    (['say "x"\n'], 'net(**{"say \\"x\\"\\n": ...})'), (["\udcff"], 'net(**{"\\xff": ...})'),
])
def test_a_call_of_a_net_by_the_names_of_its_inputs(names, call):
    assert call_of_net(names) == call


def test_a_call_of_a_net_with_many_inputs_is_shortened():
    assert len(call_of_net(f"blob{i}" for i in range(1000))) < 510


class TestDidYouMean:
    @pytest.mark.parametrize(("slip", "meant"), [
        ("convolution", "Convolution"), ("Relu", "ReLU"), ("EltWise", "Eltwise"), ("INNER_PRODUCT", "InnerProduct"),
        ("Poling", "Pooling"), ("Convolutoin", "Convolution"), ("SofmaxWithLoss", "SoftmaxWithLoss"),
        ("Scael", "Scale"), ("Permutes", "Permute"), ("Cocnat", "Concat"), ("Argmax", "ArgMax"),
    ])
    def test_a_typing_slip_of_a_type(self, slip, meant):
        assert did_you_mean(slip, known_types()) == f"; did you mean {meant!r}?"

    @pytest.mark.parametrize("other", [
        "BN", "DepthwiseConvolution", "ConvolutionDepthwise", "CReLU", "RReLU", "ReLU6", "LeakyReLU", "Axpy", "Interp",
        "Upsample", "L2Normalize", "BatchNormalization", "Mish", "Lstm2", "", "x" * 1000,
    ], ids=repr)
    def test_another_type_is_no_slip(self, other):
        assert did_you_mean(other, [name for name in known_types() if name != other]) == ""

    @pytest.mark.parametrize(("owner", "slip", "meant"), [
        ("PoolingParameter", "kernal_size", "kernel_size"), ("CropParameter", "ofset", "offset"),
        ("InnerProductParameter", "axs", "axis"), ("ConvolutionParameter", "numoutput", "num_output"),
        ("ConvolutionParameter", "kernel_sizes", "kernel_size"),
        ("LayerParameter", "batchnorm_param", "batch_norm_param"),
        ("LayerParameter", "batch-norm-param", "batch_norm_param"),
    ])
    def test_a_typing_slip_of_a_field(self, owner, slip, meant):
        assert did_you_mean(slip, FIELDS[owner].fields) == f"; did you mean {meant!r}?"

    @pytest.mark.parametrize(("owner", "other"), [
        ("LayerParameter", "bn_param"), ("LayerParameter", "crelu_param"), ("LayerParameter", "roi_pooling_param"),
        ("ConvolutionParameter", "pad_l"), ("PoolingParameter", "ceil_mode"), ("PriorBoxParameter", "min_ratio"),
    ])
    def test_another_field_is_no_slip(self, owner, other):
        assert did_you_mean(other, FIELDS[owner].fields) == ""

    @pytest.mark.parametrize(("blob", "meant"), [("xx", "x"), ("dta", "data"), ("conv4_3", ""), ("fc7", "")])
    def test_a_slip_of_a_blob(self, blob, meant):
        assert did_you_mean(blob, ["x", "data", "conv4_2", "fc6"]) == (f"; did you mean {meant!r}?" if meant else "")

    def test_every_name_in_another_case_is_found(self):
        for name in known_types():
            others = [other for other in known_types() if other.lower() == name.lower()]
            assert did_you_mean(name.swapcase(), known_types()) == f"; did you mean {others[0]!r}?"


@pytest.mark.parametrize(("text", "shown"), [
    ("plain \u7b2c \U0001f600 é", "plain \u7b2c \U0001f600 é"), ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ("\x1b[31mred\x07", "\\x1b[31mred\\x07"), ("\udcff\udc80", "\\xff\\x80"), ("\ud800", "\\ud800"),
    ("a\rb\x85\u2028", "a\\x0db\\x85\\u2028"), ("\x7f", "\\x7f"),
    ("\ufffe\uffff", "\\ufffe\\uffff"),
])
def test_what_could_control_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    printable(text).encode("utf-8")


def test_a_name_in_a_page_is_text():
    assert html_text('<b class="x">\x1b\u202e&') == "&lt;b class=&quot;x&quot;&gt;\\x1b\\u202e&amp;"


def test_a_name_in_a_message_is_one_short_line():
    assert shorten("a\nb\tc") == "a\\nb\\tc"
    assert shorten("n" * 1000) == "n" * 97 + "..."
    assert shorten("n" * 100) == "n" * 100
