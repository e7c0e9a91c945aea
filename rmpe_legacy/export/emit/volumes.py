"""Convolution and pooling over volumes, and over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import FLT_MAX
from rmpe_legacy.caffe.layers.convolution3d import areas, margins

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair, sizes


@emits_onnx("Convolution3D", "Convolution3d", "Deconvolution3D", "Deconvolution3d")
def convolution3d_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    weights = [ctx.weight(0), *(ctx.weight(i, (-1,)) for i in range(1, len(layer.declared)))]
    ctx.output("ConvTranspose" if layer.transposed else "Conv", ctx.x[0], *weights, strides=layer.stride,
            pads=[*layer.pad, *layer.pad])


@emits_python("Convolution3D", "Convolution3d", "Deconvolution3D", "Deconvolution3d")
def convolution3d_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    kind = "ConvTranspose3d" if layer.transposed else "Conv3d"
    inside = arguments(layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
                       padding=(sizes(layer.pad), "0"), bias=(str(len(layer.declared) == 2), "True"))
    blobs = layer.blobs()
    state = {"weight": blobs[0], **({"bias": blobs[1].flatten()} if len(blobs) > 1 else {})}
    return f"{ctx.writer.module(layer, f'nn.{kind}({inside})', state)}({ctx.x[0]})"


@emits_onnx("NdConvolution")
def nd_convolution_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    weights = [ctx.weight(i) for i in range(len(layer.declared))]
    ctx.output("Conv", ctx.x[0], *weights, group=layer.group, strides=layer.stride, pads=[*layer.pad, *layer.pad])


@emits_python("NdConvolution")
def nd_convolution_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(
        layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), groups=(str(layer.group), "1"),
        bias=(str(len(layer.declared) == 2), "True"))
    module = ctx.submodule(f"nn.Conv{len(layer.kernel)}d({inside})", *["weight", "bias"][: len(layer.declared)])
    return f"{module}({ctx.x[0]})"


_POOLING = ("NdPooling", "PoolingND", "Pooling=nd", "Pooling3D=p3d", "Pooling3D", "Pooling3d")


@emits_onnx(*_POOLING)
def pooling_onnx(ctx: OnnxContext) -> None:
    layer, plane = ctx.layer, ctx.size()[1:]
    begin, end = _margin(ctx, plane)
    is_maximum = layer.method == "MAX"
    x, pads = ctx.x[0], [*begin, *end]
    if any(p >= k for p, k in zip(pads, (*layer.kernel, *layer.kernel), strict=True)) or (any(pads) and not is_maximum):
        x = ctx.node("Pad", x, ctx.integers([0, 0, *begin, 0, 0, *end]), ctx.constant(-FLT_MAX if is_maximum else 0.0))
        pads = [0] * len(pads)
    shape = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": pads}
    share = _share(ctx, plane)
    if is_maximum or (share == 1).all():
        ctx.output("MaxPool" if is_maximum else "AveragePool", x, **shape)
    else:
        ctx.output("Mul", ctx.node("AveragePool", x, **shape), ctx.constant(share))


@emits_python(*_POOLING)
def pooling_python(ctx: PythonContext) -> str:
    layer, plane = ctx.layer, ctx.bottom_shapes[0][2:]
    fixed = [size for size in plane if isinstance(size, int)]
    if len(fixed) < len(plane):
        raise ctx.refuse("it is written for fixed sizes only")
    begin, end = _margin(ctx, fixed)
    margin = [size for both in zip(begin[::-1], end[::-1], strict=True) for size in both]
    is_maximum = layer.method == "MAX"
    if any(margin):
        call = ctx.call("pool_axes", ctx.x[0], *(f"({', '.join(map(str, v))},)" for v in (layer.kernel, layer.stride)),
                        pair(margin), f"maximum={is_maximum}")
    else:
        call = (f"F.{'max' if is_maximum else 'avg'}_pool{len(layer.kernel)}d({ctx.x[0]}, {sizes(layer.kernel)}, "
                f"{sizes(layer.stride)})")
    share = _share(ctx, fixed)
    return call if is_maximum or (share == 1).all() else \
        f"{call} * {ctx.writer.buffer(layer, torch.from_numpy(share))}"


def _margin(ctx: EmitContext, plane: Sequence[int]) -> tuple[list[int], list[int]]:
    """How far windows reach beyond the bottom, before and after each axis."""
    layer = ctx.layer
    found = margins(layer.grid, plane, layer.kernel, layer.stride, layer.pad)
    return found[::2][::-1], [max(0, end) for end in found[1::2][::-1]]


def _share(ctx: EmitContext, plane: Sequence[int]) -> np.ndarray:
    """What a mean over whole windows is multiplied by: the windows count as far as the padding goes."""
    layer = ctx.layer
    if getattr(layer, "counts_whole", False):
        return np.ones(())
    cells = areas(torch.empty(1, 1, *plane), layer.grid, layer.kernel, layer.stride, layer.pad)
    return (math.prod(layer.kernel) / cells).numpy()
