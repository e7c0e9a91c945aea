"""Convolution and Deconvolution."""

from __future__ import annotations

from rmpe_legacy.caffe.layers.conv import Convolution

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, sizes


def _spatial_axes(ctx: EmitContext, target: str, runtime: str) -> int:
    """How many spatial axes a convolution has; raises for what `target` cannot express, or its `runtime` compute."""
    layer = ctx.layer
    dims = len(layer.kernel)
    if layer.channel_axis != 1:
        raise ctx.refuse(f"its channels are axis {layer.channel_axis}; {target} has them on axis 1")
    if not 1 <= dims <= 3 or not all(layer.dilation):
        raise ctx.refuse(f"{dims} spatial axes with dilation {layer.dilation}; {runtime} 1 to 3 axes, and a dilation "
                         "of 1 or more")
    return dims


_CONVOLUTION = ("Convolution", "Deconvolution", "CConvolution", "DNSConvolution", "INQConvolution")


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
