"""Layers written in Python: what pycaffe's Layer offers, and what goes wrong."""

import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rmpe_legacy import RmpeError, load_net
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.caffe.proto.wire import encode
from rmpe_legacy.cli import main

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
        return load_net(tmp_path / "net.prototxt", **{"allow_python": True, **options})

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
    with pytest.raises(RmpeError, match="read-only"):
        net(x=x())


def network(path, module: str, phase: str = ""):
    path.write_text(INPUT + 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }\n'
                    f'layer {{ name: "py" type: "Python" bottom: "x" top: "y" {phase} '
                    f'python_param {{ module: "{module}" layer: "L" }} }}\n'
                    'layer { name: "t" type: "TanH" bottom: "y" top: "t" }')
    return path


class TestTheUsersWord:
    """A module is code: nothing imports one that a prototxt names unless the user says so."""

    @pytest.fixture
    def trap(self, tmp_path, monkeypatch):
        """A network whose module leaves a file behind when it is imported."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "trap_module.py").write_text("import caffe\nopen('RAN', 'w').close()\n" + textwrap.dedent(SCALE))
        yield network(tmp_path / "net.prototxt", "trap_module")
        sys.modules.pop("trap_module", None)

    def test_it_is_not_imported_without(self, trap, tmp_path):
        with pytest.raises(RmpeError, match=r"py \(Python\): runs the Python module 'trap_module', which may do "
                           r"anything; if you trust it, allow it with allow_python=True \(--allow-python\)"):
            load_net(trap)
        with pytest.warns(UserWarning, match="runs the Python module"):
            net = load_net(trap, strict=False)
        assert net.outputs == ("r",), "what depends on it is left out, too"
        assert not (tmp_path / "RAN").exists()

    def test_a_loss_is_a_scalar_that_refuses_to_run_without(self, trap, tmp_path):
        trap.write_text(trap.read_text().replace('type: "Python"', 'type: "Python" loss_weight: 1')
                        .replace('bottom: "y"', 'bottom: "x"'))
        net = load_net(trap)
        assert next(step for step in net.steps if step.layer.spec.type == "Python").top_shapes == ((),)
        with pytest.raises(RmpeError, match=r"its shape is known, its numbers are not computed here; run its module"):
            net(x())
        assert not (tmp_path / "RAN").exists()

    def test_it_is_imported_with(self, trap, tmp_path):
        trap.write_text(trap.read_text().replace('layer: "L"', 'layer: "L" param_str: "2"'))
        assert_close(load_net(trap, allow_python=True)(x())["t"], torch.tanh(2 * x()))
        assert (tmp_path / "RAN").exists()

    @pytest.mark.parametrize("allow", [(), ("--allow-python",)])
    @pytest.mark.parametrize("command", ["show", "hash"])
    def test_show_and_hash_never_import(self, trap, tmp_path, capsys, command, allow):
        assert main([command, str(trap), *allow]) == 0
        assert not (tmp_path / "RAN").exists()
        assert capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [
        ("forward", "{net}", "--input", "x={x}", "--output", "o.npz"),
        ("convert", "{net}", "o.onnx"),
        ("verify", "{net},w.caffemodel", "{net},w.caffemodel"),
        ("demo", ".", "--detector", "{net}", "w.caffemodel"),
        ("detect", ".", "--detector", "{net}", "w.caffemodel", "--output", "o"),
        ("demo", ".", "--pose", "{net}", "w.caffemodel"),
        ("reproduce", "demo", "--pose", "{net}", "w.caffemodel", "--output", "o"),
    ], ids=lambda arguments: " ".join(arguments[:1]))
    def test_every_command_asks(self, trap, tmp_path, capsys, arguments):
        np.save("x.npy", np.ones((2, 3), np.float32))
        cv2.imwrite("photo.png", np.zeros((4, 5, 3), np.uint8))
        (tmp_path / "w.caffemodel").write_bytes(encode(parse_text('layer { name: "r" type: "ReLU" }')))
        given = [a.format(net=trap, x="x.npy") for a in arguments]
        assert main(given) != 0
        assert "allow it with allow_python=True (--allow-python)" in capsys.readouterr().err
        assert not (tmp_path / "RAN").exists()
        main([*given, "--allow-python"])
        assert "--allow-python" not in capsys.readouterr().err
        assert (tmp_path / "RAN").exists()

    def test_a_layer_of_another_phase_is_not_imported(self, tmp_path):
        path = network(tmp_path / "net.prototxt", "not_there", "include { phase: TRAIN }")
        path.write_text(path.read_text().replace('bottom: "y" top: "t"', 'bottom: "r" top: "t"'))
        assert load_net(path).outputs == ("t",)


class TestMistakes:
    @pytest.mark.parametrize("module", ["no_such_module", "rpn.proposal_layer", "os.nothing_here", "json.nothing.here"])
    def test_no_module(self, tmp_path, module):
        path = network(tmp_path / "net.prototxt", module)
        with pytest.raises(RmpeError, match=rf"py \(Python\): found no module '{module}' beside the prototxt"):
            load_net(path, allow_python=True)
        with pytest.warns(UserWarning, match="found no module"):
            assert load_net(path, allow_python=True, strict=False).outputs == ("r",)

    @pytest.mark.parametrize("module", ["", ".", "a.", ".relative", "a b", "a/b", "a-b", "1a", "\\377\\376", "a\\000b"],
                             ids=repr)
    @pytest.mark.parametrize("allow", [True, False])
    def test_what_is_no_name_of_a_module(self, tmp_path, module, allow):
        with pytest.raises(RmpeError, match="is not the name of a Python module"):
            load_net(network(tmp_path / "net.prototxt", module), allow_python=allow)

    def test_no_class(self, load):
        with pytest.raises(RmpeError, match=r"has no class 'L' derived from caffe\.Layer"):
            load("M = 1")

    def test_no_layer_of_caffes(self, load):
        with pytest.raises(RmpeError, match=r"derived from caffe\.Layer"):
            load("class L: pass")

    @pytest.mark.parametrize(("code", "words", "cause"), [
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all' \\(.*py:3\\)",
         ModuleNotFoundError),
        ("print 'Python 2'", "SyntaxError: Missing parentheses", SyntaxError),
        ("def f():\n    return 1 / 0\nf()", r"ZeroDivisionError: division by zero \(.*py:4\)", ZeroDivisionError),
        ("raise SystemExit(3)", "SystemExit: 3", SystemExit),
    ])
    def test_a_module_that_cannot_be_imported(self, load, code, words, cause):
        with pytest.raises(RmpeError, match=f"cannot be imported: {words}") as caught:
            load(code)
        assert isinstance(caught.value.__cause__, cause)

    @pytest.mark.parametrize("method", ["__init__", "setup", "reshape", "forward", "backward"])
    @pytest.mark.parametrize(("raised", "words"), [
        ('KeyError("my own mistake")', r"KeyError: 'my own mistake'"), ("SystemExit(0)", "SystemExit: 0"),
    ])
    def test_what_its_methods_raise(self, load, method, raised, words):
        code = textwrap.dedent(SCALE).replace("float(self.param_str)", "1.0") + textwrap.dedent(f"""
            class L(L):
                def {method}(self, *args):
                    raise {raised}
        """)
        sentence = rf"py \(Python\): its {method} fails: {words} \(.*py:\d+\)"
        with pytest.raises(RmpeError, match=sentence) as caught:
            load(textwrap.indent(code, "    "))(x(requires_grad=True))["y"].sum().backward()
        assert isinstance(caught.value.__cause__, KeyError | SystemExit)


class TestRoIDataLayer:
    """The columns of its targets depend on a setting outside the prototxt; the rest of the network tells it."""

    @staticmethod
    def shapes(folder: Path, output_dim: int) -> list[tuple[int, ...]]:
        tops = " ".join(f'top: "{top}"' for top in ("data", "rois", "labels", "targets", "within", "outside"))
        net = f'''
            layer {{ name: "data" type: "Python" {tops} python_param {{
                module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 21" }} }}
            layer {{ name: "maps" type: "Convolution" bottom: "data" top: "maps"
                convolution_param {{ num_output: {output_dim} kernel_size: 1 stride: 16 }} }}
            layer {{ name: "boxes" type: "PSROIPooling" bottom: "maps" bottom: "rois" top: "boxes"
                psroi_pooling_param {{ spatial_scale: 0.0625 output_dim: {output_dim} group_size: 1 }} }}
            layer {{ name: "loss" type: "SmoothL1LossOHEM" bottom: "boxes" bottom: "targets" bottom: "within"
                top: "loss" top: "each" }}'''
        (folder / "net.prototxt").write_text(net)
        return list(load_net(folder / "net.prototxt", phase="TRAIN", dialect="rfcn").steps[0].top_shapes)

    def test_agnostic_targets_have_8_columns(self, tmp_path):
        assert self.shapes(tmp_path, 8) == [(2, 3, 600, 1000), (1, 5, 1, 1), (1, 1, 1, 1), *[(1, 8, 1, 1)] * 3]

    def test_others_have_4_columns_a_class(self, tmp_path):
        assert self.shapes(tmp_path, 84) == [(2, 3, 600, 1000), (1, 5, 1, 1), (1, 1, 1, 1), *[(1, 84, 1, 1)] * 3]


def test_a_layer_without_bottoms_is_fed_without_its_module(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "d" type: "Python" top: "image" top: "label"
  python_param { module: "nowhere" layer: "Reader" param_str: "{'batch_size': 2}" } }
layer { name: "c" type: "Convolution" bottom: "image" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "l" }""")
    shapes = "tops are assumed to be image 2 x 3 x 256 x 256, label 2 x 1 x 256 x 256"
    with pytest.warns(UserWarning, match=shapes), pytest.warns(UserWarning, match="'nowhere' is not imported"):
        net = load_net(path)
    assert net.steps[0].top_shapes == ((2, 3, 256, 256), (2, 1, 256, 256)), "a class at each place, as the loss needs"
    assert net.notes == (f"{path}:1:1: d (Python): its Python module 'nowhere' is not imported, so pass its tops: "
                         "net(image=..., label=...); or allow the module with allow_python=True (--allow-python)",)
    assert net(image=torch.ones(1, 3, 2, 2), label=torch.zeros(1, 1, 2, 2))["l"].shape == ()
    with pytest.raises(RmpeError, match=r"its source cannot be read here; pass its tops instead: net\(image="):
        net()
    with pytest.raises(RmpeError, match="found no module 'nowhere'"):
        load_net(path, allow_python=True)


@pytest.mark.parametrize("size", ["1e400", "-1e400", "1" + 400 * "0", "'many'"])
def test_a_layer_without_bottoms_has_a_finite_batch(size: str, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(f"""layer {{ name: "d" type: "Python" top: "image"
  python_param {{ module: "nowhere" layer: "Reader" param_str: "{{'batch_size': {size}}}" }} }}""")
    with pytest.raises(RmpeError, match=r"d \(Python\): its param_str needs 'batch_size': a number"):
        load_net(path)
