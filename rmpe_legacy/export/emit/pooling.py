"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import FLT_MAX
from rmpe_legacy.caffe.layers.pooling import Windows

from ..onnx_graph import FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair, sizes


@emits_onnx("SumPooling")
def sum_pooling_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.method != "SUM":
        pooling_onnx(ctx)
        return
    windows, size = ctx.layer.windows, ctx.size()[1:]
    left, right, top, bottom = (max(m, 0) for m in windows.margin(size))
    x = ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, top, left, 0, 0, bottom, right]))
    mean = ctx.node("AveragePool", x, kernel_shape=list(windows.kernel), strides=list(windows.stride))
    ctx.output("Mul", mean, ctx.constant(float(np.prod(windows.kernel))))


@emits_python("SumPooling")
def sum_pooling_python(ctx: PythonContext) -> str:
    if ctx.layer.method != "SUM":
        return pooling_python(ctx)
    windows = ctx.layer.windows
    if ctx.layer.kernel is None:
        return f"{ctx.x[0]}.sum((2, 3), keepdim=True)"
    return ctx.call("sum_pool", ctx.x[0], *_windows(windows))


@emits_onnx("Pooling")
def pooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.method == "STOCHASTIC":
        raise ctx.refuse("pool STOCHASTIC; use MAX or AVE")
    if len(ctx.y) == 2:
        _maximum_with_mask(ctx)
    elif layer.kernel is None and len(ctx.bottom_shapes[0]) == 4:
        ctx.output("GlobalMaxPool" if layer.method == "MAX" else "GlobalAveragePool", ctx.x[0])
    else:
        _pool_onnx(ctx, ctx.x[0], layer.windows, layer.method, ctx.y)


@emits_python("Pooling")
def pooling_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.method == "STOCHASTIC":
        raise ctx.refuse("pool STOCHASTIC; use MAX or AVE")
    if layer.kernel is None:
        return f"{ctx.x[0]}.{'amax' if layer.method == 'MAX' else 'mean'}((2, 3), keepdim=True)" \
            if len(ctx.top_shapes) == 1 else ctx.call("max_pool_with_mask", ctx.x[0], pair(layer.windows.kernel))
    if len(ctx.top_shapes) == 2:
        return ctx.call("max_pool_with_mask", ctx.x[0], *_windows(layer.windows))
    return _pool_python(ctx, layer.windows, layer.method)


@emits_onnx("Pooling=synopsys")
def pooling_of_four_pads_onnx(ctx: OnnxContext) -> None:
    layer, size = ctx.layer, ctx.size()[1:]
    if len(ctx.y) == 2:
        _maximum_with_mask(ctx)
        return
    if layer.method == "MAX":
        _pool_onnx(ctx, ctx.x[0], layer.windows, "MAX", ctx.y)
        return
    x, pads = _margin(ctx, ctx.x[0], layer.windows, 0.0)
    mean = ctx.node("AveragePool", x, kernel_shape=list(layer.windows.kernel), strides=list(layer.windows.stride),
                    pads=pads, count_include_pad=1)
    ctx.output("Mul", mean, ctx.constant(np.prod(layer.windows.kernel) / layer.divisors(size).numpy()))


@emits_python("Pooling=synopsys")
def pooling_of_four_pads_python(ctx: PythonContext) -> str:
    layer, size = ctx.layer, ctx.plane()
    if len(ctx.top_shapes) == 2:
        raise ctx.refuse("it has a mask; write it as ONNX")
    windows = layer.windows
    pooled = ctx.call("pool_axes", ctx.x[0], pair(windows.kernel), pair(windows.stride), pair(windows.margin(size)),
                      layer.method == "MAX")
    if layer.method == "MAX":
        return pooled
    return f"{pooled} * {ctx.writer.buffer(layer, float(np.prod(windows.kernel)) / layer.divisors(size))}"


@emits_onnx("SPP")
def spp_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.height == 1:
        _pool_onnx(ctx, ctx.x[0], layer.levels[0], layer.method, ctx.y)
        return
    levels = [ctx.node("Flatten", _pool_onnx(ctx, ctx.x[0], windows, layer.method)) for windows in layer.levels]
    ctx.output("Concat", *levels, axis=1)


def _pool_onnx(ctx: OnnxContext, x: str, windows: Windows, method: str, to: Sequence[str] | int = 1) -> str:
    """Pool over exactly Caffe's windows: pad as Caffe does, then round the output size down."""
    if ctx.has_symbols(ctx.bottom_shapes[0][2:]):
        return _pool_any_size(ctx, x, windows, method, to)
    size = ctx.size()[1:]
    fill = -FLT_MAX if method == "MAX" else 0.0
    x, pads = _margin(ctx, x, windows, fill)
    shape = {"kernel_shape": list(windows.kernel), "strides": list(windows.stride), "pads": pads}
    if method == "MAX":
        return ctx.graph.node("MaxPool", [x], to, **shape)
    cells = windows.kernel[0] * windows.kernel[1]
    areas = windows.areas(torch.empty(1, 1, *size)).numpy()
    if (areas == cells).all():
        return ctx.graph.node("AveragePool", [x], to, count_include_pad=1, **shape)
    mean = ctx.node("AveragePool", x, count_include_pad=1, **shape)
    with np.errstate(divide="ignore"):  # a window outside the plane has area 0
        return ctx.graph.node("Mul", [mean, ctx.graph.constant(cells / areas)], to)


def _pool_any_size(ctx: OnnxContext, x: str, windows: Windows, method: str, to: Sequence[str] | int) -> str:
    """Pool planes of any size. AVE counts the padding up to `pad` beyond the plane, but not what lies behind it."""
    begin, end = list(windows.pad), _ends(windows)
    shape = {"kernel_shape": list(windows.kernel), "strides": list(windows.stride)}
    reaches_out = any(e > p for p, e in zip(begin, end, strict=True))
    if any(e >= k for k, e in zip(windows.kernel, end, strict=True)):  # a window can lie outside
        if method != "MAX":
            raise ctx.graph.graph.refuse_dynamic(ctx.layer, "with a stride above its kernel_size, its last window can "
                                                 "lie outside its bottom")
        x, begin, end = _padded(ctx, x, begin, end, -FLT_MAX), [0, 0], [0, 0]
    elif method != "MAX" and reaches_out and any(begin):
        end = [e - p for p, e in zip(begin, end, strict=True)]
        x, begin = _padded(ctx, x, begin, begin, 0.0), [0, 0]
    if method == "MAX":
        return ctx.graph.node("MaxPool", [x], to, pads=[*begin, *end], **shape)
    return ctx.graph.node("AveragePool", [x], to, pads=[*begin, *end], count_include_pad=int(not reaches_out), **shape)


def _padded(ctx: OnnxContext, x: str, begin: Sequence[int], end: Sequence[int], fill: float) -> str:
    return ctx.node("Pad", x, ctx.integers([0, 0, *begin, 0, 0, *end]), ctx.constant(fill))


def _ends(windows: Windows) -> list[int]:
    """Return how much to pad behind planes of any size, so that a number of windows rounded down is Caffe's.

    Caffe rounds up, which `stride - 1` more does. With padding it then drops a window that starts outside: the most
    that keeps every window inside is `kernel - 1`. The smaller of the two gives the smaller number of windows.
    """
    if windows.floor:
        return list(windows.pad)
    up = [p + s - 1 for p, s in zip(windows.pad, windows.stride, strict=True)]
    return [min(e, k - 1) for e, k in zip(up, windows.kernel, strict=True)] if any(windows.pad) else up


def _margin(ctx: OnnxContext, x: str, windows: Windows, fill: float) -> tuple[str, list[int]]:
    """Return x and the operator's pads, [top, left, bottom, right]; pads that exceed a window get a Pad node."""
    left, right, top, bottom = (max(m, 0) for m in windows.margin(ctx.size()[1:]))
    pads = [top, left, bottom, right]
    if all(p < k for p, k in zip(pads, windows.kernel * 2, strict=True)) and not _has_empty(ctx, windows):
        return x, pads
    return ctx.node("Pad", x, ctx.integers([0, 0, top, left, 0, 0, bottom, right]), ctx.constant(fill)), [0, 0, 0, 0]


def _has_empty(ctx: OnnxContext, windows: Windows) -> bool:
    """Whether a window lies entirely outside the plane."""
    size = ctx.size()[1:]
    return any((n - 1) * s >= extent + p for n, s, p, extent in zip(
        windows.grid(size), windows.stride, windows.pad, size, strict=True))


def _maximum_with_mask(ctx: OnnxContext) -> None:
    windows = ctx.layer.windows
    if ctx.has_symbols(ctx.bottom_shapes[0][2:]):
        if ctx.layer.kernel is None:
            ctx.size()  # refuses: the window has the bottom's size
        x, pads = ctx.x[0], [*windows.pad, *_ends(windows)]
        outside = any(e >= k for k, e in zip(windows.kernel, pads[2:], strict=True))
        area = ctx.node("ReduceProd", ctx.sizes_of(x, 2), keepdims=0)
    else:
        x, pads = _margin(ctx, ctx.x[0], windows, -FLT_MAX)
        outside = x != ctx.x[0] or _has_empty(ctx, windows)
        area = ctx.integers(int(np.prod(ctx.size()[1:])))
    if outside:
        raise ctx.refuse("a mask of windows that lie outside the bottom; give a smaller stride")
    place = ctx.graph.node("MaxPool", [x], [ctx.y[0], f"{ctx.y[1]}/place"], kernel_shape=list(windows.kernel),
                           strides=list(windows.stride), pads=pads)
    place = ctx.node("Mod", f"{ctx.y[1]}/place", area)  # ONNX indices run through all planes
    ctx.graph.node("Cast", [place], [ctx.y[1]], to=FLOAT)


@emits_python("SPP")
def spp_python(ctx: PythonContext) -> str:
    return ctx.call("pyramid_pool", ctx.x[0], ctx.layer.height, f"maximum={ctx.layer.method == 'MAX'}")


@emits_onnx("SPP=overlapping")
def overlapping_spp_onnx(ctx: OnnxContext) -> None:
    ctx.size()  # the windows are those of one size
    spp_onnx(ctx)


@emits_python("SPP=overlapping")
def overlapping_spp_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    ctx.plane()
    pooled = [_pool_python(ctx, windows, layer.method) for windows in layer.levels]
    return pooled[0] if layer.height == 1 else f"torch.cat([{', '.join(f'{each}.flatten(1)' for each in pooled)}], 1)"


def _pool_python(ctx: PythonContext, windows: Windows, method: str) -> str:
    """Use torch's pooling if its windows equal Caffe's for every size; otherwise our own."""
    same = not windows.floor and all(s <= k and 2 * p <= k for k, s, p in zip(
        windows.kernel, windows.stride, windows.pad, strict=True))
    if not same or (any(windows.pad) and not all(windows.pad)):
        return ctx.call("max_pool" if method == "MAX" else "average_pool", ctx.x[0], *_windows(windows))
    name = "max_pool2d" if method == "MAX" else "avg_pool2d"
    inside = arguments(ctx.x[0], sizes(windows.kernel), sizes(windows.stride), padding=(sizes(windows.pad), "0"))
    return f"F.{name}({inside}, ceil_mode=True)"


def _windows(windows: Windows) -> list[str]:
    arguments = [pair(windows.kernel), pair(windows.stride), pair(windows.pad), f"floor={windows.floor}"]
    defaults = ["", "(1, 1)", "(0, 0)", "floor=False"]
    while arguments[-1] == defaults[len(arguments) - 1]:
        arguments.pop()
    return arguments
