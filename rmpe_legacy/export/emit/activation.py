"""Functions of single values, and Softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.scale_tanh import FIRST
from rmpe_legacy.caffe.layers.weak_segmentation import LEAST

from ..graph import Dims
from ..onnx_graph import FLOAT
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, bracketed, number, reshape_arguments


@emits_onnx("ReLU", "ReLURecover")
def relu_onnx(ctx: OnnxContext) -> None:
    if slope := ctx.layer.negative_slope:
        ctx.output("LeakyRelu", *ctx.x, alpha=slope)
    else:
        ctx.output("Relu", *ctx.x)


@emits_python("ReLU", "ReLURecover")
def relu_python(ctx: PythonContext) -> str:
    slope = ctx.layer.negative_slope
    return f"F.leaky_relu({ctx.x[0]}, {number(slope)})" if slope else f"F.relu({ctx.x[0]})"


@emits_onnx("ReLU=deconvnet")
def relu_with_mask_onnx(ctx: OnnxContext) -> None:
    relu_onnx(ctx)
    if len(ctx.y) > 1:
        positive = ctx.node("Greater", ctx.x[0], ctx.constant(0.0))
        ctx.graph.node("Cast", [positive], [ctx.y[1]], to=FLOAT)


@emits_python("ReLU=deconvnet")
def relu_with_mask_python(ctx: PythonContext) -> str:
    y, x = relu_python(ctx), ctx.x[0]
    return f"{y}, ({x} > 0).to({x})" if len(ctx.top_shapes) > 1 else y


@emits_onnx("ReLU=capped")
def capped_relu_onnx(ctx: OnnxContext) -> None:
    """nan gives 0: it is not equal to itself."""
    layer, slope = ctx.layer, ctx.layer.negative_slope
    known = ctx.node("Where", ctx.node("Equal", ctx.x[0], ctx.x[0]), ctx.x[0], ctx.constant(0.0))
    y = ctx.node("LeakyRelu", known, alpha=slope) if slope else ctx.node("Relu", known)
    for limit in layer.limits:
        y = ctx.node("Min", y, ctx.constant(limit))
    if len(ctx.x) > 1:
        first = ctx.node("Gather", ctx.node("Reshape", ctx.x[1], ctx.integers([-1])), ctx.integers([0]))
        limited = ctx.node("Min", y, first)
        y = ctx.node("Where", ctx.node("Greater", first, ctx.constant(0.0)), limited, y)
    if layer.minimum:
        y = ctx.node("Max", y, ctx.constant(layer.minimum))
    ctx.output("Identity", y)


@emits_python("ReLU=capped")
def capped_relu_python(ctx: PythonContext) -> str:
    layer, slope = ctx.layer, ctx.layer.negative_slope
    if len(ctx.x) > 1:
        raise ctx.refuse("has a second bottom, its maximum")
    y = f"F.leaky_relu({ctx.x[0]}, {number(slope)})" if slope else f"F.relu({ctx.x[0]})"
    y += "".join(f".clamp(max={number(limit)})" for limit in layer.limits)
    return y + (f".clamp(min={number(layer.minimum)})" if layer.minimum else "")


@emits_onnx("PReLU")
def prelu_onnx(ctx: OnnxContext) -> None:
    ctx.output("PRelu", *ctx.x, ctx.weight(0, (-1, *[1] * (len(ctx.bottom_shapes[0]) - 2))))


@emits_python("PReLU")
def prelu_python(ctx: PythonContext) -> str:
    return ctx.part("PReLU", "slope", arguments=arguments(*ctx.layer.declared[0].shape))


@emits_onnx("ELU")
def elu_onnx(ctx: OnnxContext) -> None:
    ctx.output("Elu", *ctx.x, alpha=ctx.layer.alpha)


@emits_python("ELU")
def elu_python(ctx: PythonContext) -> str:
    return f"F.elu({arguments(ctx.x[0], alpha=(number(ctx.layer.alpha), '1'))})"


@emits_onnx("SeLu", "SeLU")
def selu_onnx(ctx: OnnxContext) -> None:
    ctx.output("Selu", *ctx.x, alpha=ctx.layer.alpha, gamma=ctx.layer.scale)


@emits_python("SeLu", "SeLU")
def selu_python(ctx: PythonContext) -> str:
    return f"{number(ctx.layer.scale)} * F.elu({arguments(ctx.x[0], alpha=(number(ctx.layer.alpha), '1'))})"


@emits_onnx("Mish")
def mish_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.x[0], ctx.node("Tanh", ctx.node("Softplus", ctx.x[0])))


@emits_python("Mish")
def mish_python(ctx: PythonContext) -> str:
    return f"F.mish({ctx.x[0]})"


@emits_onnx("Sigmoid")
def sigmoid_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.dialect == "bvlc":
        _sigmoid_bvlc_onnx(ctx, ctx.x[0], ctx.y)
    else:
        accurate_sigmoid_onnx(ctx, ctx.x[0], ctx.y)


def accurate_sigmoid_onnx(ctx: OnnxContext, x: str, y: Sequence[str] | int = 1) -> str:
    """Not ONNX's Sigmoid: onnxruntime approximates it, with large relative errors for small values."""
    return ctx.graph.node("Reciprocal", [ctx.node("Add", ctx.node("Exp", ctx.node("Neg", x)), ctx.constant(1))], y)


def _sigmoid_bvlc_onnx(ctx: OnnxContext, x: str, y: Sequence[str] | int = 1) -> str:
    """BVLC's 0.5 tanh(0.5 x) + 0.5."""
    half = ctx.constant(0.5)
    return ctx.graph.node("Add", [ctx.node("Mul", ctx.node("Tanh", ctx.node("Mul", x, half)), half), half], y)


@emits_python("Sigmoid")
def sigmoid_python(ctx: PythonContext) -> str:
    return f"torch.sigmoid({ctx.x[0]})" if ctx.layer.spec.dialect != "bvlc" else _sigmoid_bvlc_python(ctx.x[0])


def _sigmoid_bvlc_python(x: str) -> str:
    return f"(0.5 * torch.tanh(0.5 * {x}) + 0.5)"


@emits_onnx("Swish")
def swish_onnx(ctx: OnnxContext) -> None:
    x, beta = ctx.x[0], ctx.layer.beta
    ctx.output("Mul", x, _sigmoid_bvlc_onnx(ctx, x if beta == 1 else ctx.node("Mul", x, ctx.constant(beta))))


@emits_python("Swish")
def swish_python(ctx: PythonContext) -> str:
    beta = number(ctx.layer.beta)
    return f"{ctx.x[0]} * {_sigmoid_bvlc_python(ctx.x[0] if beta == '1' else f'({beta} * {ctx.x[0]})')}"


@emits_onnx("TanH")
def tanh_onnx(ctx: OnnxContext) -> None:
    ctx.output("Tanh", *ctx.x)


@emits_python("TanH")
def tanh_python(ctx: PythonContext) -> str:
    return f"torch.tanh({ctx.x[0]})"


@emits_onnx("Cos")
def cos_onnx(ctx: OnnxContext) -> None:
    ctx.output("Cos", *ctx.x)


@emits_python("Cos")
def cos_python(ctx: PythonContext) -> str:
    return f"torch.cos({ctx.x[0]})"


@emits_onnx("AbsVal")
def abs_onnx(ctx: OnnxContext) -> None:
    ctx.output("Abs", *ctx.x)


@emits_python("AbsVal")
def abs_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.abs()"


@emits_onnx("BNLL")
def bnll_onnx(ctx: OnnxContext) -> None:
    ctx.output("Softplus", *ctx.x)


@emits_python("BNLL")
def bnll_python(ctx: PythonContext) -> str:
    return ctx.call("bnll", ctx.x[0])


@emits_onnx("Power")
def power_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.diff_scale == 0:
        with np.errstate(all="ignore"):
            value = 1.0 if layer.power == 0 else float(np.float32(layer.shift) ** np.float32(layer.power))
        ctx.output("Expand", ctx.constant(value), ctx.node("Shape", *ctx.x))
        return
    _chain(ctx, ctx.x[0], ("Mul", layer.scale, 1), ("Add", layer.shift, 0), ("Pow", layer.power, 1))


@emits_python("Power")
def power_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    if layer.diff_scale == 0:
        with np.errstate(all="ignore"):
            value = 1.0 if layer.power == 0 else np.float32(layer.shift) ** np.float32(layer.power)
        return f"torch.full_like({x}, {number(float(value))})"
    inner = _times_plus(x, layer.scale, layer.shift)
    return inner if layer.power == 1 else f"({inner}) ** {bracketed(layer.power)}"


@emits_onnx("Exp")
def exp_onnx(ctx: OnnxContext) -> None:
    _chain(ctx, ctx.x[0], ("Mul", ctx.layer.inner, 1), ("Exp", None, None), ("Mul", ctx.layer.outer, 1))


@emits_python("Exp")
def exp_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inner = ctx.x[0] if layer.inner == 1 else f"{ctx.x[0]} * {number(layer.inner)}"
    return f"torch.exp({inner})" + ("" if layer.outer == 1 else f" * {number(layer.outer)}")


@emits_onnx("Log")
def log_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    inner = ("Mul", layer.scale, 1), ("Add", layer.shift, 0)
    _chain(ctx, ctx.x[0], *inner, ("Log", None, None), ("Mul", layer.factor, 1))


def _chain(ctx: OnnxContext, x: str, *steps: tuple[str, float | None, float | None]) -> None:
    """Chain operators, each (op, constant, neutral constant), skipping neutral ones; the last gives the top."""
    needed = [step for step in steps if step[1] is None or step[1] != step[2]] or [("Identity", None, None)]
    for i, (op, value, _) in enumerate(needed):
        inputs = [x] if value is None else [x, ctx.constant(value)]
        x = ctx.graph.node(op, inputs, ctx.y if i == len(needed) - 1 else 1)


@emits_python("Log")
def log_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inner = _times_plus(ctx.x[0], layer.scale, layer.shift)
    return f"torch.log({inner})" + ("" if layer.factor == 1 else f" * {number(layer.factor)}")


def _times_plus(x: str, scale: float, shift: float) -> str:
    x = x if scale == 1 else f"{x} * {bracketed(scale)}"
    return x if shift == 0 else f"{x} + {number(shift)}" if shift > 0 else f"{x} - {number(-shift)}"


@emits_onnx("Threshold")
def threshold_onnx(ctx: OnnxContext) -> None:
    limit = ctx.constant(ctx.layer.spec.get("threshold_param").threshold)
    ctx.output("Cast", ctx.node("Greater", *ctx.x, limit), to=FLOAT)


@emits_python("Threshold")
def threshold_python(ctx: PythonContext) -> str:
    return f"({ctx.x[0]} > {number(ctx.layer.spec.get('threshold_param').threshold)}).to({ctx.x[0]}.dtype)"


@emits_onnx("Clip", "Trunc")
def clip_onnx(ctx: OnnxContext) -> None:
    low, high = ctx.constant(ctx.layer.min), ctx.constant(ctx.layer.max)
    if ctx.layer.min <= ctx.layer.max:
        ctx.output("Clip", *ctx.x, low, high)
    else:  # Caffe applies the lower limit last
        ctx.output("Max", ctx.node("Min", *ctx.x, high), low)


@emits_python("Clip", "Trunc")
def clip_python(ctx: PythonContext) -> str:
    low, high = ctx.layer.min, ctx.layer.max
    if low <= high:
        return f"{ctx.x[0]}.clamp({number(low)}, {number(high)})"
    return f"{ctx.x[0]}.clamp(max={number(high)}).clamp(min={number(low)})"


@emits_onnx("Dropout")
def dropout_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    if not layer.drops:
        _chain(ctx, x, ("Mul", layer.scale, 1))
        return
    inputs = x, ctx.constant(layer.ratio), ctx.graph.constant(True, np.bool_)
    factor = _unscaled(layer)
    if factor == 1:
        ctx.output("Dropout", *inputs)
    else:
        ctx.output("Mul", ctx.node("Dropout", *inputs), ctx.constant(factor))


def _unscaled(layer: Layer) -> float:
    """What the values that a usual Dropout keeps are multiplied by."""
    return 1 if layer.scale != 1 else 1 - layer.ratio


@emits_onnx("SeLuDropout", "SeLUDropout", "ScaleFilter", "GuidedDropout", "GradientScaler=ganin",
            "GradientScaler=da-faster-rcnn", "GradientSilent")
def unchanged_onnx(ctx: OnnxContext) -> None:
    ctx.output("Identity", ctx.x[0])


@emits_python("SeLuDropout", "SeLUDropout", "ScaleFilter", "GuidedDropout", "GradientScaler=ganin",
              "GradientScaler=da-faster-rcnn", "GradientSilent")
def unchanged_python(ctx: PythonContext) -> str:
    return ctx.x[0]


@emits_python("Dropout")
def dropout_python(ctx: PythonContext) -> str:
    if ctx.layer.drops:
        call, factor = f"F.dropout({ctx.x[0]}, {number(ctx.layer.ratio)}, training=True)", _unscaled(ctx.layer)
        return call if factor == 1 else f"{call} * {number(factor)}"
    dropped = f"{ctx.writer.module(ctx.layer, f'nn.Dropout({number(ctx.layer.ratio)})', {})}({ctx.x[0]})"
    # nn.Dropout scales in training, so the product is what a layer that does not scale there computes
    return dropped if ctx.layer.scale == 1 else f"{dropped} * {number(ctx.layer.scale)}"


@emits_onnx("Softmax", "VoxelSoftmax")
def softmax_onnx(ctx: OnnxContext) -> None:
    ctx.output("Softmax", *ctx.x, axis=ctx.layer.along)


@emits_python("Softmax", "VoxelSoftmax")
def softmax_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.softmax({ctx.layer.along})"


def _places(ctx: EmitContext) -> tuple[tuple[int, ...], Dims]:
    """The shape of the places along a softmax's axis, as they broadcast, and that of its widths."""
    along, shape = ctx.layer.along, ctx.bottom_shapes[0]
    size = shape[along]
    if not isinstance(size, int):
        raise ctx.refuse("the axis of its softmax is written for one size only")
    return (size, *[1] * (len(shape) - along - 1)), (*shape[:along], 1, *shape[along + 1 :])


@emits_onnx("Softmax=up-down")
def softmax_of_first_onnx(ctx: OnnxContext) -> None:
    x = ctx.x[0]
    if len(ctx.x) > 1:
        place, widths = _places(ctx)
        width = ctx.graph.reshape(ctx.x[1], ctx.bottom_shapes[1], widths)
        hidden = ctx.node("GreaterOrEqual", ctx.constant(np.arange(place[0]).reshape(place)), width)
        x = ctx.node("Where", hidden, ctx.constant(-math.inf), x)
    ctx.output("Softmax", x, axis=ctx.layer.along)


@emits_python("Softmax=up-down")
def softmax_of_first_python(ctx: PythonContext) -> str:
    if len(ctx.x) == 1:
        return softmax_python(ctx)
    x, (place, widths) = ctx.x[0], _places(ctx)
    width = f"{ctx.x[1]}.reshape({reshape_arguments(ctx.x[1], ctx.bottom_shapes[1], widths)})"
    places = f"torch.arange({place[0]}, device={x}.device).view{place}" if len(place) > 1 else \
        f"torch.arange({place[0]}, device={x}.device)"
    return f'{x}.masked_fill({places} >= {width}, float("-inf")).softmax({ctx.layer.along})'


@emits_onnx("Python=SoftmaxLayer")
def softmax_with_least_onnx(ctx: OnnxContext) -> None:
    x = ctx.node("Add", ctx.node("Softmax", *ctx.x, axis=1), ctx.constant(LEAST))
    ctx.output("Div", x, ctx.node("ReduceSum", x, ctx.integers([1])))


@emits_python("Python=SoftmaxLayer")
def softmax_with_least_python(ctx: PythonContext) -> str:
    return f"F.normalize({ctx.x[0]}.softmax(1) + {number(LEAST)}, p=1, dim=1)"


@emits_onnx("NegReLU")
def neg_relu_onnx(ctx: OnnxContext) -> None:
    slope = ctx.layer.spec.get("relu_param").negative_slope
    if slope:
        ctx.output("Neg", ctx.node("LeakyRelu", ctx.node("Neg", ctx.x[0]), alpha=slope))
    else:
        ctx.output("Min", ctx.x[0], ctx.constant(0.0))


@emits_python("NegReLU")
def neg_relu_python(ctx: PythonContext) -> str:
    slope = ctx.layer.spec.get("relu_param").negative_slope
    return f"-F.leaky_relu(-{ctx.x[0]}, {number(slope)})" if slope else f"{ctx.x[0]}.clamp(max=0)"


@emits_onnx("ReLU6")
def relu6_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("relu6_param" if ctx.layer.spec.has("relu6_param") else "relu_param")
    slope = param.negative_slope
    x = ctx.node("LeakyRelu", ctx.x[0], alpha=slope) if slope else ctx.node("Relu", ctx.x[0])
    ctx.output("Min", x, ctx.constant(6.0))


@emits_python("ReLU6")
def relu6_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("relu6_param" if ctx.layer.spec.has("relu6_param") else "relu_param")
    if param.negative_slope:
        return f"F.leaky_relu({ctx.x[0]}, {number(param.negative_slope)}).clamp(max=6)"
    return f"F.relu6({ctx.x[0]})"


def _insanity_alpha(ctx: EmitContext) -> float:
    """What Insanity multiplies negative values by in TEST: one over the logarithmic mean of its bounds."""
    layer = ctx.layer
    if layer.spec.phase == "TRAIN":
        raise ctx.refuse("is in phase TRAIN, where its slopes are random")
    slope = (layer.high - layer.low) / (math.log(abs(layer.high)) - math.log(abs(layer.low)))
    return 1 / slope


@emits_onnx("Insanity")
def insanity_onnx(ctx: OnnxContext) -> None:
    ctx.output("LeakyRelu", ctx.x[0], alpha=_insanity_alpha(ctx))


@emits_python("Insanity")
def insanity_python(ctx: PythonContext) -> str:
    return f"F.leaky_relu({ctx.x[0]}, {number(_insanity_alpha(ctx))})"


@emits_onnx("SignedSqrt")
def signed_sqrt_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.node("Sign", ctx.x[0]), ctx.node("Sqrt", ctx.node("Abs", ctx.x[0])))


@emits_python("SignedSqrt")
def signed_sqrt_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.sign() * {ctx.x[0]}.abs().sqrt()"


@emits_onnx("Sparsify")
def sparsify_onnx(ctx: OnnxContext) -> None:
    limit = float(ctx.layer.threshold)
    ctx.output("Sub", ctx.x[0], ctx.node("Clip", ctx.x[0], ctx.constant(-limit), ctx.constant(limit)))


@emits_python("Sparsify")
def sparsify_python(ctx: PythonContext) -> str:
    limit = number(ctx.layer.threshold)
    return f"{ctx.x[0]} - {ctx.x[0]}.clamp(-{limit}, {limit})"


@emits_onnx("Python=SpatialDropoutLayer")
def spatial_dropout_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.x[0], ctx.constant(_kept_share(ctx)))


@emits_python("Python=SpatialDropoutLayer")
def spatial_dropout_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]} * {number(_kept_share(ctx))}"


def _kept_share(ctx: EmitContext) -> float:
    if ctx.layer.drops:
        raise ctx.refuse(ctx.layer.not_exportable)
    return 1 / (1 - ctx.layer.p)


@emits_onnx("ScaleTanH")
def scale_tanh_onnx(ctx: OnnxContext) -> None:
    ctx.output("Tanh", ctx.node("Mul", ctx.x[0], ctx.constant(ctx.layer.scale(FIRST))))


@emits_python("ScaleTanH")
def scale_tanh_python(ctx: PythonContext) -> str:
    return f"({bracketed(ctx.layer.scale(FIRST))} * {ctx.x[0]}).tanh()"


@emits_onnx("DeconvReLU")
def deconv_relu_onnx(ctx: OnnxContext) -> None:
    ctx.output("LeakyRelu", ctx.x[0], alpha=ctx.layer.spec.get("deconvrelu_param").negative_slope)


@emits_python("DeconvReLU")
def deconv_relu_python(ctx: PythonContext) -> str:
    return f"F.leaky_relu({ctx.x[0]}, {number(ctx.layer.spec.get('deconvrelu_param').negative_slope)})"


def _ends(ctx: EmitContext) -> tuple[float, float]:
    """The least and the largest value that a layer leaves as it is."""
    if ctx.layer.spec.type == "BReLU":
        param = ctx.layer.spec.get("brelu_param")
        return param.minval, param.maxval
    param = ctx.layer.spec.get("truncation_param")
    return param.truncation_min, param.truncation_max


@emits_onnx("BReLU", "Truncation")
def cut_onnx(ctx: OnnxContext) -> None:
    low, high = _ends(ctx)
    ctx.output("Min", ctx.node("Max", ctx.x[0], ctx.constant(low)), ctx.constant(high))


@emits_python("BReLU", "Truncation")
def cut_python(ctx: PythonContext) -> str:
    low, high = _ends(ctx)
    return f"{ctx.x[0]}.clamp(min={number(low)}).clamp(max={number(high)})"


@emits_onnx("ReLU2B")
def relu2b_onnx(ctx: OnnxContext) -> None:
    param, x = ctx.layer.spec.get("relu_param"), ctx.x[0]
    thresh, one, two, three = (ctx.constant(v) for v in (param.thresh, *(i * np.float32(param.delta)
                                                                         for i in (1, 2, 3))))
    upper = ctx.node("Where", ctx.node("LessOrEqual", x, ctx.constant(2.5 * param.delta)), two, three)
    steps = ctx.node("Where", ctx.node("LessOrEqual", x, ctx.constant(1.5 * param.delta)), one, upper)
    ctx.output("Where", ctx.node("LessOrEqual", x, thresh), ctx.constant(0.0), steps)


@emits_python("ReLU2B")
def relu2b_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("relu_param")
    return ctx.call("four_steps", ctx.x[0], number(param.thresh), number(param.delta))


@emits_onnx("Noise")
def noise_onnx(ctx: OnnxContext) -> None:
    ctx.output("Identity", ctx.x[0])


@emits_python("Noise")
def noise_python(ctx: PythonContext) -> str:
    return ctx.x[0]
