"""DetectNet's clustering: boxes that lie close together, directly or through others, become one."""

from __future__ import annotations

import math

import numpy as np

from rmpe_legacy.caffe.layers.detectnet import MOST

from ..onnx_graph import DOUBLE, FLOAT, INT64
from .boxes import split
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, pair

_HALF = 10  # TensorProto.DataType
_FAR = -4e9  # no rectangle reaches as far


@emits_onnx("Python=ClusterDetections")
def cluster_detections_onnx(ctx: OnnxContext) -> None:
    layer, (images, *_) = ctx.layer, ctx.shape()
    h, w = (min(cells, size) for cells, size in zip(layer.grid, ctx.size()[1:], strict=True))
    cells = np.stack([np.tile(np.arange(w) * layer.cell[1], h), np.repeat(np.arange(h) * layer.cell[0], w)] * 2)
    cover, boxes = (ctx.node("Reshape", ctx.node("Slice", x, *map(ctx.integers, ([0, 0], [h, w], [2, 3]))),
                             ctx.integers([images, channels, h * w]))
                    for x, channels in zip(ctx.x, (layer.classes, 4), strict=True))
    covered = ctx.node("GreaterOrEqual", cover, ctx.constant(layer.covered))
    corners = ctx.node("Add", ctx.node("Cast", boxes, to=DOUBLE), _double(ctx, cells))
    for c, top in enumerate(ctx.y):
        found = [_clustered(ctx, covered, corners, image, c) for image in range(images)]
        ctx.graph.node("Concat", found, [top], axis=0)


def _double(ctx: OnnxContext, value: object) -> str:
    return ctx.graph.constant(value, np.float64)


def _clustered(ctx: OnnxContext, covered: str, corners: str, image: int, c: int) -> str:
    """Return the rows (1, 50, 5) of one class in one image, of cells (N, classes, P) with corners (N, 4, P)."""
    layer = ctx.layer
    covered, corners = (ctx.node("Gather", x, ctx.integers(image), axis=0) for x in (covered, corners))
    places = ctx.node("Reshape", ctx.node("NonZero", ctx.node("Gather", covered, ctx.integers(c), axis=0)),
                      ctx.integers([-1]))
    low, high = split(ctx, ctx.node("Transpose", ctx.node("Gather", corners, places, axis=1), perm=[1, 0]), 2, 2)
    rects = ctx.node("Concat", low, ctx.node("Sub", high, low), axis=1)
    rects = ctx.node("Clip", rects, _double(ctx, -1e9), _double(ctx, 1e9))
    rects = ctx.node("Cast", ctx.node("Cast", rects, to=INT64), to=DOUBLE)  # cuts decimals off
    if layer.least > 0:
        means, counts = _alone(ctx, *_groups(ctx, rects))
    else:
        means = rects
        counts = ctx.node("Expand", ctx.constant(1.0), ctx.node("Shape", rects, start=0, end=1))
    tall = ctx.node("GreaterOrEqual", ctx.node("Gather", means, ctx.integers(3), axis=1), _double(ctx, layer.height))
    means, counts = (ctx.node("Compress", x, tall, axis=0) for x in (means, counts))
    low, size = split(ctx, means, 2, 2)
    count = ctx.node("Unsqueeze", ctx.node("Log", ctx.node("Cast", counts, to=DOUBLE)), ctx.integers([1]))
    rows = ctx.node("Concat", low, ctx.node("Add", low, size), count, axis=1)
    rows = ctx.node("Cast", ctx.node("Cast", rows, to=_HALF), to=FLOAT)
    rows = ctx.node("Concat", rows, ctx.constant(np.zeros((MOST, 5))), axis=0)
    return ctx.node("Unsqueeze", ctx.node("Slice", rows, *map(ctx.integers, ([0], [MOST], [0]))), ctx.integers([0]))


def _groups(ctx: OnnxContext, rects: str) -> tuple[str, str]:
    """Return the means (G, 4) of groups of rectangles (K, 4) and how many each has (G): those of more than `least`.

    One rectangle far from all others is added, as reductions of nothing are not defined; its group is too small.
    """
    layer, (h, w) = ctx.layer, ctx.layer.grid
    rects = ctx.node("Concat", rects, _double(ctx, [[_FAR, _FAR, 0, 0]]), axis=0)
    low, size = split(ctx, rects, 2, 2)
    corners = ctx.node("Concat", low, ctx.node("Add", low, size), axis=1)
    moves = ctx.node("Abs", ctx.node("Sub", *_pairs(ctx, corners)))
    apart = ctx.node("ReduceMax", moves, ctx.integers([2]), keepdims=0)
    sides = ctx.node("ReduceSum", ctx.node("Min", *_pairs(ctx, size)), ctx.integers([2]), keepdims=0)
    reach = ctx.node("Mul", ctx.node("Mul", _double(ctx, layer.eps), sides), _double(ctx, 0.5))
    number_of, own = _is_itself(ctx, rects)
    joined = ctx.node("Cast", ctx.node("Or", ctx.node("LessOrEqual", apart, reach), own), to=FLOAT)
    for _ in range(math.ceil(math.log2(h * w + 1))):  # each time through twice as many others
        joined = ctx.node("Cast", ctx.node("Greater", ctx.node("MatMul", joined, joined), ctx.constant(0.5)), to=FLOAT)
    first = ctx.node("Equal", ctx.node("ArgMax", joined, axis=1, keepdims=0), number_of)
    members = ctx.node("Compress", joined, first, axis=0)
    counts = ctx.node("ReduceSum", members, ctx.integers([1]), keepdims=0)
    sums = ctx.node("Cast", ctx.node("MatMul", ctx.node("Cast", members, to=DOUBLE), rects), to=FLOAT)
    share = ctx.node("Unsqueeze", ctx.node("Div", ctx.constant(1.0), counts), ctx.integers([1]))
    means = ctx.node("Cast", ctx.node("Round", ctx.node("Mul", sums, share)), to=DOUBLE)
    many = ctx.node("Greater", counts, ctx.constant(float(layer.least)))
    return ctx.node("Compress", means, many, axis=0), ctx.node("Compress", counts, many, axis=0)


def _alone(ctx: OnnxContext, means: str, counts: str) -> tuple[str, str]:
    """Leave out groups that lie inside a larger one."""
    low, size = split(ctx, means, 2, 2)
    high = ctx.node("Add", low, size)
    margin = ctx.node("Round", ctx.node("Mul", size, _double(ctx, ctx.layer.eps)))
    ends = ctx.node("Sub", low, margin), ctx.node("Add", high, margin)
    each, other = ([ctx.node("Unsqueeze", x, ctx.integers([axis])) for x in values]
                    for values, axis in (((low, high, counts), 1), ((*ends, counts), 0)))
    within = ctx.node("And", ctx.node("GreaterOrEqual", each[0], other[0]),
                      ctx.node("LessOrEqual", each[1], other[1]))
    within = ctx.node("And", *(ctx.node("Gather", within, ctx.integers(i), axis=2) for i in range(2)))
    larger = ctx.node("Or", ctx.node("Greater", other[2], ctx.node("Max", each[2], ctx.constant(3.0))),
                      ctx.node("Less", each[2], ctx.constant(3.0)))
    others = ctx.node("Not", _is_itself(ctx, counts)[1])
    inside = ctx.node("Cast", ctx.node("And", ctx.node("And", within, larger), others), to=FLOAT)
    alone = ctx.node("Less", ctx.node("ReduceSum", inside, ctx.integers([1]), keepdims=0), ctx.constant(0.5))
    return ctx.node("Compress", means, alone, axis=0), ctx.node("Compress", counts, alone, axis=0)


def _is_itself(ctx: OnnxContext, rows: str) -> tuple[str, str]:
    """Return the numbers of K rows, and (K, K), true where a row meets itself."""
    count = ctx.node("Squeeze", ctx.node("Shape", rows, start=0, end=1))
    numbers = ctx.node("Range", ctx.integers(0), count, ctx.integers(1))
    return numbers, ctx.node("Equal", ctx.node("Unsqueeze", numbers, ctx.integers([1])), numbers)


def _pairs(ctx: OnnxContext, x: str) -> list[str]:
    return [ctx.node("Unsqueeze", x, ctx.integers([axis])) for axis in (1, 0)]


@emits_python("Python=ClusterDetections")
def cluster_detections_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    call = ctx.call("cluster_detections", arguments(
        *ctx.x, f"grid={pair(layer.grid)}", f"cell={pair(map(repr, layer.cell))}", f"covered={number(layer.covered)}",
        f"least={layer.least}", f"eps={layer.eps!r}", f"height={layer.height!r}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"
