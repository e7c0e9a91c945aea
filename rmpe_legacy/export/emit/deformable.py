"""Deformable convolution, in operators of every runtime: ONNX's own one is of opset 19, and few have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.layers.deformable_conv import ModulatedDeformableConvolution

from ..onnx_graph import INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair


@emits_onnx("DeformableConvolution", "ModulatedDeformableConvolution")
def deformable_convolution_onnx(ctx: OnnxContext) -> None:
    """Read all values, of each group of channels at once, and multiply them as a 1 x 1 convolution does."""
    layer, (channels, h, w), (_, out_h, out_w) = ctx.layer, ctx.size(), ctx.size(1)
    places, groups = layer.kernel[0] * layer.kernel[1], layer.deformable_group
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, channels // groups, h * w]))
    x = ctx.node("Transpose", x, perm=[0, 2, 1])  # (N * groups, H * W, C)
    offsets = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, places, 2, out_h, out_w]))
    moves = ctx.graph.nodes_of("Split", [offsets, ctx.integers([1, 1])], 2, axis=2)
    beside = []
    for axis, size in enumerate((h, w)):
        begin = _places(layer, axis, (out_h, out_w)[axis])
        begin = begin[:, :, None] if axis == 0 else begin[:, None]
        place = ctx.node("Add", ctx.node("Squeeze", moves[axis], ctx.integers([2])), ctx.constant(begin))
        fades = isinstance(layer, ModulatedDeformableConvolution)
        beside.append((_fading if fades else _between)(ctx, place, size))
    factor = [ctx.node("Reshape", v, ctx.integers([-1, places, out_h, out_w])) for v in ctx.x[2:]]
    parts = []
    for row, down in beside[0]:
        for column, across in beside[1]:
            index = ctx.node("Add", ctx.node("Mul", row, ctx.integers(w)), column)
            pixels = ctx.node("GatherND", x, ctx.node("Unsqueeze", index, ctx.integers([4])), batch_dims=1)
            weight = ctx.node("Mul", down, across)
            for v in factor:
                weight = ctx.node("Mul", weight, v)
            parts.append(ctx.node("Mul", pixels, ctx.node("Unsqueeze", weight, ctx.integers([4]))))
    read = ctx.node("Transpose", ctx.node("Sum", *parts), perm=[0, 4, 1, 2, 3])
    read = ctx.node("Reshape", read, ctx.integers([-1, channels * places, out_h, out_w]))
    blobs = [ctx.weight(0, (layer.num_output, -1, 1, 1)), *map(ctx.weight, range(1, len(layer.declared)))]
    ctx.output("Conv", read, *blobs, group=layer.group)


def _places(layer, axis: int, positions: int) -> np.ndarray:
    """Where each weight reads without an offset: (kernel_h * kernel_w, positions)."""
    k = np.arange(layer.kernel[0] * layer.kernel[1])
    k = k // layer.kernel[1] if axis == 0 else k % layer.kernel[1]
    begin = np.arange(positions) * layer.stride[axis] - layer.pad[axis]
    return begin + (k * layer.dilation[axis])[:, None]


def _between(ctx: OnnxContext, place: str, size: int) -> Sequence[tuple[str, str]]:
    """Return the pixels before and after each place, each with its share: as the layer's ``_between``."""
    last, end, zero = (ctx.constant(float(v)) for v in (size - 1, size, 0))
    inside = ctx.node("And", ctx.node("GreaterOrEqual", place, zero), ctx.node("Less", place, end))
    place = ctx.node("Where", inside, place, zero)
    low = ctx.node("Floor", place)
    after = ctx.node("Where", ctx.node("Equal", low, last), zero, ctx.node("Sub", place, low))
    before = ctx.node("Where", inside, ctx.node("Sub", ctx.constant(1.0), after), zero)
    near = ctx.node("Cast", low, to=INT64)
    far = ctx.node("Min", ctx.node("Add", near, ctx.integers(1)), ctx.integers(size - 1))
    return (near, before), (far, after)


def _fading(ctx: OnnxContext, place: str, size: int) -> Sequence[tuple[str, str]]:
    """Return the same of the modulated form, where pixels outside are 0."""
    zero, one, last = (ctx.constant(float(v)) for v in (0, 1, size - 1))
    near = ctx.node("And", ctx.node("Greater", place, ctx.constant(-1.0)),
                    ctx.node("Less", place, ctx.constant(float(size))))
    place = ctx.node("Where", near, place, ctx.constant(-1.0))  # whose two pixels have no share
    low = ctx.node("Floor", place)
    high = ctx.node("Add", low, one)
    shares = ctx.node("Sub", high, place), ctx.node("Sub", place, low)
    seen = ctx.node("GreaterOrEqual", low, zero), ctx.node("LessOrEqual", high, last)
    return [(ctx.node("Cast", ctx.node("Clip", pixel, zero, last), to=INT64), ctx.node("Where", has, share, zero))
            for pixel, share, has in zip((low, high), shares, seen, strict=True)]


@emits_python("DeformableConvolution", "ModulatedDeformableConvolution")
def deformable_convolution_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(
        layer.channels, layer.num_output, pair(layer.kernel), stride=(pair(layer.stride), "(1, 1)"),
        pad=(pair(layer.pad), "(0, 0)"), dilation=(pair(layer.dilation), "(1, 1)"), groups=(str(layer.group), "1"),
        offset_groups=(str(layer.deformable_group), "1"), bias=(str(layer.bias_term), "True"))
    module = ctx.submodule(f"{ctx.writer.use('DeformableConvolution')}({inside})",
                           *["weight", "bias"][: len(layer.declared)])
    return f"{module}({', '.join(ctx.x)})"
