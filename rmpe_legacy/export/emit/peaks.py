"""Peaks of heatmaps."""

from __future__ import annotations

import numpy as np

from rmpe_legacy.caffe.layers.nms_peaks import REACH

from ..onnx_graph import FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number


@emits_onnx("Nms")
def peaks_onnx(ctx: OnnxContext) -> None:
    """As the layer, in the order of rows; all places of the memory are numbers in one row of values."""
    layer, (n, _, h, w) = ctx.layer, ctx.shape()
    parts, most = layer.parts, layer.most
    memory = ctx.node("Reshape", ctx.x[0], ctx.integers([-1]))
    beyond = max(0, w - h + 1) * w + REACH * w
    memory = ctx.node("Pad", memory, ctx.integers([0, beyond]))
    maps = ctx.node("Slice", memory, *map(ctx.integers, ([0], [n * parts * h * w], [0])))
    maps = ctx.node("Reshape", maps, ctx.integers([n, parts, h, w]))
    peak = _is_peak(ctx, maps, layer.threshold, h, w)
    counted = ctx.node("ReduceSum", ctx.node("Cast", peak, to=FLOAT), ctx.integers([2, 3]))

    order = -np.arange(h * w, dtype=np.float32)  # the first peak is the largest
    if h * w > 1 << 24:
        raise ctx.refuse("maps of more than 2^24 places")
    flat = ctx.node("Reshape", peak, ctx.integers([n, parts, h * w]))
    key = ctx.node("Where", flat, ctx.constant(order), ctx.constant(-2.0 * h * w))
    taken = min(most, h * w)
    place = ctx.graph.nodes_of("TopK", [key, ctx.integers([taken])], 2, axis=2)[1]
    found = ctx.node("Unsqueeze", ctx.node("GatherElements", flat, place, axis=2), ctx.integers([3]))
    rows = ctx.node("Where", found, _centroids(ctx, memory, place, n, parts, h, w), ctx.constant(0.0))
    rows = ctx.node("Pad", rows, ctx.integers([0, 0, 0, 0, 0, 0, most - taken, 0]))
    count = ctx.node("Pad", counted, ctx.integers([0, 0, 0, 0, 0, 0, 0, 2]))
    ctx.output("Concat", count, rows, axis=2)


@emits_python("Nms")
def peaks_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("refined_peaks", *ctx.x, layer.parts, layer.most, number(layer.threshold))


def _is_peak(ctx: OnnxContext, maps: str, threshold: float, h: int, w: int) -> str:
    around = ctx.node("Pad", maps, ctx.integers([0, 0, 1, 1, 0, 0, 1, 1]), ctx.constant(float("inf")))
    peak = ctx.node("Greater", maps, ctx.constant(threshold))
    for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)):
        beside = ctx.node("Slice", around, *map(ctx.integers, ([dy, dx], [dy + h, dx + w], [2, 3])))
        peak = ctx.node("And", peak, ctx.node("Greater", maps, beside))
    return peak


def _centroids(ctx: OnnxContext, memory: str, place: str, n: int, parts: int, h: int, w: int) -> str:
    """Return x, y and value (n, parts, K, 3) of peaks at places (n, parts, K) of their maps."""
    steps = np.arange(-REACH, REACH + 1)
    begin = ctx.integers((np.arange(n * parts) * h * w).reshape(n, parts, 1))
    row, column = (ctx.node("Unsqueeze", x, ctx.integers([3, 4]))
                   for x in (ctx.node("Div", place, ctx.integers(w)), ctx.node("Mod", place, ctx.integers(w))))
    rows = ctx.node("Add", row, ctx.integers(steps.reshape(-1, 1)))
    columns = ctx.node("Add", column, ctx.integers(steps.reshape(1, -1)))
    counts = [ctx.node("And", ctx.node("Greater", x, ctx.integers(0)), ctx.node("Less", x, ctx.integers(w)))
              for x in (rows, columns)]
    index = ctx.node("Add", ctx.node("Mul", rows, ctx.integers(w)), columns)
    index = ctx.node("Add", index, ctx.node("Unsqueeze", begin, ctx.integers([3, 4])))
    inside = ctx.node("And", *counts)
    index = ctx.node("Where", inside, index, ctx.integers(0))
    around = ctx.node("Max", ctx.node("Gather", memory, index, axis=0), ctx.constant(0.0))
    around = ctx.node("Where", inside, around, ctx.constant(0.0))
    axes = ctx.integers([3, 4])
    total = ctx.node("ReduceSum", around, axes, keepdims=0)
    middle = [ctx.node("Div", ctx.node("ReduceSum", ctx.node("Mul", around, ctx.node("Cast", x, to=FLOAT)), axes,
                                       keepdims=0), total) for x in (columns, rows)]
    value = ctx.node("Gather", memory, ctx.node("Add", place, begin), axis=0)
    return ctx.node("Concat", *(ctx.node("Unsqueeze", x, ctx.integers([3])) for x in (*middle, value)), axis=3)


@emits_onnx("Maximum")
def maximum_onnx(ctx: OnnxContext) -> None:
    w = ctx.size()[2]
    flat = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1]))
    least = ctx.constant(float(np.finfo(np.float32).tiny))
    value = ctx.node("ReduceMax", flat, ctx.integers([2]))
    found = ctx.node("Greater", value, least)
    at = ctx.node("Where", found, ctx.node("ArgMax", flat, axis=2), ctx.integers(0))
    x, y = (ctx.node("Cast", ctx.node(op, at, ctx.integers(w)), to=FLOAT) for op in ("Mod", "Div"))
    ctx.output("Unsqueeze", ctx.node("Concat", x, y, ctx.node("Where", found, value, least), axis=2),
               ctx.integers([2]))


@emits_python("Maximum")
def maximum_python(ctx: PythonContext) -> str:
    return ctx.call("peak_of_planes", ctx.x[0])
