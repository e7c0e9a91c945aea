"""The graph: wiring and its mistakes, parameters, gradients, what is kept and what is let go."""

import copy
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel
from torch.testing import assert_close

from rmpe_legacy import Layer, RmpeError, load_net, register
from rmpe_legacy.caffe.layers import registry

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }\n'
CONV = ('layer { name: "conv" type: "Convolution" bottom: "x" top: "y" '
        'convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }\n')


@pytest.fixture
def load(tmp_path):
    def load(text: str, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return load_net(path, **options)

    return load


def x(**options) -> torch.Tensor:
    torch.manual_seed(1701)
    return torch.randn(2, 3, 5, 4, **options)


def layer(name: str, type: str, bottom: str, top: str, rest: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{type}" bottom: "{bottom}" top: "{top}" {rest} }}\n'


SHARED = 'param { name: "w" } inner_product_param { num_output: 3 }'
MISTAKES = [  # name, layers behind INPUT, words
    ("a bottom that nobody makes", layer("r", "ReLU", "xx", "y"), "r (ReLU): no earlier layer produces its bottom "
                                                                  "'xx'; did you mean 'x'?"),
    ("a bottom made later", layer("a", "ReLU", "z", "y") + layer("b", "ReLU", "x", "z"),
     "its bottom 'z' is produced only later, by b"),
    ("a cycle", layer("a", "ReLU", "z", "y") + layer("b", "ReLU", "y", "z"), "or break the cycle"),
    ("a layer that reads itself", layer("a", "ReLU", "y", "y"), "its bottom 'y' is its own top"),
    ("one top twice", layer("a", "ReLU", "x", "y") + layer("b", "TanH", "x", "y"), "made by an earlier layer already"),
    ("too few bottoms", layer("e", "Eltwise", "x", "y"), "takes 2 or more bottoms, but is given 1"),
    ("too many tops", 'layer { name: "r" type: "ReLU" bottom: "x" top: "a" top: "b" }',
     "takes 1 top, but is given 2"),
    ("no type", 'layer { name: "r" bottom: "x" top: "y" }', "a layer needs a type"),
    ("an unknown type", layer("p", "Poling", "x", "y"), "p (Poling): unknown layer type; did you mean 'Pooling'?"),
    ("another dialect's type", layer("s", "Swish", "x", "y"),
     "'rmpe' has no such layer; dialects 'bvlc', 'intel', 'mobilenet-yolo' and 'synopsys' have it"),
    ("an unknown field", layer("p", "Pooling", "x", "y", "pooling_param { kernal_size: 2 }"),
     "PoolingParameter has no field 'kernal_size'; did you mean 'kernel_size'?"),
    ("another dialect's field", layer("p", "Pooling", "x", "y", "pooling_param { round_mode: FLOOR }"),
     "no field 'round_mode'; dialects 'bvlc', 'mobilenet-yolo' and 'synopsys' have it"),
    ("an unknown value", layer("p", "Pooling", "x", "y", "pooling_param { pool: SUM kernel_size: 2 }"),
     "PoolingParameter.pool has no value SUM"),
    ("both kinds of rules", layer("r", "ReLU", "x", "y", "include { phase: TEST } exclude { phase: TRAIN }"),
     "include rules and exclude"),
    ("propagate_down once for two", layer("e", "Eltwise", "x", "y", 'bottom: "x" propagate_down: true'),
     "propagate_down is given 1 times for 2 bottoms"),
    ("loss_weight twice for one", layer("r", "ReLU", "x", "y", "loss_weight: 1 loss_weight: 2"),
     "loss_weight is given 2 times for 1 tops"),
    ("too many params", layer("r", "ReLU", "x", "y", "param { lr_mult: 1 }"), "1 param entries for 0 parameters"),
    ("a window that does not fit", layer("c", "Convolution", "x", "y",
     "convolution_param { num_output: 2 kernel_size: 6 }"), "does not fit on a bottom of 2 x 3 x 5 x 4"),
    ("sharing unlike shapes", layer("a", "InnerProduct", "x", "y", SHARED)
     + layer("b", "InnerProduct", "y", "z", SHARED),
     "cannot share 'w': a has it as 3 x 60, but this layer needs 3 x 3"),
    ("more memory than there is", layer("a", "InnerProduct", "x", "y",
     "inner_product_param { num_output: 1000000000 }"), "parameters take"),
    ("a blob too large", layer("a", "Deconvolution", "x", "y",
     "convolution_param { num_output: 1 kernel_size: 60000 stride: 9 }"), "Caffe's blobs have up to"),
]


@pytest.mark.parametrize(("text", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_sentence_with_its_place(load, text: str, words: str):
    with pytest.raises(RmpeError) as caught:
        load(INPUT + text, dialect="rmpe")
    assert words in str(caught.value)
    assert "net.prototxt" in str(caught.value) or "parameters take" in words


class TestInputs:
    def test_names(self, load):
        net = load(INPUT + CONV)
        assert net.inputs == {"x": (2, 3, 5, 4)}
        assert net.outputs == ("y",)
        assert net(x=x())["y"].shape == net({"x": x()})["y"].shape == (2, 6, 3, 2)

    def test_what_is_wrong_with_them(self, load):
        net = load(INPUT + CONV)
        with pytest.raises(RmpeError, match=r"input 'x' is missing; give each as a tensor: net\(x=...\)"):
            net()
        with pytest.raises(RmpeError, match="no input 'z'; this network's inputs are 'x'"):
            net(x=x(), z=x())
        with pytest.raises(RmpeError, match=r"conv \(Convolution\): was set up for 3 channels"):
            net(x=torch.zeros(2, 4, 5, 4))

    def test_another_size_reshapes(self, load):
        net = load(INPUT + CONV)
        assert net(x=torch.zeros(7, 3, 9, 8))["y"].shape == (7, 6, 7, 6)
        assert net(x=x())["y"].shape == (2, 6, 3, 2)

    def test_values_take_the_parameters_dtype(self, load):
        net = load(INPUT + CONV).double()
        assert net(x=torch.ones(2, 3, 5, 4, dtype=torch.uint8))["y"].dtype == torch.float64

    def test_outputs_come_in_caffes_order(self, load):
        net = load(INPUT + layer("b", "ReLU", "x", "b") + layer("a", "TanH", "x", "a"))
        assert list(net(x=x())) == ["a", "b"]


class TestBlobs:
    TEXT = INPUT + CONV + layer("r", "ReLU", "y", "y") + layer("t", "TanH", "y", "z") + layer("a", "AbsVal", "y", "w")

    def test_kept_ones_have_caffes_names(self, load):
        net = load(self.TEXT, keep_blobs=True)
        net(x=x())
        assert set(net.blobs) == {"x", "y", "y_r_0_split_0", "y_r_0_split_1", "z", "w"}
        assert (net.blobs["y"] >= 0).all(), "an in-place blob holds what was written last"

    def test_one_that_was_not_kept_says_how_to(self, load):
        net = load(self.TEXT)
        net(x=x())
        with pytest.raises(RmpeError, match=r"set net\.keep_blobs = True"):
            _ = net.blobs["y"]
        net.keep_blobs = True
        net(x=x())
        assert net.blobs["y"].shape == (2, 6, 3, 2)

    def test_inference_lets_go_of_what_no_layer_needs(self, load):
        alive = []

        @register("Watch")
        class Watch(Layer):
            def forward(self, value):
                gc.collect()
                counts.append(sum(ref() is not None for ref in alive))
                alive.append(weakref.ref(value))
                return value + 1

        try:
            counts: list[int] = []
            chain = "".join(layer(f"w{i}", "Watch", "x" if i == 0 else f"b{i - 1}", f"b{i}") for i in range(6))
            with torch.no_grad():
                load(INPUT + chain)(x=x())
            assert max(counts) <= 1, "only the bottom at hand may be alive"
        finally:
            registry._LAYERS.pop("Watch")


class TestHooks:
    """A layer that nobody watches is not called as a torch module, because that takes a small network's time."""

    TEXT = INPUT + CONV + layer("r", "ReLU", "y", "z")

    @pytest.mark.parametrize("gradients", [False, True])
    def test_those_of_a_layer_are_called(self, load, gradients):
        net, seen = load(self.TEXT), []
        handles = [net.r.register_forward_pre_hook(lambda _, bottoms: seen.append(bottoms[0])),
                   net.r.register_forward_hook(lambda _, bottoms, top: top + 1)]
        with torch.set_grad_enabled(gradients):
            changed = net(x=x())["z"]
            for handle in handles:
                handle.remove()
            assert_close(changed, net(x=x())["z"] + 1)
        assert len(seen) == 1

    @pytest.mark.parametrize("gradients", [False, True])
    def test_those_of_all_modules_are_called(self, load, gradients):
        net, seen = load(self.TEXT), []
        handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
        try:
            with torch.set_grad_enabled(gradients):
                net(x=x())
        finally:
            handle.remove()
        assert seen == [net.conv, net.r, net]

    def test_a_layer_that_was_compiled_runs_as_such(self, load):
        net, ran = load(self.TEXT), []

        def backend(module, _):
            ran.append(module)
            return module.forward

        net.r.compile(backend=backend)
        with torch.no_grad():
            net(x=x())
        assert len(ran) == 1


class TestInputsWithoutAName:
    TWO = INPUT + 'layer { name: "im" type: "Input" top: "im_info" input_param { shape { dim: 1 dim: 3 } } }\n'

    def test_the_only_input_needs_no_name(self, load):
        net = load(INPUT + CONV)
        right = net(x=x())["y"]
        for given in (x(), x().numpy(), x().tolist(), x().double()):
            assert_close(net(given)["y"], right)

    @pytest.mark.parametrize(("text", "words"), [
        (TWO, "this one has 2; give them by name: net(x=..., im_info=...)"),
        ('layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 2 } } }',
         "this one has 0; give them by name: net(a=..., b=...)"),
        (TWO.replace('"im_info"', '"im info"'), 'this one has 2; give them by name: net(x=..., **{"im info": ...})'),
    ])
    def test_a_value_without_a_name_for_several_inputs(self, load, text, words):
        with pytest.raises(RmpeError) as caught:
            load(text)(x())
        assert words in str(caught.value)

    @pytest.mark.parametrize(("value", "words"), [
        ("photo.jpg", "input 'x' is a 'str' object"), ([[1, 2], [3]], "input 'x' is a 'list' object"),
        (object(), "input 'x' is a 'object' object"), (torch.ones(2, dtype=torch.complex64), "has no complex numbers"),
        ({"y": x()}, "no input 'y'; this network's inputs are 'x'"), ({"X": x()}, "no input 'X'; did you mean 'x'?"),
        (np.array(["a"]), "input 'x' is a 'ndarray' object"), (x()[0], "its bottom is 3 x 5 x 4"),
        (torch.tensor(1.0), "its bottom is a single value"),
    ])
    def test_a_value_that_is_no_input(self, load, value, words):
        with pytest.raises(RmpeError) as caught:
            load(INPUT + CONV)(value)
        assert words in str(caught.value)


class TestWhatTorchRefuses:
    """A layer's forward never ends in torch's own words alone."""

    @pytest.mark.parametrize("error", [RuntimeError("Bad 4D\nand more"), ValueError("Bad 4D"), IndexError("Bad 4D"),
                                       TypeError("Bad 4D"), OverflowError("Bad 4D")])
    def test_it_is_the_layers_sentence(self, load, monkeypatch, error):
        def fail(self, x):
            raise error

        net = load(INPUT + layer("t", "TanH", "x", "y"))
        monkeypatch.setattr(type(net.t), "forward", fail)
        with pytest.raises(RmpeError) as caught:
            net(x())
        said = str(caught.value)
        assert said.endswith("net.prototxt:2:1: t (TanH): torch cannot compute it on 2 x 3 x 5 x 4: Bad 4D")
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate"),
                                       torch.OutOfMemoryError("CUDA out of memory")])
    def test_memory(self, load, monkeypatch, error):
        def fail(self, x):
            raise error

        net = load(INPUT + layer("t", "TanH", "x", "y"))
        monkeypatch.setattr(type(net.t), "forward", fail)
        with pytest.raises(RmpeError, match=r"t \(TanH\): does not fit in memory: bottoms 2 x 3 x 5 x 4,") as caught:
            net(x())
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [KeyError("a"), AttributeError("b"), AssertionError("c")])
    def test_a_bug_of_ours_is_not_dressed_up(self, load, monkeypatch, error):
        def fail(self, x):
            raise error

        net = load(INPUT + layer("t", "TanH", "x", "y"))
        monkeypatch.setattr(type(net.t), "forward", fail)
        with pytest.raises(type(error)):
            net(x())

    def test_a_parameter_that_does_not_fit(self, load, monkeypatch):
        monkeypatch.setattr(torch, "empty", lambda *_: (_ for _ in ()).throw(RuntimeError("can't allocate memory")))
        with pytest.raises(RmpeError, match=r"conv \(Convolution\): its parameter weight, 6 x 3 x 3 x 3, does not fit"):
            load(INPUT + CONV)


class TestParameters:
    def test_names_and_order(self, load):
        net = load(INPUT + CONV + layer("bn.1", "BatchNorm", "y", "y"))
        assert [tuple(p.shape) for p in net.params["conv"]] == [(6, 3, 3, 3), (6,)]
        assert list(net.state_dict()) == ["conv.weight", "conv.bias", "bn_1.mean", "bn_1.variance", "bn_1.scale_factor"]
        assert [p.requires_grad for p in net.params["bn.1"]] == [False] * 3

    def test_lr_mult_0_does_not_learn(self, load):
        param = "param { lr_mult: 0 } param { lr_mult: 2 } convolution_param"
        net = load(INPUT + CONV.replace("convolution_param", param))
        assert [p.requires_grad for p in net.params["conv"]] == [False, True]

    def test_sharing_is_one_parameter(self, load):
        ip = 'param { name: "w" } inner_product_param { num_output: 60 bias_term: false }'
        net = load(INPUT + layer("a", "InnerProduct", "x", "y", ip) + layer("b", "InnerProduct", "y", "z", ip))
        assert net.params["a"][0] is net.params["b"][0]
        assert len(list(net.parameters())) == 1

    def test_random_fillers_follow_torchs_seed(self, load):
        torch.manual_seed(7)
        first = load(INPUT + CONV).params["conv"][0]
        torch.manual_seed(7)
        assert torch.equal(first, load(INPUT + CONV).params["conv"][0])

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_forward_with_gradients_leaves_nothing_that_cannot_be_copied(self, load, keep):
        net = load(INPUT + CONV + layer("r", "ReLU", "y", "y") + layer("s", "Reduction", "y", "s",
                   "reduction_param { axis: 1 } loss_weight: 2") + layer("e", "EuclideanLoss", "y", "l", 'bottom: "y"'),
                   keep_blobs=keep)
        out = net(x=x())
        loss = net.loss()
        for other in (copy.deepcopy(net), AveragedModel(net).module, pickle.loads(pickle.dumps(net))):
            assert other.blobs == {}
            with pytest.raises(RmpeError, match="the last forward had no loss"):
                other.loss()
            assert_close(other(x=x())["s"], out["s"])
            assert_close(other.loss(), loss)
        loss.backward()
        copy.deepcopy(net)
        assert net.params["conv"][0].grad.abs().sum() > 0
        assert net.blobs["s"] is out["s"], "the network itself keeps its last forward"
        assert bool(net.diffs) == keep

    def test_export_after_a_forward_with_gradients(self, load):
        net = load(INPUT + CONV + layer("r", "ReLU", "y", "y"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            right = net(x=x())["y"]
            exported = torch.export.export(net, (), {"x": x()})
            assert_close(exported.module()(x=x())["y"], right)
            assert_close(net(x=x())["y"], right)

    def test_compiled(self, load):
        net = load(INPUT + CONV + layer("r", "ReLU", "y", "y") + layer("p", "Pooling", "y", "p",
                   "pooling_param { kernel_size: 2 }"))
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        with torch.no_grad():
            assert_close(compiled(x=x())["p"], net(x=x())["p"])

    def test_a_copy_is_independent(self, load):
        net = load(INPUT + CONV)
        other = copy.deepcopy(net)
        with torch.no_grad():
            other.params["conv"][0].zero_()
            net(x=x())
        assert net.params["conv"][0].abs().sum() > 0


class TestGradients:
    def test_an_input_without_force_backward_has_none_and_is_told(self, load):
        net, value = load(INPUT + CONV), x(requires_grad=True)
        with pytest.warns(UserWarning, match="set net.force_backward = True to get it"):
            net(x=value)["y"].sum().backward()
        assert value.grad is None
        net.force_backward = True
        net(x=value)["y"].sum().backward()
        assert value.grad.abs().sum() > 0

    def test_force_backward_in_the_file(self, load):
        net, value = load("force_backward: true " + INPUT + CONV), x(requires_grad=True)
        net(x=value)["y"].sum().backward()
        assert value.grad.abs().sum() > 0

    def test_propagate_down_true_opens_an_input(self, load):
        net = load(INPUT + CONV.replace("convolution_param", "propagate_down: true convolution_param"))
        value = x(requires_grad=True)
        net(x=value)["y"].sum().backward()
        assert value.grad.abs().sum() > 0

    def test_propagate_down_false_closes_a_bottom(self, load):
        net = load(INPUT + CONV + layer("r", "ReLU", "y", "z", "propagate_down: false")
                   + layer("t", "TanH", "y", "w"))
        out = net(x=x())
        assert not out["z"].requires_grad
        assert out["w"].requires_grad

    def test_diffs_of_kept_blobs(self, load):
        net = load("force_backward: true " + INPUT + CONV + layer("r", "ReLU", "y", "y"), keep_blobs=True)
        net(x=x(requires_grad=True))["y"].sum().backward()
        assert_close(net.diffs["y"], (net.blobs["y"] > 0).float())
        assert net.diffs["x"].shape == (2, 3, 5, 4)

    def test_a_refused_gradient_is_a_sentence_when_it_is_wanted(self, load):
        @register("Picky")
        class Picky(Layer):
            bottoms = 2
            refuses = (1,)

            def forward(self, value, index):
                return value * 2

        try:
            text = INPUT + CONV + layer("p", "Picky", "y", "z", 'bottom: "y"')
            out = load(text)(x=x())["z"]
            with pytest.raises(RmpeError, match=r"p \(Picky\): cannot compute a gradient for its bottom"):
                out.sum().backward()
            closed = text.replace('top: "z"', 'top: "z" propagate_down: true propagate_down: false')
            load(closed)(x=x())["z"].sum().backward()
        finally:
            registry._LAYERS.pop("Picky")


class TestLoss:
    def test_weights_times_values(self, load):
        net = load(INPUT + CONV.replace("convolution_param", "loss_weight: 0.5 convolution_param"))
        value = net(x=x())["y"]
        assert_close(net.loss(), 0.5 * value.sum())

    def test_none(self, load):
        net = load(INPUT + CONV)
        net(x=x())
        with pytest.raises(RmpeError, match="had no loss"):
            net.loss()


class TestRules:
    TEXT = INPUT + "".join(
        layer(name, "ReLU", "x", name, rule) for name, rule in [
            ("always", ""),
            ("train", "include { phase: TRAIN }"),
            ("not_train", "exclude { phase: TRAIN }"),
            ("deep", "include { min_level: 2 max_level: 3 }"),
            ("staged", 'include { stage: "a" stage: "b" not_stage: "c" }'),
            ("either", 'include { stage: "a" } include { phase: TRAIN }'),
        ])

    @pytest.mark.parametrize(("options", "names"), [
        ({}, "always not_train"),
        ({"phase": "TRAIN"}, "always either train"),
        ({"level": 2}, "always deep not_train"),
        ({"level": 4}, "always not_train"),
        ({"stages": ["a"]}, "always either not_train"),
        ({"stages": ["a", "b"]}, "always either not_train staged"),
        ({"stages": ["a", "b", "c"]}, "always either not_train"),
    ])
    def test_choose_the_layers(self, load, options, names):
        assert " ".join(load(self.TEXT, **options).outputs) == names

    def test_wrong_choices(self, load):
        with pytest.raises(RmpeError, match="phase 'test' is not one of 'TRAIN', 'TEST'"):
            load(INPUT + CONV, phase="test")
        with pytest.raises(RmpeError, match="no dialect 'caffe2'"):
            load(INPUT + CONV, dialect="caffe2")
        with pytest.raises(RmpeError, match="de_transform 'inverse' is not one of"):
            load(INPUT + CONV, de_transform="inverse")
        with pytest.raises(RmpeError, match="no layers in phase TEST"):
            load('layer { name: "r" type: "ReLU" include { phase: TRAIN } }')


class TestRepr:
    NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "<b>" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "again" type: "Eltwise" bottom: "conv" bottom: "conv" top: "out" }
"""

    def test_print_shows_the_layers_of_the_file(self, tmp_path):
        (tmp_path / "net.prototxt").write_text(self.NET)
        lines = repr(load_net(tmp_path / "net.prototxt")).splitlines()
        assert lines[0] == "Net small: data 1 x 3 x 4 x 4 -> out"
        assert [line.split()[0] for line in lines[1:]] == ["layer", "data", "<b>", "relu", "again"]  # no Split
        assert "2 x 3 x 3 x 3, 2" in lines[3]
        assert "conv, conv" in lines[5]

    def test_a_notebook_shows_a_table(self, tmp_path):
        (tmp_path / "net.prototxt").write_text(self.NET)
        html = load_net(tmp_path / "net.prototxt")._repr_html_()
        assert html.count("<tr>") == 5
        assert "<td>&lt;b&gt;</td><td>Convolution</td><td>data -&gt; conv 1 x 2 x 2 x 2</td>" in html
