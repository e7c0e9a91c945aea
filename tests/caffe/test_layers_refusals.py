"""What Caffe CHECKs: each refusal is one sentence that names layer, type and reason. All of these abort in Caffe."""

import pytest
import torch
from one_layer import layer, net_of

from rmpe_legacy import RmpeError

X = (2, 3, 4, 5)


def of(type: str, param: str = "", x=X, bottom: str = "", top: str = "y", rest: str = "", **options):
    """One refusal: a layer with `param` in its parameter message, on inputs x, z, w of these shapes."""
    shapes = dict(zip("xzw", x if isinstance(x, list) else [x], strict=False))
    return layer(type, bottom or " ".join(shapes), top, f"{rest} {param}"), shapes, options


def conv(param: str):
    return of("Convolution", f"convolution_param {{ num_output: 4 {param} }}")


def pool(param: str):
    return of("Pooling", f"pooling_param {{ {param} }}")


def filler(param: str, **options):
    return of("InnerProduct", f"inner_product_param {{ num_output: 3 weight_filler {{ {param} }} }}", (2, 4), **options)


LSTM = "recurrent_param { num_output: 3 }"
EXPOSED = "recurrent_param { num_output: 3 expose_hidden: true }"
REFUSED = {
    "convolution without kernel": (conv(""), "kernel_size is given 0 times for 2 spatial axes"),
    "kernel_size and kernel_h": (conv("kernel_size: 3 kernel_h: 3"), "give kernel_size, or kernel_h and kernel_w"),
    "kernel_h alone": (conv("kernel_h: 3"), "give kernel_size, or kernel_h and kernel_w"),
    "kernel 0": (conv("kernel_size: 0"), "kernel_size must not be 0"),
    "stride 0": (conv("kernel_size: 2 stride: 0"), "stride must not be 0"),
    "stride_h alone": (conv("kernel_size: 2 stride_h: 1"), "give stride, or stride_h and stride_w"),
    "pad and pad_h": (conv("kernel_size: 2 pad_h: 1 pad: 0"), "give pad, or pad_h and pad_w"),
    "three kernels for two axes": (conv("kernel_size: 2 kernel_size: 2 kernel_size: 2"), "is given 3 times for 2"),
    "three dilations": (conv("kernel_size: 2 dilation: 1 dilation: 2 dilation: 1"), "dilation is given 3 times for 2"),
    "a window that does not fit": (conv("kernel_size: 9"), "does not fit on a bottom of 2 x 3 x 4 x 5"),
    "group that does not divide": (conv("group: 2 kernel_size: 1"), "must be multiples of group 2"),
    "group 0": (conv("group: 0 kernel_size: 1"), "must be multiples of group 0"),
    "axis outside": (conv("kernel_size: 1 axis: 4"), "axis 4 is outside a bottom with 4 axes"),
    "no num_output": (of("Convolution", "convolution_param { kernel_size: 1 }"), "num_output must be given"),
    "deconvolution of nothing": (of("Deconvolution", "convolution_param { num_output: 1 kernel_size: 1 pad: 2 }"),
                                 "pad removes the whole top"),
    "im2col without an axis": (of("Im2col", "convolution_param { kernel_size: 1 axis: 3 }"), "needs an axis after"),
    "pooling without kernel": (pool(""), "give kernel_size, or kernel_h and kernel_w"),
    "pooling kernel_h alone": (pool("kernel_h: 2"), "give kernel_size, or kernel_h and kernel_w"),
    "pooling both": (pool("kernel_h: 2 kernel_w: 2 kernel_size: 2"), "give kernel_size, or kernel_h and kernel_w"),
    "pooling pad_h alone": (pool("kernel_size: 2 pad_h: 1"), "give pad, or pad_h and pad_w"),
    "pooling pad as wide as the kernel": (pool("kernel_size: 2 pad: 2"), "must be smaller than the kernel"),
    "stochastic with pad": (pool("kernel_size: 2 pad: 1 pool: STOCHASTIC"), "Caffe pads MAX and AVE only"),
    "global with a kernel": (pool("global_pooling: true kernel_h: 2"), "global_pooling takes the bottom's size"),
    "global with a stride": (pool("global_pooling: true stride: 2"), "needs stride 1 and pad 0"),
    "a mask of averages": (of("Pooling", "pooling_param { kernel_size: 2 pool: AVE }", top="y m"), "only MAX gives"),
    "pooling three axes": (of("Pooling", "pooling_param { kernel_size: 2 }", (2, 3, 4)), "needs a bottom (N, C, H, W)"),
    "even local_size": (of("LRN", "lrn_param { local_size: 4 }"), "local_size 4 is even"),
    "LRN of three axes": (of("LRN", "", (2, 3, 4)), "needs a bottom (N, C, H, W)"),
    "MVN of five axes": (of("MVN", "", (2, 3, 4, 5, 2)), "at most 4 axes"),
    "a pyramid of height 0": (of("SPP", "spp_param { pyramid_height: 0 }"), "pyramid_height must be given"),
    "too high a pyramid": (of("SPP", "spp_param { pyramid_height: 3 }", (2, 3, 5, 5)), "lower pyramid_height"),
    "reduction axis": (of("Reduction", "reduction_param { axis: -5 }"), "axis -5 is outside"),
    "top_k 0": (of("ArgMax", "argmax_param { top_k: 0 }"), "top_k is 0; give 1 to 60"),
    "top_k too large": (of("ArgMax", "argmax_param { axis: 1 top_k: 4 }"), "top_k is 4; give 1 to 3"),
    "embed without input_dim": (of("Embed", "embed_param { num_output: 3 }", (2, 3)), "input_dim and num_output"),
    "tile without tiles": (of("Tile"), "tiles must be given"),
    "crop outside": (of("Crop", "crop_param { offset: 1 }", [X, (2, 3, 4, 4)]), "reaches outside"),
    "crop offsets": (of("Crop", "crop_param { offset: 1 offset: 1 offset: 1 }", [X, X]), "offset is given 3 times"),
    "crop to fewer axes": (of("Crop", "", [X, (2, 3)]), "needs as many axes"),
    "selector of two columns": (of("Filter", "", [X, (2, 2)]), "one number per sample"),
    "selector of another length": (of("Filter", "", [X, (3,)]), "its selector has 3 entries"),
    "filter tops": (of("Filter", "", [X, (2,)], top="y v"), "one top per bottom"),
    "indices of two axes": (of("BatchReindex", "", [X, (2, 1)]), "one axis of indices"),
    "slice both axes": (of("Slice", "slice_param { axis: 1 slice_dim: 1 }", top="a b"), "give axis or slice_dim"),
    "slice at the end": (of("Slice", "slice_param { slice_point: 3 }", top="a b"), "increasing indices inside"),
    "slice unevenly": (of("Slice", "", top="a b"), "do not divide an axis of 3 evenly"),
    "concat unlike": (of("Concat", "", [X, (2, 3, 4, 6)]), "must agree in all but axis 1"),
    "flatten backwards": (of("Flatten", "flatten_param { axis: 3 end_axis: 1 }"), "lies before axis 3"),
    "reshape to another count": (of("Reshape", "reshape_param { shape { dim: 7 } }"), "cannot be reshaped to 7"),
    "two unknowns": (of("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"), "may contain -1 once"),
    "permute twice": (of("Permute", "permute_param { order: 1 order: 1 }"), "at most once"),
    "exp base": (of("Exp", "exp_param { base: -2 }"), "base -2.0 is not positive"),
    "log base 1": (of("Log", "log_param { base: 1 }"), "base 1 has no logarithm"),
    "dropout over 1": (of("Dropout", "dropout_param { dropout_ratio: 1.5 }", phase="TRAIN"),
                       "must be at least 0 and less than 1"),
    "PReLU of one axis": (of("PReLU", "", (5,)), "at least 2 axes"),
    "BatchNorm of one axis": (of("BatchNorm", "", (5,)), "needs a bottom with channels"),
    "BatchNorm that learns": (of("BatchNorm", "", (5, 2), rest="param { lr_mult: 1 }", dialect="ssd"), "not learned"),
    "scale axes": (of("Scale", "scale_param { axis: 2 num_axes: 3 }"), "num_axes 3 from axis 2 is outside"),
    "scale of another size": (of("Scale", "", [X, (4,)]), "an operand of 4 does not fit axis 1"),
    "coefficients": (of("Eltwise", "eltwise_param { coeff: 1 }", [X, X]), "1 coefficients for 2 bottoms"),
    "coefficients of a product": (of("Eltwise", "eltwise_param { operation: PROD coeff: 1 coeff: 2 }", [X, X]), "SUM"),
    "eltwise unlike": (of("Eltwise", "", [X, (2, 3, 4)]), "its bottoms differ in shape"),
    "too few labels": (of("SoftmaxWithLoss", "", [X, (2,)]), "needs 40 labels"),
    "another batch": (of("SoftmaxWithLoss", "", [X, (40,)]), "must have the same first axis"),
    "softmax's second top": (of("SoftmaxWithLoss", "", [(2, 3), (2,)], top="y v"), "has 2 tops; give loss_weight for"),
    "unlike rows": (of("EuclideanLoss", "", [(2, 3), (2, 4)]), "same number of values per row"),
    "five axes": (of("HingeLoss", "", [(2, 3, 1, 1, 1), (2,)]), "at most 4 axes"),
    "labels of two columns": (of("MultinomialLogisticLoss", "", [(2, 3), (2, 3)]), "one label per row"),
    "pairs of another size": (of("ContrastiveLoss", "", [(2, 3), (2, 4), (2,)]), "(N, C), (N, C) and (N)"),
    "a flat matrix": (of("InfogainLoss", "", [(2, 3), (2,), (3, 3)]), "a matrix of 1 x 1 x 3 x 3"),
    "no matrix": (of("InfogainLoss", "", [(2, 3), (2,)]), "give infogain_loss_param.source, or a third bottom"),
    "two tops, one weight": (of("InfogainLoss", "", [(2, 3), (2,), (1, 1, 3, 3)], top="y v", dialect="bvlc"),
                             "give loss_weight for each"),
    "more than all classes": (of("Accuracy", "accuracy_param { top_k: 4 }", [(2, 3), (2,)]), "more than the 3 classes"),
    "no size": (of("LSTM", "", [(4, 2, 3), (4, 2)]), "num_output must be given"),
    "steps without values": (of("RNN", LSTM, [(4, 2), (4, 2)]), "needs a first bottom (T, N, ...)"),
    "other streams": (of("LSTM", LSTM, [(4, 2, 3), (4, 3)]), "4 steps of 2 streams"),
    "states that are not given": (of("LSTM", EXPOSED, [(4, 2, 3), (4, 2)], top="y a b"), "takes 4 to 5 bottoms"),
    "states that are not taken": (of("RNN", EXPOSED, [(4, 2, 3), (4, 2), (1, 2, 3)]), "takes 2 tops"),
    "gates of another size": (of("LSTMUnit", "", [(1, 2, 3), (1, 2, 3), (1, 2)], top="c h"), "(1, N, 4 D)"),
    "an unknown filler": (filler('type: "nope"'), "unknown filler 'nope'"),
    "the fork's filler in another": (filler('type: "nearest"', dialect="ssd"), "unknown filler 'nearest'"),
    "sparse where it is not known": (filler('type: "xavier" sparse: 1'), "does not support sparse"),
    "sparser than there is": (filler('type: "gaussian" sparse: 4'), "sparse 4 is not in 0 to 3"),
    "std 0": (filler('type: "gaussian" std: 0'), "std 0.0 is not positive"),
    "from 1 to 0": (filler('type: "uniform" min: 1 max: 0'), "min must not exceed max"),
    "a filler that is not square": (filler('type: "bilinear"'), "needs a blob (N, C, K, K)"),
    "no file": (filler('type: "file" file: "nowhere.txt"'), "nowhere.txt: No such file or directory"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_one_sentence(name: str):
    (layers, shapes, options), words = REFUSED[name]
    with pytest.raises(RmpeError) as caught:
        net_of(layers, shapes, **options)
    message = str(caught.value)
    assert words in message
    assert ": layer (" in message
    assert "\n" not in message


@pytest.mark.parametrize("type", ["AbsVal", "Flatten", "Split", "Reduction", "Pooling", "Convolution", "ArgMax"])
def test_in_place_where_caffe_does_not_work_in_place(type: str):
    with pytest.raises(RmpeError, match="cannot work in place; give its top another name"):
        net_of(layer(type, "x", "x", "convolution_param { num_output: 3 kernel_size: 1 } "
                     "pooling_param { kernel_size: 1 }"), X)


ABORTS = {  # what has no Backward
    "ArgMax": (layer("ArgMax"), {"x": (2, 3)}, "x"),
    "Threshold": (layer("Threshold"), {"x": (2, 3)}, "x"),
    "Accuracy": (layer("Accuracy", "x l"), {"x": (2, 3), "l": (2,)}, "x"),
    "Embed": (layer("Embed", rest="embed_param { num_output: 2 input_dim: 3 }"), {"x": (2,)}, "x"),
    "Filter": (layer("Filter", "x s"), {"x": (2, 3), "s": (2,)}, "s"),
    "BatchReindex": (layer("BatchReindex", "x i"), {"x": (2, 3), "i": (2,)}, "i"),
}


@pytest.mark.parametrize("name", ABORTS)
def test_backward_aborts(name: str):
    layers, shapes, asked = ABORTS[name]
    net = net_of(layers, shapes)
    values = {k: torch.ones(s).requires_grad_(k == asked or name == "Filter") for k, s in shapes.items()}
    with pytest.raises(RmpeError, match=f"{name}.*cannot compute a gradient for its bottom '{asked}'"):
        sum(v.sum() for v in net({k: v * 0 if k != "x" else v for k, v in values.items()}).values()).backward()


OUTSIDE = {  # values for which the published code reads outside its blobs
    "SoftmaxWithLoss": (layer("SoftmaxWithLoss", "x l"), {"x": torch.ones(2, 3), "l": torch.tensor([0.0, 3])},
                        "its labels go from 0 to 3; its classes go from 0 to 2"),
    "HingeLoss": (layer("HingeLoss", "x l"), {"x": torch.ones(2, 3), "l": torch.tensor([0.0, -1])},
                  "its labels go from -1 to 0"),
    "MultinomialLogisticLoss": (layer("MultinomialLogisticLoss", "x l"),
                                {"x": torch.ones(2, 3), "l": torch.tensor([9.0, 1])}, "its labels go from 1 to 9"),
    "Accuracy with a second top": (layer("Accuracy", "x l", "a c"),
                                   {"x": torch.ones(2, 3), "l": torch.tensor([9.0, 1])}, "labels outside its classes"),
    "Embed": (layer("Embed", rest="embed_param { num_output: 2 input_dim: 3 }"), {"x": torch.tensor([0.0, 3])},
              "indices from 0 to 3; its table has rows 0 to 2"),
    "BatchReindex": (layer("BatchReindex", "x i"), {"x": torch.ones(2, 3), "i": torch.tensor([0.0, 2])},
                     "its indices go from 0 to 2; its samples go from 0 to 1"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_values_outside(name: str):
    layers, values, words = OUTSIDE[name]
    net = net_of(layers, {k: tuple(v.shape) for k, v in values.items()})
    with pytest.raises(RmpeError, match=words):
        net(values)
