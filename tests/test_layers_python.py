"""Layers written in Python: what pycaffe's Layer offers, and what goes wrong."""

import sys
import textwrap

import pytest
import torch
from torch.testing import assert_close

from rmpe_legacy import RmpeError, load_net

INPUT = 'force_backward: true layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


@pytest.fixture
def load(tmp_path, request):
    """Write a module and a network that uses its class L; each test has a module of its own."""
    name = "layer_" + request.node.name.split("[")[0]

    def load(code: str, rest: str = "", wiring: str = 'bottom: "x" top: "y"', **options):
        (tmp_path / f"{name}.py").write_text("import caffe\nimport numpy as np\n" + textwrap.dedent(code))
        (tmp_path / "net.prototxt").write_text(
            f'{INPUT} layer {{ name: "py" type: "Python" {wiring} '
            f'python_param {{ module: "{name}" layer: "L" {rest} }} }}')
        return load_net(tmp_path / "net.prototxt", **options)

    yield load
    sys.modules.pop(name, None)


def x(**options) -> torch.Tensor:
    return torch.tensor([[0.0, 1, 2], [3, 4, 5]], **options)


SCALE = """
    class L(caffe.Layer):
        def setup(self, bottom, top):
            self.k = float(self.param_str)
        def reshape(self, bottom, top):
            top[0].reshape(*bottom[0].data.shape)
        def forward(self, bottom, top):
            top[0].data[...] = self.k * bottom[0].data
        def backward(self, top, propagate_down, bottom):
            assert propagate_down == [True]
            bottom[0].diff[...] = self.k * top[0].diff
"""


def test_forward_and_backward(load):
    net, value = load(SCALE, 'param_str: "-2.5" share_in_parallel: true'), x(requires_grad=True)
    y = net(x=value)["y"]
    assert_close(y, -2.5 * value)
    y.backward(torch.ones_like(y))
    assert_close(value.grad, torch.full((2, 3), -2.5))


def test_double_precision(load):
    net = load(SCALE, 'param_str: "3"').double()
    assert torch.autograd.gradcheck(lambda v: net(x=v)["y"], x(dtype=torch.float64, requires_grad=True))


def test_another_size(load):
    assert load(SCALE, 'param_str: "3"')(x=torch.ones(4, 5, 6))["y"].shape == (4, 5, 6)


def test_phase_and_blob_attributes(load):
    code = """
        class L(caffe.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(7)
            def forward(self, bottom, top):
                b = bottom[0]
                top[0].data[:5] = self.phase == caffe.TRAIN, b.num, b.channels, b.height, b.width
                top[0].data[5:] = b.count, len(b.shape)
    """
    assert load(code, phase="TRAIN")(x=x())["y"].tolist() == [1, 2, 3, 1, 1, 6, 2]
    assert load(code)(x=x())["y"][0] == 0


def test_parameters_of_its_own(load):
    net = load("""
        class L(caffe.Layer):
            def setup(self, bottom, top):
                self.blobs.add_blob(3)
                self.blobs[0].data[...] = [1, 2, 3]
            def reshape(self, bottom, top):
                top[0].reshape(*bottom[0].shape)
            def forward(self, bottom, top):
                top[0].data[...] = bottom[0].data * self.blobs[0].data
            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] = top[0].diff * self.blobs[0].data
                self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
    """)
    y = net(x=x())["y"]
    assert_close(y, x() * torch.tensor([1.0, 2, 3]))
    y.sum().backward()
    assert net.params["py"][0].tolist() == [1, 2, 3]
    assert_close(net.params["py"][0].grad, x().sum(0))


def test_backward_of_two_forwards_sees_the_right_data(load):
    net = load("""
        class L(caffe.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(*bottom[0].shape)
            def forward(self, bottom, top):
                top[0].data[...] = bottom[0].data ** 2
            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] = 2 * top[0].diff * bottom[0].data
    """)
    a, b = x(requires_grad=True), (x() + 10).requires_grad_()
    (net(x=a)["y"].sum() + net(x=b)["y"].sum()).backward()
    assert_close(a.grad, 2 * x())
    assert_close(b.grad, 2 * x() + 20)


def test_in_place(load):
    net = load("""
        class L(caffe.Layer):
            def forward(self, bottom, top):
                assert top[0].data is bottom[0].data
                top[0].data[...] += 1
    """, wiring='bottom: "x" top: "x"')
    value = x()
    assert_close(net(x=value)["x"], x() + 1)
    assert torch.equal(value, x())


def test_a_source_without_bottoms(load):
    net = load("""
        class L(caffe.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(2, 2)
                top[1].reshape(1)
            def forward(self, bottom, top):
                top[0].data[...] = [[1, 2], [3, 4]]
                top[1].data[...] = 5
    """, wiring='top: "a" top: "b"')
    out = net(x=x())
    assert out["a"].tolist() == [[1, 2], [3, 4]]
    assert out["b"].tolist() == [5]


def test_a_loss(load):
    net = load("""
        class L(caffe.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(1)
            def forward(self, bottom, top):
                top[0].data[...] = bottom[0].data.sum()
            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] = top[0].diff[0]
    """, wiring='bottom: "x" top: "y" loss_weight: 0.5')
    value = x(requires_grad=True)
    net(x=value)
    assert net.loss() == 7.5
    net.loss().backward()
    assert (value.grad == 0.5).all()


def test_caffe_is_not_left_behind(load):
    load(SCALE, 'param_str: "1"')
    assert "caffe" not in sys.modules


def test_differs_in_that_a_diff_begins_with_zeros(load):
    net = load("""
        class L(caffe.Layer):
            def reshape(self, bottom, top):
                top[0].reshape(*bottom[0].shape)
            def backward(self, top, propagate_down, bottom):
                bottom[0].diff[...] += 1
    """)
    for _ in range(2):
        value = x(requires_grad=True)
        net(x=value)["y"].sum().backward()
        assert (value.grad == 1).all()


def test_differs_in_that_a_bottom_is_read_only(load):
    net = load("""
        class L(caffe.Layer):
            def forward(self, bottom, top):
                bottom[0].data[...] = 0
    """)
    with pytest.raises(ValueError, match="read-only"):
        net(x=x())


class TestMistakes:
    def test_no_module(self, tmp_path):
        (tmp_path / "net.prototxt").write_text(
            INPUT + 'layer { name: "py" type: "Python" bottom: "x" top: "y" '
            'python_param { module: "no_such_module" layer: "L" } }')
        with pytest.raises(RmpeError, match="found no module 'no_such_module' beside the prototxt"):
            load_net(tmp_path / "net.prototxt")

    def test_no_class(self, load):
        with pytest.raises(RmpeError, match=r"has no class 'L' derived from caffe\.Layer"):
            load("M = 1")

    def test_no_layer_of_caffes(self, load):
        with pytest.raises(RmpeError, match=r"derived from caffe\.Layer"):
            load("class L: pass")

    def test_what_the_module_lacks_keeps_its_traceback(self, load):
        with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
            load("import not_there_at_all")
