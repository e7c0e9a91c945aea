"""Layers that divide by a norm or a deviation; batch normalisation is in batch_norm.py."""

from __future__ import annotations

import math

from rmpe_legacy.caffe.layers.norm import LEAST

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, reshape_arguments


@emits_onnx("LRN")
def lrn_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.across and not layer.in_place and min(layer.alpha, layer.beta, layer.k) > 0:
        ctx.output("LRN", *ctx.x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    squares, pad, k = ctx.node("Mul", ctx.x[0], ctx.x[0]), layer.size // 2, 1.0
    if layer.across:
        k, (channels, h, w) = layer.k, ctx.size()
        planes = ctx.node("Reshape", squares, ctx.integers([-1, 1, channels, h * w]))
        mean = ctx.node("AveragePool", planes, kernel_shape=[layer.size, 1], pads=[pad, 0, pad, 0], count_include_pad=1)
        mean = ctx.node("Reshape", mean, ctx.integers([-1, channels, h, w]))
    else:
        mean = ctx.node("AveragePool", squares, kernel_shape=[layer.size] * 2, pads=[pad] * 4, count_include_pad=1)
    base = ctx.node("Add", ctx.node("Mul", mean, ctx.constant(layer.alpha)), ctx.constant(k))
    factor = ctx.node("Pow", base, ctx.constant(-layer.beta))
    # In place and across channels, the published code reads back values it has just written: see layers.lrn.
    ctx.output("Mul", factor if layer.across and layer.in_place else ctx.x[0], factor)


@emits_python("LRN")
def lrn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(ctx.x[0], layer.size, f"alpha={number(layer.alpha)}", f"beta={number(layer.beta)}",
                       k=(number(layer.k if layer.across else 1), "1"))
    if layer.across and not layer.in_place:
        return f"F.local_response_norm({inside})"
    return ctx.call("response_norm", inside, f"across={layer.across}", f"in_place={layer.across and layer.in_place}")


@emits_onnx("MVN")
def mvn_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    if len(ctx.bottom_shapes[0]) < 4:
        x = ctx.graph.reshape(x, ctx.bottom_shapes[0], ctx.top_shapes[0])
    axes = ctx.integers([1, 2, 3] if layer.across else [2, 3])
    mean = ctx.node("ReduceMean", x, axes)
    if not layer.by_deviation:
        ctx.output("Sub", x, mean)
        return
    centred = ctx.node("Sub", x, mean)
    deviation = ctx.node("Sqrt", ctx.node("ReduceMean", ctx.node("Mul", centred, centred), axes))
    ctx.output("Div", centred, ctx.node("Add", deviation, ctx.constant(layer.eps)))


@emits_python("MVN")
def mvn_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    if len(ctx.bottom_shapes[0]) < 4:
        x = f"{x}.reshape({reshape_arguments(x, ctx.bottom_shapes[0], ctx.top_shapes[0])})"
    return ctx.call("mean_variance_norm", x, f"across={layer.across}", f"variance={layer.by_deviation}",
                    f"eps={number(layer.eps)}")


@emits_onnx("Normalize", "Normalize=pixelnet")
def normalize_onnx(ctx: OnnxContext) -> None:
    layer, dims = ctx.layer, len(ctx.bottom_shapes[0])
    axes = ctx.integers(list(range(1, dims)) if layer.across_spatial else [1])
    squares = ctx.node("ReduceSumSquare", ctx.x[0], axes)
    norm = ctx.node("Sqrt", ctx.node("Add", squares, ctx.constant(layer.eps)))
    scale = ctx.weight(0, () if layer.channel_shared else (-1, *[1] * (dims - 2)))
    ctx.output("Mul", ctx.node("Div", ctx.x[0], norm), scale)


@emits_python("Normalize", "Normalize=pixelnet")
def normalize_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.part("Normalize", "scale", arguments=arguments(
        *layer.declared[0].shape, eps=(number(layer.eps), "1e-10"), whole=(str(layer.across_spatial), "False")))


_UNIT_ROWS = ("L2Normalize", "NormalizationL2", "Normalize=crn")


@emits_onnx(*_UNIT_ROWS)
def l2_normalize_onnx(ctx: OnnxContext) -> None:
    total = ctx.node("Mul", ctx.x[0], ctx.x[0])
    if axes := [*range(1, len(ctx.bottom_shapes[0]))]:  # without any, ONNX would add up all of them
        total = ctx.node("ReduceSum", total, ctx.integers(axes))
    ctx.output("Div", ctx.x[0], ctx.node("Sqrt", ctx.node("Add", total, ctx.constant(ctx.layer.epsilon))))


@emits_python(*_UNIT_ROWS)
def l2_normalize_python(ctx: PythonContext) -> str:
    axes = tuple(range(1, len(ctx.bottom_shapes[0])))
    total = f".sum({axes}, keepdim=True)" if axes else ""  # without any, torch would add up all of them
    return f"{ctx.x[0]} / ({ctx.x[0]}.square(){total} + {ctx.layer.epsilon!r}).sqrt()"


@emits_onnx("Intranorm")
def intranorm_onnx(ctx: OnnxContext) -> None:
    rest = ctx.size()
    parts = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, ctx.layer.parts, math.prod(rest) // ctx.layer.parts]))
    total = ctx.node("ReduceSum", ctx.node("Mul", parts, parts), ctx.integers([2]))
    unit = ctx.node("Div", parts, ctx.node("Sqrt", ctx.node("Add", total, ctx.constant(ctx.layer.epsilon))))
    ctx.output("Reshape", unit, ctx.integers([-1, *rest]))


@emits_python("Intranorm")
def intranorm_python(ctx: PythonContext) -> str:
    return ctx.call("unit_parts", ctx.x[0], ctx.layer.parts, repr(ctx.layer.epsilon))


def four_axes_onnx(ctx: OnnxContext) -> str:
    """The bottom as N x C x H x W; missing axes are 1."""
    missing = list(range(len(ctx.bottom_shapes[0]), 4))
    return ctx.node("Unsqueeze", ctx.x[0], ctx.integers(missing)) if missing else ctx.x[0]


def four_axes_python(ctx: PythonContext) -> str:
    x, have = ctx.x[0], ctx.bottom_shapes[0]
    return x if len(have) == 4 else f"{x}.reshape({reshape_arguments(x, have, ctx.top_shapes[0])})"


@emits_onnx("Normalize=happynear")
def normalize_channels_onnx(ctx: OnnxContext) -> None:
    x, axis = four_axes_onnx(ctx), ctx.integers([1])
    if ctx.layer.kind == "L2":
        norm = ctx.node("Sqrt", ctx.node("Add", ctx.node("ReduceSum", ctx.node("Mul", x, x), axis), ctx.constant(1e-6)))
    else:
        norm = ctx.node("Add", ctx.node("ReduceSum", ctx.node("Abs", x), axis), ctx.constant(1e-6))
    ctx.output("Div", x, norm)
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [norm], [ctx.y[1]])


@emits_python("Normalize=happynear")
def normalize_channels_python(ctx: PythonContext) -> str:
    x = four_axes_python(ctx)
    call = ctx.call("normalize_channels", x, f"by_absolute={ctx.layer.kind == 'L1'}")
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_onnx("Norm")
def norm_onnx(ctx: OnnxContext) -> None:
    x = four_axes_onnx(ctx)
    length = ctx.node("Sqrt", ctx.node("ReduceSumSquare", x, ctx.integers([1])))
    ctx.output("Div", x, ctx.node("Add", length, ctx.constant(LEAST)))


@emits_python("Norm")
def norm_python(ctx: PythonContext) -> str:
    x = four_axes_python(ctx)
    return f"{x} / ({x}.square().sum(1, keepdim=True).sqrt() + {number(LEAST)})"


@emits_onnx("MultiSoftmax")
def multi_softmax_onnx(ctx: OnnxContext) -> None:
    ctx.output("Softmax", four_axes_onnx(ctx), axis=1)


@emits_python("MultiSoftmax")
def multi_softmax_python(ctx: PythonContext) -> str:
    return f"{four_axes_python(ctx)}.softmax(1)"


@emits_onnx("NormL2")
def norm_l2_onnx(ctx: OnnxContext) -> None:
    x = four_axes_onnx(ctx)
    energy = ctx.node("ReduceSum", ctx.node("Mul", x, x), ctx.integers([1, 2, 3]))
    ctx.output("Div", x, ctx.node("Sqrt", ctx.node("Add", energy, ctx.constant(1e-7))))


@emits_python("NormL2")
def norm_l2_python(ctx: PythonContext) -> str:
    x = four_axes_python(ctx)
    return f"{x} / ({x}.square().sum((1, 2, 3), keepdim=True) + 1e-7).sqrt()"


@emits_onnx("GRN")
def response_onnx(ctx: OnnxContext) -> None:
    x = ctx.x[0]
    energy = ctx.node("ReduceSumSquare", x, ctx.integers([1]))
    ctx.output("Div", x, ctx.node("Sqrt", ctx.node("Add", energy, ctx.constant(ctx.layer.bias))))


@emits_python("GRN")
def response_python(ctx: PythonContext) -> str:
    x = ctx.x[0]
    return f"{x} / ({x}.square().sum(1, keepdim=True) + {number(ctx.layer.bias)}).sqrt()"


@emits_onnx("Python=Norm2Layer", "Python=L2NormLayer")
def row_norm_onnx(ctx: OnnxContext) -> None:
    x = ctx.x[0]
    if extra := list(range(2, len(ctx.bottom_shapes[0]))):
        x = ctx.node("Squeeze", x, ctx.integers(extra))
    length = ctx.node("Sqrt", ctx.node("ReduceSum", ctx.node("Mul", x, x), ctx.integers([1])))
    is_zero = ctx.node("Equal", length, ctx.constant(0))
    ctx.output("Div", x, ctx.node("Where", is_zero, ctx.constant(1), length))


@emits_python("Python=Norm2Layer", "Python=L2NormLayer")
def row_norm_python(ctx: PythonContext) -> str:
    x = f"{ctx.x[0]}.flatten(1)"
    length = f"{x}.norm(dim=1, keepdim=True)"
    return f"{x} / {length}.masked_fill({length} == 0, 1)"


@emits_onnx("GroupNorm")
def group_norm_onnx(ctx: OnnxContext) -> None:
    groups = ctx.node("Reshape", ctx.x[0], ctx.integers([0, ctx.layer.groups, -1]))
    centred = ctx.node("Sub", groups, ctx.node("ReduceMean", groups, ctx.integers([2])))
    variance = ctx.node("ReduceMean", ctx.node("Mul", centred, centred), ctx.integers([2]))
    normal = ctx.node("Div", centred, ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(ctx.layer.eps))))
    ctx.output("Reshape", normal, ctx.sizes_of(ctx.x[0], 0))


@emits_python("GroupNorm")
def group_norm_python(ctx: PythonContext) -> str:
    return f"F.group_norm({ctx.x[0]}, {ctx.layer.groups}, eps={number(ctx.layer.eps)})"
