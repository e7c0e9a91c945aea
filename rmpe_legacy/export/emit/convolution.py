"""Convolution and Deconvolution, by channel and by pixel too; and the windows alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmpe_legacy.caffe.layers.conv import Convolution

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair, sizes
from .linear import refuse_draws
from .rearrangement import slice_onnx


def _spatial_axes(ctx: EmitContext, target: str, runtime: str) -> int:
    """How many spatial axes a convolution has; raises for what `target` cannot express, or its `runtime` compute."""
    layer = ctx.layer
    refuse_draws(ctx)
    dims = len(layer.kernel)
    if layer.channel_axis != 1:
        raise ctx.refuse(f"its channels are axis {layer.channel_axis}; {target} has them on axis 1")
    if not 1 <= dims <= 3 or not all(layer.dilation):
        raise ctx.refuse(f"{dims} spatial axes with dilation {layer.dilation}; {runtime} 1 to 3 axes, and a dilation "
                         "of 1 or more")
    return dims


_CONVOLUTION = ("Convolution", "Convolution=ccn", "Deconvolution", "BinaryConvolution", "TernaryConvolution",
                "CConvolution", "DNSConvolution", "INQConvolution", "ConvolutionDeeplab", "HoleConvolution")


@emits_onnx(*_CONVOLUTION)
def convolution_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    dims = _spatial_axes(ctx, "ONNX", "ONNX runtimes take")
    is_conv = isinstance(layer, Convolution)
    more = _sticking_out(ctx) if is_conv else [0] * dims
    pads = [*layer.pad, *(p + m for p, m in zip(layer.pad, more, strict=True))]
    weights = [ctx.weight(i) for i in range(len(layer.blobs()))]  # without the masks of pruned layers
    for x, y in zip(ctx.x, ctx.y, strict=True):
        ctx.graph.node("Conv" if is_conv else "ConvTranspose", [x, *weights], [y], kernel_shape=list(layer.kernel),
                       strides=list(layer.stride), pads=pads, dilations=list(layer.dilation), group=layer.group)


def _sticking_out(ctx: OnnxContext) -> list[int]:
    """Return how far a convolution's only window reaches beyond its bottom."""
    sizes = ctx.bottom_shapes[0][1:]
    more = list(ctx.layer.sticking_out(ctx.graph.graph.at_own_sizes(sizes)[1:]))
    if any(more) and ctx.has_symbols(sizes):
        ctx.size()  # refuses: other sizes need other pads
    return more


@emits_python(*_CONVOLUTION)
def convolution_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    dims = _spatial_axes(ctx, "torch", "torch takes")
    is_conv = isinstance(layer, Convolution)
    known = [n for n in ctx.bottom_shapes[0][2:] if isinstance(n, int)]
    if is_conv and len(known) == dims and any(layer.sticking_out(known)):
        raise ctx.refuse("its only window sticks out of the bottom, which torch does not do; give more pad")
    kind = f"nn.{'Conv' if is_conv else 'ConvTranspose'}{dims}d"
    names = ["weight", "bias"][: len(layer.blobs())]
    inside = arguments(
        layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), dilation=(sizes(layer.dilation), "1"), groups=(str(layer.group), "1"),
        bias=(str(layer.bias_term), "True"))
    module = ctx.submodule(f"{kind}({inside})", *names)
    calls = [f"{module}({x})" for x in ctx.x]
    return ", ".join(calls)


@emits_onnx("Convolution=synopsys")
def convolution_of_four_pads_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    _spatial_axes(ctx, "ONNX", "ONNX runtimes take")
    top, left, below, right = _four_pads(ctx)
    more = _sticking_out(ctx)
    pads = [top, left, below + more[0], right + more[1]]
    weights = [ctx.weight(i) for i in range(len(layer.blobs()))]
    for x, y in zip(ctx.x, ctx.y, strict=True):
        if min(pads) < 0:
            x = ctx.node("Pad", x, ctx.integers([0, 0, *pads[:2], 0, 0, *pads[2:]]))
        ctx.graph.node("Conv", [x, *weights], [y], kernel_shape=list(layer.kernel), strides=list(layer.stride),
                       pads=[0] * 4 if min(pads) < 0 else pads, dilations=list(layer.dilation), group=layer.group)


def _four_pads(ctx: EmitContext) -> tuple[int, int, int, int]:
    """The pads before and behind the rows and columns, which pad_type computes from the bottom's size."""
    layer, size = ctx.layer, ctx.bottom_shapes[0][2:]
    if layer.sides is None and ctx.has_symbols(size):
        raise ctx.refuse("with pad_type it is written for fixed sizes only")
    return layer.sides if layer.sides is not None else layer.sides_on(size)


@emits_python("Convolution=synopsys")
def convolution_of_four_pads_python(ctx: PythonContext) -> str:
    top, left, below, right = _four_pads(ctx)
    padded = tuple(f"F.pad({x}, ({left}, {right}, {top}, {below}))" for x in ctx.x)
    return convolution_python(replace(ctx, x=padded))


@emits_onnx("Deconvolution=synopsys")
def deconvolution_of_four_pads_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    _spatial_axes(ctx, "ONNX", "ONNX runtimes take")
    weight, *bias = (ctx.weight(i) for i in range(len(layer.blobs())))
    shape = {"kernel_shape": list(layer.kernel), "strides": list(layer.stride), "dilations": list(layer.dilation),
             "group": layer.group}
    for x, y in zip(ctx.x, ctx.y, strict=True):
        if min(layer.sides) >= 0:
            ctx.graph.node("ConvTranspose", [x, weight, *bias], [y], pads=list(layer.sides), **shape)
            continue
        cut = [-pad for pad in layer.sides]
        whole = ctx.node("ConvTranspose", x, weight, **shape)
        whole = ctx.node("Pad", whole, ctx.integers([0, 0, *cut[:2], 0, 0, *cut[2:]]))
        ctx.graph.node("Add", [whole, ctx.weight(1, (-1, 1, 1)) if bias else ctx.constant(0.0)], [y])


@emits_python("Deconvolution=synopsys")
def deconvolution_of_four_pads_python(ctx: PythonContext) -> str:
    top, left, below, right = ctx.layer.sides
    if min(ctx.layer.sides) < 0 and ctx.layer.bias_term:
        raise ctx.refuse("its pads below 0 add rows and columns of the bias; write it as ONNX")
    if len(ctx.x) > 1:
        raise ctx.refuse("it has several bottoms; write it as ONNX")
    return f"F.pad({convolution_python(ctx)}, ({-left}, {-right}, {-top}, {-below}))"


@emits_onnx("Convolution=segaware")
def convolution_of_columns_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if not layer.laid_out:
        convolution_onnx(ctx)
        return
    names = [f"{layer.spec.name}.{declared.name}" for declared in layer.declared]
    weight, *bias = (ctx.blob(i) for i in range(len(names)))
    shape = len(weight), weight[0].size, *[1] * len(layer.kernel)
    weights = [ctx.graph.parameter(names[0], weight.reshape(shape)),
               *(ctx.graph.parameter(names[1], values) for values in bias)]
    for x, y in zip(ctx.x, ctx.y, strict=True):
        ctx.graph.node("Conv", [x, *weights], [y], group=layer.group)


@emits_python("Convolution=segaware")
def convolution_of_columns_python(ctx: PythonContext) -> str:
    if ctx.layer.laid_out:
        raise ctx.refuse("its bottom is laid out by Im2col; write it as ONNX")
    return convolution_python(ctx)


@emits_onnx("DepthwiseConvolution")
def depthwise_onnx(ctx: OnnxContext) -> None:
    convolution_onnx(ctx)


@emits_python("DepthwiseConvolution")
def depthwise_python(ctx: PythonContext) -> str:
    return convolution_python(ctx)


@emits_onnx("ConvolutionDepthwise")
def convolution_depthwise_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    weights = [ctx.weight(i) for i in range(len(layer.declared))]
    ctx.output("Conv", ctx.x[0], *weights, group=layer.channels, strides=layer.stride, dilations=layer.dilation,
            pads=[*layer.pad, *layer.pad])


@emits_python("ConvolutionDepthwise")
def convolution_depthwise_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(
        layer.channels, layer.channels, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), dilation=(sizes(layer.dilation), "1"), groups=(str(layer.channels), "1"),
        bias=(str(len(layer.declared) == 2), "True"))
    return f"{ctx.submodule(f'nn.Conv2d({inside})', *['weight', 'bias'][: len(layer.declared)])}({ctx.x[0]})"


@emits_onnx("Im2col")
def im2col_onnx(ctx: OnnxContext) -> None:
    ctx.graph.reshape(windows_onnx(ctx), ctx.bottom_shapes[0][: ctx.layer.channel_axis], ctx.top_shapes[0], ctx.y[0])


def windows_onnx(ctx: OnnxContext) -> str:
    """Return the values of a layer's windows: (..., kernel, grid), both with an axis for each of the plane.

    Each axis is read at the places (kernel, grid) of its windows, then the kernels are moved before the grids.
    """
    layer, dims = ctx.layer, len(ctx.layer.kernel)
    axis = layer.channel_axis
    plane = ctx.size()[axis:]
    end = [pad + more for pad, more in zip(layer.pad, layer.sticking_out(plane), strict=True)]
    x = ctx.x[0]
    if any(end):
        lead = [0] * (axis + 1)
        x = ctx.node("Pad", x, ctx.integers([*lead, *layer.pad, *lead, *end]))
    for i, (k, s, d, grid) in enumerate(zip(layer.kernel, layer.stride, layer.dilation,
                                            layer.spatial((0,) * (axis + 1) + plane), strict=True)):
        x = ctx.node("Gather", x, ctx.integers(np.arange(k)[:, None] * d + np.arange(grid) * s), axis=axis + 1 + 2 * i)
    return ctx.node("Transpose", x, perm=[*range(axis + 1), *range(axis + 1, axis + 1 + 2 * dims, 2),
                                          *range(axis + 2, axis + 2 + 2 * dims, 2)])


@emits_python("Im2col")
def im2col_python(ctx: PythonContext) -> str:
    layer, axis = ctx.layer, ctx.layer.channel_axis
    plane = [size for size in ctx.bottom_shapes[0][axis + 1 :] if isinstance(size, int)]
    if len(plane) < len(layer.kernel):
        raise ctx.refuse("it is written for fixed sizes only")
    ends = [pad + more for pad, more in zip(layer.pad, layer.sticking_out(plane), strict=True)]
    margin = [size for both in zip(layer.pad[::-1], ends[::-1], strict=True) for size in both]
    return ctx.call("windows_as_channels", ctx.x[0], axis, *map(tuple, (layer.kernel, layer.stride, layer.dilation)),
                    pair(margin))


@emits_onnx("PixelConv")
def pixel_convolution_onnx(ctx: OnnxContext) -> None:
    """Add up the map moved by each place of the kernel, times the kernels' values of that place."""
    side, (channels, h, w) = ctx.layer.side, ctx.size(1)
    kernels = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, channels, side * side, h, w]))
    pad = side // 2
    x = ctx.node("Pad", ctx.x[1], ctx.integers([0, 0, pad, pad, 0, 0, pad, pad]))
    parts = [ctx.node("Mul", ctx.node("Gather", kernels, ctx.integers(row * side + column), axis=2),
                      slice_onnx(ctx, x, [row, column], [row + h, column + w], [2, 3], [1, 1], last=False))
             for row in range(side) for column in range(side)]
    ctx.output("Sum", *parts)


@emits_python("PixelConv")
def pixel_convolution_python(ctx: PythonContext) -> str:
    return ctx.call("convolve_each", *ctx.x, ctx.layer.side)
