"""Boxes that maps tell of as shares of an ideal size around each place."""

from __future__ import annotations

import numpy as np
import torch

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python


def _middles(ctx: EmitContext, size: tuple[int, ...]) -> np.ndarray:
    """What is added to the boxes' channels, (channels, H, W), from the second on."""
    layer, (h, w) = ctx.layer, size
    rows, columns = (np.trunc(layer.downsampling * (np.arange(n, dtype=np.float32) + np.float32(0.5)))
                     for n in (h, w))
    channels = [np.broadcast_to(rows[:, None] if c in layer.down else columns, (h, w))
                for c in range(1, 1 + len(layer.down) + len(layer.across))]
    return np.stack(channels).astype(np.float32)


@emits_onnx("BBTXTBB", "BB3TXTBB")
def boxes_of_places_onnx(ctx: OnnxContext) -> None:
    channels, *size = ctx.size()
    middles = _middles(ctx, tuple(size))
    boxes = 1 + len(middles)
    sizes = [1, boxes - 1, *([channels - boxes] if channels > boxes else [])]
    score, moves, *rest = ctx.graph.nodes_of("Split", [ctx.x[0], ctx.integers(sizes)], len(sizes), axis=1)
    local = ctx.node("Mul", ctx.node("Sub", moves, ctx.constant(0.5)), ctx.constant(ctx.layer.ideal_size))
    found = ctx.node("Add", local, ctx.constant(middles[None]))
    if ctx.layer.in_place:
        ctx.output("Concat", score, found, *rest, axis=1)
    else:
        ctx.output("Pad", found, ctx.integers([0, 1, 0, 0, 0, channels - boxes, 0, 0]))


@emits_python("BBTXTBB", "BB3TXTBB")
def boxes_of_places_python(ctx: PythonContext) -> str:
    middles = ctx.writer.buffer(ctx.layer, torch.from_numpy(_middles(ctx, ctx.plane())))
    return ctx.call("boxes_of_places", ctx.x[0], middles, f"{ctx.layer.ideal_size:g}", not ctx.layer.in_place)
