"""Sums weighed by attention or by assignments, scales by numbers, and what stands beside them."""

from __future__ import annotations

import numpy as np

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number
from .rearrangement import INT64_MAX


@emits_onnx("Netvlad")
def netvlad_onnx(ctx: OnnxContext) -> None:
    clusters, dims = ctx.layer.size
    share = ctx.node("Reshape", ctx.x[0], ctx.integers([0, clusters, -1]))
    feature = ctx.node("Transpose", ctx.node("Reshape", ctx.x[1], ctx.integers([0, dims, -1])), perm=[0, 2, 1])
    total = ctx.node("ReduceSum", share, ctx.integers([2]))
    own = ctx.node("Add", ctx.node("MatMul", share, feature), ctx.node("Mul", total, ctx.weight(0)))
    ctx.output("Flatten", own)


@emits_python("Netvlad")
def netvlad_python(ctx: PythonContext) -> str:
    return ctx.call("netvlad", *ctx.x, ctx.writer.buffer(ctx.layer, ctx.layer.blobs()[0].detach()))


@emits_onnx("Spfilter")
def spfilter_onnx(ctx: OnnxContext) -> None:
    places = ctx.x[-1]
    if len(ctx.bottom_shapes[-1]) != 4 or ctx.bottom_shapes[-1][1] != 1:
        places = ctx.node("Reshape", places, ctx.integers([-1, 1, *ctx.size()[1:]]))
    for x, y in zip(ctx.x[:-1], ctx.y, strict=True):
        ctx.graph.node("Mul", [x, places], [y])


@emits_python("Spfilter")
def spfilter_python(ctx: PythonContext) -> str:
    *values, places = ctx.x
    return ", ".join(f"{x} * {places}.reshape(len({x}), 1, *{x}.shape[2:])" for x in values)


@emits_onnx("LinearSum")
def linear_sum_onnx(ctx: OnnxContext) -> None:
    dims = len(ctx.bottom_shapes[0])
    product = ctx.node("Mul", *ctx.x) if dims > 2 else ""
    if product:
        ctx.output("ReduceSum", product, ctx.integers(list(range(2, dims))), keepdims=0)
    else:
        ctx.output("Mul", *ctx.x)


@emits_python("LinearSum")
def linear_sum_python(ctx: PythonContext) -> str:
    x, weight = ctx.x
    axes = tuple(range(2, len(ctx.bottom_shapes[0])))
    return f"({x} * {weight}).sum({axes})" if axes else f"{x} * {weight}"


@emits_onnx("FilterSum")
def filter_sum_onnx(ctx: OnnxContext) -> None:
    weight = ctx.x[1]
    if len(ctx.bottom_shapes[1]) == 2:
        weight = ctx.node("Unsqueeze", weight, ctx.integers([2, 3]))
    ctx.output("ReduceSum", ctx.node("Mul", ctx.x[0], weight), ctx.integers([1]))


@emits_python("FilterSum")
def filter_sum_python(ctx: PythonContext) -> str:
    x, weight = ctx.x
    return f"({x} * {weight}.reshape(*{x}.shape[:2], 1, 1)).sum(1, keepdim=True)"


@emits_onnx("Scale=transfernet")
def scale_by_factor_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.factor is None:
        ctx.output("Mul", *ctx.x)
        return
    for x, y in zip(ctx.x, ctx.y, strict=True):
        ctx.graph.node("Mul", [x, ctx.constant(ctx.layer.factor)], [y])


@emits_python("Scale=transfernet")
def scale_by_factor_python(ctx: PythonContext) -> str:
    if ctx.layer.factor is None:
        return f"{ctx.x[0]} * {ctx.x[1]}"
    return ", ".join(f"{x} * {number(ctx.layer.factor)}" for x in ctx.x)


@emits_onnx("ConstScale")
def const_scale_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("const_scale_param")
    ctx.output("Add", ctx.node("Mul", ctx.x[0], ctx.constant(param.scale)), ctx.constant(param.bias))


@emits_python("ConstScale")
def const_scale_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("const_scale_param")
    return f"{ctx.x[0]} * {number(param.scale)} + {number(param.bias)}"


@emits_onnx("SplitChannel")
def split_channel_onnx(ctx: OnnxContext) -> None:
    ctx.output("Slice", ctx.maps(), *map(ctx.integers, ([0], [ctx.layer.kept], [1])))


@emits_python("SplitChannel")
def split_channel_python(ctx: PythonContext) -> str:
    return f"{ctx.maps()}[:, :{ctx.layer.kept}]"


@emits_onnx("ChannelReduce")
def channel_reduce_onnx(ctx: OnnxContext) -> None:
    c, h, w = (*ctx.size(), 1, 1)[:3]
    groups = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, ctx.layer.kept, c // ctx.layer.kept, h, w]))
    is_sum = ctx.layer.spec.get("channel_reduce_param").operation == "SUM"
    ctx.output("ReduceSum" if is_sum else "ReduceMax", groups, ctx.integers([2]), keepdims=0)


@emits_python("ChannelReduce")
def channel_reduce_python(ctx: PythonContext) -> str:
    how = "sum" if ctx.layer.spec.get("channel_reduce_param").operation == "SUM" else "amax"
    return f"{ctx.maps()}.unflatten(1, ({ctx.layer.kept}, -1)).{how}(2)"


@emits_onnx("Sum")
def sum_onnx(ctx: OnnxContext) -> None:
    ctx.output("Sum", *ctx.x)


@emits_python("Sum")
def sum_python(ctx: PythonContext) -> str:
    return " + ".join(ctx.x) if len(ctx.x) > 1 else f"{ctx.x[0]}.clone()"


@emits_onnx("MIL")
def mil_onnx(ctx: OnnxContext) -> None:
    channels = ctx.size()[0]
    groups = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, ctx.layer.each, channels]))
    largest = ctx.node("ReduceMax", groups, ctx.integers([1]), keepdims=0)
    ctx.output("Unsqueeze", largest, ctx.integers([2, 3]))


@emits_python("MIL")
def mil_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.reshape(-1, {ctx.layer.each}, {ctx.x[0]}.shape[1]).amax(1)[..., None, None]"


@emits_onnx("StripDecimals")
def strip_decimals_onnx(ctx: OnnxContext) -> None:
    whole = ctx.node("Floor", ctx.node("Abs", ctx.x[0]))
    ctx.output("Mul", ctx.node("Sign", ctx.x[0]), whole)


@emits_python("StripDecimals")
def strip_decimals_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.trunc()"


@emits_onnx("Convert")
def convert_onnx(ctx: OnnxContext) -> None:
    steps = ctx.size()[-1]
    rows = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, steps]))
    ctx.output("Transpose", rows, perm=[2, 0, 1])
    first = np.ones((steps, 1), np.float32)
    first[0] = 0
    batch = ctx.node("Slice", ctx.node("Shape", ctx.x[0]), *map(ctx.integers, ([0], [1])))
    size = ctx.node("Concat", ctx.integers([steps]), batch, axis=0)
    ctx.graph.node("Expand", [ctx.constant(first), size], [ctx.y[1]])


@emits_python("Convert")
def convert_python(ctx: PythonContext) -> str:
    return ctx.call("as_sequence", ctx.x[0])


@emits_onnx("GlobalSumPooling")
def sum_over_rows_onnx(ctx: OnnxContext) -> None:
    ctx.output("ReduceSum", ctx.x[0], ctx.integers([0]))


@emits_python("GlobalSumPooling")
def sum_over_rows_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.sum(0, keepdim=True)"


@emits_onnx("AttPooling")
def att_pooling_onnx(ctx: OnnxContext) -> None:
    """Place by place of the windows: all at once, they would take as much memory as there are places."""
    layer, x = ctx.layer, ctx.x[0]
    if pad := layer.pad:
        x = ctx.node("Pad", x, ctx.integers([0, 0, pad, pad] * 2))
    if layer.everywhere:
        x = ctx.node("Slice", x, *map(ctx.integers, ([0, 0], [INT64_MAX] * 2, [2, 3], [layer.dilation] * 2)))
        window, weight = (ctx.node("Reshape", value, ctx.integers([0, 0, -1])) for value in (x, ctx.x[1]))
        ctx.output("Reshape", ctx.node("MatMul", window, weight), ctx.integers([0, 0, *ctx.size(1)[1:]]))
        return
    cells, *grid = ctx.size(1)
    weights = ctx.graph.nodes_of("Split", [ctx.x[1], ctx.integers([1] * cells)], cells, axis=1)
    parts = []
    for cell, weight in enumerate(weights):
        begin = [start * layer.dilation for start in divmod(cell, layer.kernel)]
        end = [first + (size - 1) * layer.stride + 1 for first, size in zip(begin, grid, strict=True)]
        part = ctx.node("Slice", x, *map(ctx.integers, (begin, end, [2, 3], [layer.stride] * 2)))
        parts.append(ctx.node("Mul", part, weight))
    ctx.output("Sum", *parts)


@emits_python("AttPooling")
def att_pooling_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    settings = {name: (str(getattr(layer, name)), default)
                for name, default in (("pad", "0"), ("stride", "1"), ("dilation", "1"))}
    if layer.everywhere:
        del settings["stride"]
    return ctx.call("attend_everywhere" if layer.everywhere else "attend", arguments(*ctx.x, **settings))
