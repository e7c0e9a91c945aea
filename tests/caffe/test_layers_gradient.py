"""Layers whose published Backward is the derivative: gradcheck in double precision, and tensors of any strides."""

import pytest
import torch
from one_layer import layer, net_of, normal
from torch.autograd import gradcheck
from torch.testing import assert_close

X = (2, 3, 5, 4)
FILL = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" }'
RECURRENT = f"recurrent_param {{ num_output: 3 {FILL} }}"
LAYERS = {
    "ReLU": (layer("ReLU", rest="relu_param { negative_slope: 0.2 }"), X),
    "PReLU": (layer("PReLU"), X),
    "ELU": (layer("ELU", rest="elu_param { alpha: 0.7 }"), X),
    "Sigmoid": (layer("Sigmoid"), X),
    "TanH": (layer("TanH"), X),
    "AbsVal": (layer("AbsVal"), X),
    "BNLL": (layer("BNLL"), X),
    "Power": (layer("Power", rest="power_param { power: 2 scale: 0.5 shift: 3 }"), X),
    "Exp": (layer("Exp", rest="exp_param { base: 2 scale: 0.5 shift: 0.25 }"), X),
    "Log": (layer("Log", rest="log_param { base: 2 scale: 0.25 shift: 4 }"), X),
    "Eltwise sum": (layer("Eltwise", "x z", rest="eltwise_param { coeff: 0.5 coeff: -2 }"), {"x": X, "z": X}),
    "Eltwise product": (layer("Eltwise", "x z", rest="eltwise_param { operation: PROD }"), {"x": X, "z": X}),
    "Eltwise maximum": (layer("Eltwise", "x z", rest="eltwise_param { operation: MAX }"), {"x": X, "z": X}),
    "Softmax": (layer("Softmax"), X),
    "Scale": (layer("Scale", "x z", rest='scale_param { bias_term: true bias_filler { value: 2 } }'),
              {"x": X, "z": (3, 5)}),
    "BatchNorm": (layer("BatchNorm", rest="batch_norm_param { use_global_stats: false }"), X),
    "LRN across": (layer("LRN", rest="lrn_param { local_size: 3 alpha: 0.5 k: 2 }"), X),
    "LRN within": (layer("LRN", rest="lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"), X),
    "MVN": (layer("MVN", rest="mvn_param { across_channels: true }"), X),
    "Pooling maximum": (layer("Pooling", rest="pooling_param { kernel_size: 3 stride: 2 pad: 1 }"), X),
    "Pooling average": (layer("Pooling", rest="pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }"), X),
    "SPP": (layer("SPP", rest="spp_param { pyramid_height: 2 pool: AVE }"), X),
    "Convolution": (layer("Convolution", rest=f"convolution_param {{ num_output: 4 kernel_size: 2 {FILL} }}"), X),
    "Convolution over four axes": (
        layer("Convolution", rest=f"convolution_param {{ num_output: 2 kernel_size: 2 pad: 1 {FILL} }}"),
        (1, 2, 2, 3, 2, 3)),
    "Deconvolution over four axes": (
        layer("Deconvolution", rest=f"convolution_param {{ num_output: 2 kernel_size: 2 stride: 2 {FILL} }}"),
        (1, 2, 2, 1, 2, 3)),
    "InnerProduct": (layer("InnerProduct", rest=f"inner_product_param {{ num_output: 4 {FILL} }}"), X),
    "Crop": (layer("Crop", "x z", rest="crop_param { offset: 1 }"), {"x": X, "z": (2, 3, 2, 3)}),
    "Tile": (layer("Tile", rest="tile_param { tiles: 2 }"), X),
    "Reduction": (layer("Reduction", rest="reduction_param { operation: SUMSQ axis: 2 coeff: 0.5 }"), X),
    "BatchReindex": (layer("BatchReindex", "x i"), {"x": X, "i": (4,)}),
    "RNN": (layer("RNN", "x c", rest=RECURRENT), {"x": (3, 2, 4), "c": (3, 2)}),
    "LSTM": (layer("LSTM", "x c", rest=RECURRENT), {"x": (3, 2, 4), "c": (3, 2)}),
    "LSTMUnit": (layer("LSTMUnit", "x g c", "cell hidden"), {"x": (1, 2, 3), "g": (1, 2, 12), "c": (1, 2)}),
    "EuclideanLoss": (layer("EuclideanLoss", "x z"), {"x": (3, 4), "z": (3, 4)}),
    "SigmoidCrossEntropyLoss": (layer("SigmoidCrossEntropyLoss", "x label"), {"x": (3, 4), "label": (3, 4)}),
    "SoftmaxWithLoss": (layer("SoftmaxWithLoss", "x label"), {"x": (3, 4, 2), "label": (3, 2)}),
    "HingeLoss": (layer("HingeLoss", "x label", rest="hinge_loss_param { norm: L2 }"), {"x": (3, 4), "label": (3,)}),
}
FIXED = {"c": lambda s: (torch.arange(s[0] * s[1]).view(s) % 3 != 0).double(),  # values that take no gradient
         "i": lambda s: torch.tensor([1.0, 0, 1, 1]).double(),
         "label": lambda s: (torch.arange(torch.Size(s).numel()) % 2).view(s).double()}


@pytest.mark.parametrize("name", LAYERS)
class TestGradient:
    def network(self, name: str):
        """The network, the values of the inputs that take a gradient, and a function of these."""
        layers, shapes = LAYERS[name]
        shapes = {"x": shapes} if isinstance(shapes, tuple) else shapes
        torch.manual_seed(1701)
        net = net_of(layers, shapes).double()
        fixed = {k: FIXED[k](s) for k, s in shapes.items() if k in FIXED}
        free = {k: normal(*s, seed=i, dtype=torch.float64) for i, (k, s) in enumerate(shapes.items()) if k not in FIXED}

        def run(*values):
            for module in net.modules():
                if hasattr(module, "reset"):
                    module.reset()
            return tuple(net({**fixed, **dict(zip(free, values, strict=True))}).values())

        return free, run

    def test_is_the_derivative(self, name: str):
        free, run = self.network(name)
        if name == "Crop":
            run, free = (lambda x, rest=run: rest(x, normal(2, 3, 2, 3, dtype=torch.float64))), {"x": free["x"]}
        assert gradcheck(run, [v.requires_grad_() for v in free.values()])

    def test_is_the_same_for_other_strides(self, name: str):
        free, run = self.network(name)
        values = [v.requires_grad_() for v in free.values()]
        strided = [v.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for v in values]
        tops, tops_strided = run(*values), run(*strided)
        for a, b in zip(tops, tops_strided, strict=True):
            assert_close(a, b)
        sum(t.sin().sum() for t in tops).backward()
        sum(t.sin().sum() for t in tops_strided).backward()
        for a, b in zip(values, strided, strict=True):
            assert_close(a.grad, b.grad)


def test_a_layer_that_is_not_differentiated_makes_no_graph():
    net = net_of(layer("Sigmoid") + layer("ReLU", "y", "y", name="relu"), X)
    with torch.no_grad():
        y = net(x=normal(*X).requires_grad_())["y"]
    assert not y.requires_grad
    assert not hasattr(y, "memories")
