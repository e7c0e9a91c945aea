"""What each detected person does."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import FLOAT, INT64
from .boxes import last_places, split, suppressed, unsqueezed
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number

_OWN, _LATER = 2.0, -1.0  # in place of overlaps, which are 0 to 1


def _refuse_maps_of_several_sizes(ctx: EmitContext) -> None:
    if len(set(ctx.bottom_shapes[1:])) > 1:
        raise ctx.refuse("its maps of scores differ in size")


@emits_onnx("Python=ActionsDetectionOutputLayer")
def actions_onnx(ctx: OnnxContext) -> None:
    _refuse_maps_of_several_sizes(ctx)
    image, _, confidence, box, *place = split(ctx, ctx.node("Reshape", ctx.x[0], ctx.integers([-1, 10])),
                                              1, 1, 1, 4, 1, 1, 1)
    maps = ctx.node("Concat", *(unsqueezed(ctx, x, 0) for x in ctx.x[1:]), axis=0)
    anchor, x, y = place
    at = ctx.node("Cast", ctx.node("Concat", anchor, image, y, x, axis=1), to=INT64)
    scores = ctx.node("GatherND", maps, at)
    action = ctx.node("Cast", ctx.node("ArgMax", scores, axis=1), to=FLOAT)
    certainty = ctx.node("ReduceMax", scores, ctx.integers([1]))
    image = ctx.node("Cast", ctx.node("Cast", image, to=INT64), to=FLOAT)
    rows = ctx.node("Concat", image, action, confidence, certainty, box, axis=1)
    if ctx.layer.votes:
        rows = _voted(ctx, rows, confidence)
    ctx.output("Unsqueeze", rows, ctx.integers([0, 1]))


def _voted(ctx: OnnxContext, rows: str, confidence: str) -> str:
    """Return the rows that stay, with the actions that all vote for. Rows are numbered in their order, best first."""
    count = ctx.node("Shape", rows, start=0, end=1)
    order = ctx.graph.nodes_of("TopK", [ctx.node("Reshape", confidence, ctx.integers([-1])), count], 2, axis=0)[1]
    image, action, score, certainty, box = split(ctx, ctx.node("Gather", rows, order, axis=0), 1, 1, 1, 1, 4)
    each = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", count), ctx.integers(1))
    best_first = ctx.node("Neg", ctx.node("Cast", each, to=FLOAT))
    kept = last_places(ctx, suppressed(ctx, unsqueezed(ctx, box, 0), unsqueezed(ctx, best_first, 0, 1), count,
                                       ctx.layer.overlap, pixels=False))
    near = _overlaps(ctx, box, ctx.node("Gather", box, kept, axis=0))
    each, votes = unsqueezed(ctx, each, 1), ctx.layer.votes
    near = ctx.node("Where", ctx.node("Less", each, kept), ctx.constant(_LATER), near)
    near = ctx.node("Where", ctx.node("Equal", each, kept), ctx.constant(_OWN), near)
    nearest = ctx.node("ArgMax", near, axis=1)  # (rows, 1): which of the kept
    weight = ctx.node("Where", ctx.node("Equal", each, ctx.integers(0)), ctx.constant(1.0), certainty)
    numbers = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", ctx.node("Shape", kept)), ctx.integers(1))
    belongs = ctx.node("Cast", ctx.node("Equal", nearest, numbers), to=FLOAT)
    voted = ctx.node("Cast", ctx.node("Equal", action, ctx.constant(np.arange(votes))), to=FLOAT)
    total = ctx.node("MatMul", ctx.node("Transpose", belongs, perm=[1, 0]), ctx.node("Mul", voted, weight))
    action = ctx.node("Cast", ctx.node("ArgMax", total, axis=1), to=FLOAT)
    image, score, certainty, box = (ctx.node("Gather", x, kept, axis=0) for x in (image, score, certainty, box))
    return ctx.node("Concat", image, action, score, certainty, box, axis=1)


def _overlaps(ctx: OnnxContext, boxes: str, others: str) -> str:
    """Return intersection over union of boxes (K, 4) with others (L, 4); 0 of no area: (K, L)."""
    sides = []
    for x, axis in ((boxes, 1), (others, 0)):
        low, high = split(ctx, x, 2, 2)
        area = ctx.node("ReduceProd", ctx.node("Sub", high, low), ctx.integers([1]), keepdims=0)
        sides.append([unsqueezed(ctx, low, axis), unsqueezed(ctx, high, axis), unsqueezed(ctx, area, axis)])
    (low, high, area), (others_low, others_high, others_area) = sides
    shared = ctx.node("Sub", ctx.node("Min", high, others_high), ctx.node("Max", low, others_low))
    common = ctx.node("ReduceProd", ctx.node("Max", shared, ctx.constant(0.0)), ctx.integers([2]), keepdims=0)
    union = ctx.node("Sub", ctx.node("Add", area, others_area), common)
    has_area = ctx.node("Greater", union, ctx.constant(0.0))
    share = ctx.node("Div", common, ctx.node("Where", has_area, union, ctx.constant(1.0)))
    return ctx.node("Where", has_area, share, ctx.constant(0.0))


@emits_python("Python=ActionsDetectionOutputLayer")
def actions_python(ctx: PythonContext) -> str:
    _refuse_maps_of_several_sizes(ctx)
    return ctx.call("actions_of", ctx.x[0], f"[{', '.join(ctx.x[1:])}]", ctx.layer.votes, number(ctx.layer.overlap))
