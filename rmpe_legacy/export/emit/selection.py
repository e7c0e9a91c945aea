"""Layers that choose values or samples."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import BOOL, FLOAT, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import reshape_arguments


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
