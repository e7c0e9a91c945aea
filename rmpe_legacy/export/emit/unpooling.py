"""Layers that put pooled values back in their places."""

from __future__ import annotations

import numpy as np

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import pair


@emits_onnx("Upsample=segnet")
def unpooled_onnx(ctx: OnnxContext) -> None:
    n, c, h, w = ctx.shape()
    top = ctx.graph.graph.at_own_sizes(ctx.top_shapes[0])
    flat = [ctx.node("Reshape", x, ctx.integers([n, c, h * w])) for x in ctx.x]
    index = ctx.node("Cast", flat[1], to=7)  # int64
    zeros = ctx.node("ConstantOfShape", ctx.integers([n, c, top[2] * top[3]]))
    placed = ctx.node("ScatterElements", zeros, index, flat[0], axis=2)
    ctx.output("Reshape", placed, ctx.integers(list(top)))


@emits_python("Upsample=segnet")
def unpooled_python(ctx: PythonContext) -> str:
    values, mask = ctx.x
    h, w = ctx.plane(top=True)
    return (f"{values}.new_zeros(*{values}.shape[:2], {h * w}).scatter(2, {mask}.flatten(2).long(), "
            f"{values}.flatten(2)).unflatten(2, ({h}, {w}))")


@emits_onnx("Unpooling")
def unpooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.method != "MAX":
        rows, columns = (layer.windows(axis, ctx.size()[1 + axis]).numpy() for axis in (0, 1))
        x = ctx.x[0]
        if layer.method == "AVE":
            x = ctx.node("Div", x, ctx.constant(np.outer(rows.sum(0), columns.sum(0))))
        ctx.output("MatMul", ctx.constant(rows), ctx.node("MatMul", x, ctx.constant(columns.T)))
        return
    n, c, h, w = ctx.shape()
    if len(ctx.x) > 1:
        index = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([n, c, h * w])), to=7)  # int64
    else:
        index = ctx.node("Expand", ctx.integers(layer.corners(h, w).tolist()), ctx.integers([n, c, h * w]))
    zeros = ctx.node("ConstantOfShape", ctx.integers([n, c, layer.size[0] * layer.size[1]]))
    placed = ctx.node("ScatterElements", zeros, index, ctx.node("Reshape", ctx.x[0], ctx.integers([n, c, h * w])),
                      axis=2)
    ctx.output("Reshape", placed, ctx.integers([n, c, *layer.size]))


@emits_python("Unpooling")
def unpooling_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    if layer.method != "MAX":
        return ctx.call("spread", x, pair(layer.kernel), pair(layer.stride), pair(layer.size),
                        f"divide={layer.method == 'AVE'}")
    h, w = ctx.plane()
    index = f"{ctx.x[1]}.flatten(2).long()" if len(ctx.x) > 1 else \
        f"{ctx.writer.buffer(layer, layer.corners(h, w))}.expand(*{x}.shape[:2], -1)"
    return (f"{x}.new_zeros(*{x}.shape[:2], {layer.size[0] * layer.size[1]}).scatter(2, {index}, {x}.flatten(2))"
            f".unflatten(2, {pair(layer.size)})")
