"""Layers that put pooled values back in their places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..onnx_graph import INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import pair


@emits_onnx("Upsample=segnet")
def unpooled_onnx(ctx: OnnxContext) -> None:
    _, h, w = ctx.size()
    mask = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([0, 0, h * w])), to=INT64)
    _place(ctx, mask, ctx.graph.graph.at_own_sizes(ctx.top_shapes[0][2:]))


def _place(ctx: OnnxContext, index: str, size: Sequence[int]) -> None:
    """Write the top: the first bottom's values at places (N, C, H * W) of planes of 0 of this size."""
    _, h, w = ctx.size()
    zeros = ctx.node("ConstantOfShape", ctx.node("Concat", ctx.sizes_of(ctx.x[0], 0, 2),
                                                 ctx.integers([math.prod(size)]), axis=0))
    values = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, h * w]))
    ctx.output("Reshape", ctx.node("ScatterElements", zeros, index, values, axis=2), ctx.integers([0, 0, *size]))


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
    _, h, w = ctx.size()
    if len(ctx.x) > 1:
        index = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([0, 0, h * w])), to=INT64)
    else:
        shape = ctx.node("Concat", ctx.sizes_of(ctx.x[0], 0, 2), ctx.integers([h * w]), axis=0)
        index = ctx.node("Expand", ctx.integers(layer.corners(h, w).tolist()), shape)
    _place(ctx, index, layer.size)


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


def _check_places(ctx: OnnxContext | PythonContext) -> None:
    if ctx.layer.method != "MAX":
        raise ctx.refuse("averages, which is written for DeconvNet's form only")


@emits_onnx("Unpooling=windows")
def unpooling_by_windows_onnx(ctx: OnnxContext) -> None:
    _check_places(ctx)
    unpooling_onnx(ctx)


@emits_python("Unpooling=windows")
def unpooling_by_windows_python(ctx: PythonContext) -> str:
    _check_places(ctx)
    return unpooling_python(ctx)
