"""Captions by beam search."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import FLOAT, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python

_LOWEST = -float("inf")


@emits_onnx("BeamSearchNode")
def beam_search_node_onnx(ctx: OnnxContext) -> None:
    """Of equal sums the last goes first; TopK takes the first, so the rows of sums are reversed."""
    layer, first = ctx.layer, 3 if ctx.layer.goes_on else 1
    beams, scores, words = layer.beams, ctx.x[first - 1], ctx.size(first - 1)[0]
    each = ctx.integers(np.arange(words).reshape(1, words))
    if layer.goes_on:
        last = ctx.node("Cast", ctx.node("Slice", ctx.x[1], *map(ctx.integers, ([-1], [(1 << 63) - 1], [1]))), to=INT64)
        ended = ctx.node("Equal", last, ctx.integers(layer.end))
        scores = ctx.node("Where", ended, ctx.x[0], ctx.node("Add", ctx.x[0], scores))
        may_follow = ctx.node("Or", ctx.node("Equal", each, ctx.integers(layer.end)), ctx.node("Not", ended))
        if not layer.repeats:
            new = ctx.node("Not", ctx.node("Equal", last, each))
            may_follow = ctx.node("And", may_follow, ctx.node("Or", ended, new))
        possible = ctx.node("Where", may_follow, scores, ctx.constant(_LOWEST))
    else:
        possible = ctx.node("Reshape", scores, ctx.integers([-1, beams, words]))
        possible = ctx.node("Where", ctx.graph.constant(np.arange(beams).reshape(beams, 1) == 0, bool), possible,
                            ctx.constant(_LOWEST))
    flat = ctx.integers([-1, beams * words])
    turned = ctx.node("Slice", ctx.node("Reshape", possible, flat),
                      *map(ctx.integers, ([-1], [-beams * words - 1], [1], [-1])))
    best = ctx.graph.nodes_of("TopK", [turned, ctx.integers([beams])], 2, axis=1)[1]
    best = ctx.node("Sub", ctx.integers(beams * words - 1), best)
    source = ctx.node("Unsqueeze", ctx.node("Div", best, ctx.integers(words)), ctx.integers([2]))
    column = ctx.integers([-1, 1])
    sums = ctx.node("GatherElements", ctx.node("Reshape", scores, flat), best, axis=1)
    ctx.output("Reshape", sums, column)
    spoken = ctx.node("Reshape", ctx.node("Cast", ctx.node("Mod", best, ctx.integers(words)), to=FLOAT), column)

    def chosen(index: int) -> str:
        """Return the rows of a bottom from which the samples that were kept go on."""
        values = ctx.size(index)[0]
        rows = ctx.node("Reshape", ctx.x[index], ctx.integers([-1, beams, values]))
        return ctx.node("Reshape", ctx.node("GatherND", rows, source, batch_dims=1), ctx.integers([-1, values]))

    ctx.graph.node("Concat", [*([chosen(1)] if layer.goes_on else []), spoken], [ctx.y[1]], axis=1)
    ctx.graph.node("Identity", [spoken], [ctx.y[2]])
    ends = ctx.node("Equal", spoken, ctx.constant(float(layer.end)))
    for i, y in enumerate(ctx.y[3:], first):
        ctx.graph.node("Where", [ends, ctx.constant(0.0), chosen(i)], [y])


@emits_python("BeamSearchNode")
def beam_search_node_python(ctx: PythonContext) -> str:
    layer, first = ctx.layer, 3 if ctx.layer.goes_on else 1
    before = f"({ctx.x[0]}, {ctx.x[1]})" if layer.goes_on else None
    return ctx.call("beam_step", ctx.x[first - 1], before, f"[{', '.join(ctx.x[first:])}]", layer.beams, layer.end,
                    f"repeats={layer.repeats}")
