"""What sequences of scores read."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import FLOAT, INT64
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python

_END = (1 << 63) - 1


def _settings(ctx: EmitContext) -> tuple[int, bool]:
    """The number of the blank, and whether equal labels running count once."""
    return ctx.layer.reading(int(np.prod([int(size) for size in ctx.bottom_shapes[0][2:]])))


@emits_onnx("CTCGreedyDecoder", "CTCGreedyDecoder=cc4", "CTCGreedyDecoder=ocr")
def greedy_decoder_onnx(ctx: OnnxContext) -> None:
    """Move the labels that count to the front, and the others to a place behind the last, which is cut off."""
    blank, merged = _settings(ctx)
    steps = ctx.bottom_shapes[0][0]
    steps = steps if isinstance(steps, int) else ctx.shape()[0]
    x = ctx.x[0] if len(ctx.bottom_shapes[0]) == 3 else ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1]))
    best = ctx.node("ArgMax", x, axis=2, keepdims=0)  # (T, N)
    counts = ctx.node("Not", ctx.node("Equal", best, ctx.integers(blank)))
    if merged:
        later, earlier = _from_second(ctx, best), ctx.node("Slice", best, *map(ctx.integers, ([0], [-1], [0])))
        repeated = _after_first(ctx, ctx.node("Equal", later, earlier))
        counts = ctx.node("And", counts, ctx.node("Less", repeated, ctx.constant(0.5)))
    inside = ""
    if ctx.layer.form == "":
        inside = _in_sequence(ctx)
        counts = ctx.node("And", counts, inside)
    place = ctx.node("CumSum", ctx.node("Cast", counts, to=INT64), ctx.integers(0))
    place = ctx.node("Where", counts, ctx.node("Sub", place, ctx.integers(1)), ctx.integers(steps))
    start = ctx.node("Expand", ctx.constant(-1.0), ctx.node("Concat", ctx.integers([steps + 1]), ctx.sizes_of(best, 1),
                                                            axis=0))
    found = ctx.node("ScatterElements", start, place, ctx.node("Cast", best, to=FLOAT), axis=0)
    found = ctx.node("Slice", found, *map(ctx.integers, ([0], [-1], [0])))
    ctx.output("Unsqueeze", ctx.node("Transpose", found, perm=[1, 0]), ctx.integers([2, 3]))
    if len(ctx.y) > 1:
        value = ctx.node("Where", inside, ctx.node("ReduceMax", x, ctx.integers([2]), keepdims=0), ctx.constant(0.0))
        total = ctx.node("Neg", ctx.node("ReduceSum", value, ctx.integers([0]), keepdims=0))
        ctx.graph.node("Unsqueeze", [total, ctx.integers([1, 2, 3])], [ctx.y[1]])


def _from_second(ctx: OnnxContext, x: str) -> str:
    return ctx.node("Slice", x, *map(ctx.integers, ([1], [_END], [0])))


def _after_first(ctx: OnnxContext, holds: str) -> str:
    """Return 1 for steps from the second on (T - 1, N) for which something holds, else 0, and 0 for the first."""
    return ctx.node("Pad", ctx.node("Cast", holds, to=FLOAT), ctx.integers([1, 0, 0, 0]))


def _in_sequence(ctx: OnnxContext) -> str:
    """Return which steps stand before a second sequence begins, (T, N)."""
    go = ctx.x[1]
    if len(ctx.bottom_shapes[1]) != 2:
        go = ctx.node("Reshape", go, ctx.integers([0, -1]))
    raised = ctx.node("Add", _from_second(ctx, go), ctx.constant(0.5))
    begins = _after_first(ctx, ctx.node("Less", ctx.node("Abs", raised), ctx.constant(1.0)))
    return ctx.node("Less", ctx.node("CumSum", begins, ctx.integers(0)), ctx.constant(0.5))


@emits_python("CTCGreedyDecoder", "CTCGreedyDecoder=cc4", "CTCGreedyDecoder=ocr")
def greedy_decoder_python(ctx: PythonContext) -> str:
    blank, merged = _settings(ctx)
    go = ctx.x[1] if ctx.layer.form == "" else "None"
    call = ctx.call("read_best", ctx.x[0], go, blank, merged)
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"
