"""Weights of their own for each place, and crops at corners."""

from __future__ import annotations

import numpy as np

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair


@emits_onnx("Local")
def local_onnx(ctx: OnnxContext) -> None:
    """Multiply, for each place, its window with its weights."""
    layer, (channels, *_) = ctx.layer, ctx.size()
    kernel, _, pad, stride = layer.window
    x = ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, pad, pad] * 2)) if pad else ctx.x[0]
    for axis, grid in zip((2, 4), layer.size, strict=True):
        x = ctx.node("Gather", x, ctx.integers(np.arange(kernel)[:, None] + np.arange(grid) * stride), axis=axis)
    rows = ctx.node("Transpose", x, perm=[3, 5, 0, 1, 2, 4])  # (H', W', N, C, kernel, kernel)
    places = layer.size[0] * layer.size[1]
    rows = ctx.node("Reshape", rows, ctx.integers([places, -1, channels * kernel**2]))
    weight = ctx.graph.parameter(f"{layer.spec.name}.weight", ctx.blob(0)[:, 0].transpose(2, 1, 0))
    y = ctx.node("Transpose", ctx.node("MatMul", rows, weight), perm=[1, 2, 0])  # (N, num_output, places)
    if len(layer.declared) > 1:
        y = ctx.node("Add", y, ctx.weight(1, ctx.blob(1).shape[2:]))
    ctx.output("Reshape", y, ctx.integers([-1, *map(int, ctx.top_shapes[0][1:])]))


@emits_python("Local")
def local_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    kernel, _, pad, stride = layer.window
    features, places = layer.declared[0].shape[0], layer.declared[0].shape[3]
    return ctx.part("Local", *["weight", "bias"][: len(layer.declared)], arguments=arguments(
        layer.set_up_for[0], features, kernel, places, pad=(str(pad), "0"), stride=(str(stride), "1"),
        bias=(str(len(layer.declared) > 1), "True"))) + f".unflatten(2, {pair(layer.size)})"


@emits_onnx("CornerCrop")
def corner_crop_onnx(ctx: OnnxContext) -> None:
    ctx.size()  # where the corners are
    h, w = ctx.layer.size
    for (top, left), y in zip(ctx.layer.corners, ctx.y, strict=True):
        ctx.graph.node("Slice", [ctx.x[0], *map(ctx.integers, ([top, left], [top + h, left + w], [2, 3]))], [y])


@emits_python("CornerCrop")
def corner_crop_python(ctx: PythonContext) -> str:
    ctx.plane()
    h, w = ctx.layer.size
    return ", ".join(f"{ctx.x[0]}[:, :, {top}:{top + h}, {left}:{left + w}]" for top, left in ctx.layer.corners)
