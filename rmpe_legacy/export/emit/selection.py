"""Layers that choose values or samples."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import BOOL, FLOAT, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import pair, reshape_arguments


@emits_onnx("ArgMax")
def argmax_onnx(ctx: OnnxContext) -> None:
    layer, x, along = ctx.layer, ctx.x[0], ctx.layer.along
    if along is None:
        x, along = ctx.node("Flatten", x), 1
    size = int(np.prod(ctx.size())) if layer.along is None else ctx.bottom_shapes[0][along]
    if not isinstance(size, int):
        ctx.fix_batch("looks for the largest values along the batch")
        return
    # Of equal values the last comes first; TopK takes the first, so the axis is reversed.
    turned = ctx.node("Slice", x, *map(ctx.integers, ([-1], [-size - 1], [along], [-1])))
    values, places = ctx.graph.nodes_of("TopK", [turned, ctx.integers([layer.top_k])], 2, axis=along)
    places = ctx.node("Cast", ctx.node("Sub", ctx.integers(size - 1), places), to=FLOAT)
    if layer.along is not None:
        ctx.output("Identity", values if layer.values else places)
    elif layer.values:
        both = [ctx.node("Unsqueeze", part, ctx.integers([1])) for part in (places, values)]
        ctx.graph.reshape(ctx.node("Concat", *both, axis=1), (), ctx.top_shapes[0], ctx.y[0])
    else:
        ctx.graph.reshape(places, (), ctx.top_shapes[0], ctx.y[0])


@emits_python("ArgMax")
def argmax_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    x, axis = (ctx.x[0], layer.along) if layer.along is not None else (f"{ctx.x[0]}.reshape(len({ctx.x[0]}), -1)", 1)
    found = ctx.call("largest", x, axis, layer.top_k)
    if layer.along is not None:
        return f"{found}[{0 if layer.values else 1}]"
    target = reshape_arguments(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0])
    if layer.values:
        return f"torch.stack({found}[::-1], 1).reshape({target})"
    return f"{found}[1].reshape({target})"


@emits_onnx("BatchReindex")
def batch_reindex_onnx(ctx: OnnxContext) -> None:
    ctx.output("Gather", ctx.x[0], ctx.node("Cast", ctx.x[1], to=INT64), axis=0)


@emits_python("BatchReindex")
def batch_reindex_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}[{ctx.x[1]}.long()]"


@emits_onnx("Filter")
def filter_onnx(ctx: OnnxContext) -> None:
    *blobs, selector = ctx.x
    chosen = ctx.node("Cast", ctx.node("Reshape", selector, ctx.integers([-1])), to=BOOL)
    for x, y, shape in zip(blobs, ctx.y, ctx.top_shapes, strict=True):
        ctx.graph.node("Compress", [x, chosen], [y], axis=0)
        ctx.graph.shapes[y] = ("samples", *shape[1:])


@emits_python("Filter")
def filter_python(ctx: PythonContext) -> str:
    *blobs, selector = ctx.x
    return ", ".join(f"{x}[{selector}.flatten() != 0]" for x in blobs)


@emits_onnx("Python=ArgmaxLayer")
def likeliest_class_onnx(ctx: OnnxContext) -> None:
    ctx.output("Cast", ctx.node("ArgMax", ctx.x[0], axis=1, keepdims=0), to=FLOAT)


@emits_python("Python=ArgmaxLayer")
def likeliest_class_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.argmax(1).to({ctx.x[0]})"


@emits_onnx("MaskOutputs")
def mask_outputs_onnx(ctx: OnnxContext) -> None:
    layer, (_, channels, h, w) = ctx.layer, (*ctx.bottom_shapes[0], 1, 1, 1)[:4]
    used = layer.classes * layer.size
    x = ctx.maps()
    if used != channels:
        x = ctx.node("Slice", x, *map(ctx.integers, ([0], [used], [1])))
    x = ctx.graph.reshape(x, ctx.bottom_shapes[0], (ctx.bottom_shapes[0][0], layer.classes, layer.size, h, w))
    own = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([-1, 1])), to=INT64)
    if ctx.bottom_shapes[1] != ctx.bottom_shapes[0][:1]:
        own = ctx.node("Slice", own, ctx.integers([0]), ctx.sizes_of(x, 0, 1), ctx.integers([0]))
    ctx.output("GatherND", x, own, batch_dims=1)


@emits_python("MaskOutputs")
def mask_outputs_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.maps()
    return ctx.call("own_classes", x, ctx.x[1], layer.classes, layer.size)


@emits_onnx("SpatialWta")
def spatial_wta_onnx(ctx: OnnxContext) -> None:
    x, (_, h, w) = ctx.x[0], ctx.size()
    kernel, stride = ctx.layer.windows_in((h, w))
    if kernel is None:
        wins = ctx.node("ConstantOfShape", ctx.sizes_of(x, 0))
    else:
        _, place = ctx.graph.nodes_of("MaxPool", [ctx.node("Abs", x)], 2, kernel_shape=list(kernel),
                                      strides=list(stride))
        flat = ctx.integers([0, 0, -1])
        place = ctx.node("Mod", ctx.node("Reshape", place, flat), ctx.integers(h * w))  # they run through all planes
        planes = ctx.node("ConstantOfShape", ctx.node("Concat", ctx.sizes_of(x, 0, 2), ctx.integers([h * w]), axis=0))
        ones = ctx.node("Expand", ctx.constant(1.0), ctx.sizes_of(place, 0))
        wins = ctx.node("Reshape", ctx.node("ScatterElements", planes, place, ones, axis=2), ctx.sizes_of(x, 0))
    ctx.output("Where", ctx.node("Cast", wins, to=BOOL), x, ctx.constant(0.0))
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [wins], [ctx.y[1]])


@emits_python("SpatialWta")
def spatial_wta_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    windows = () if layer.whole else (pair(layer.kernel), pair(layer.stride))
    both = ctx.call("winners", ctx.x[0], *windows)
    return both if len(ctx.top_shapes) > 1 else f"{both}[0]"
