"""DenseReg's coordinates, and CTPN's boxes of text."""

from __future__ import annotations

import numpy as np
import torch

from .boxes import split
from .context import OnnxContext, PythonContext, emits_onnx, emits_python

FACE, PERSON = "Python=CombineRegressionsLayer", "Python=CombineRegressionsHuman.CombineRegressionsLayer"
TEXT = "Python=layers.text_proposal_layer.ProposalLayer"


@emits_onnx(FACE, PERSON)
def combine_onnx(ctx: OnnxContext) -> None:
    steps = int(ctx.bottom_shapes[2][1])
    numbers = np.arange(steps, dtype=np.float32).reshape(1, -1, 1, 1)
    numbers[0, 0] = np.nan  # step 0, the background, is equal to none
    for step, within, y in zip(ctx.x[:2], ctx.x[2:], ctx.y, strict=True):
        own = ctx.node("Where", ctx.node("Equal", step, ctx.constant(numbers)), within, ctx.constant(0.0))
        place = ctx.node("ReduceSum", own, ctx.integers([1]))
        if ctx.layer.written_as == PERSON:
            ctx.graph.node("Clip", [place, ctx.constant(0.0), ctx.constant(1.0)], [y])
            continue
        whole = ctx.node("Sub", ctx.node("Add", step, place), ctx.constant(1.0))
        place = ctx.node("Div", whole, ctx.constant(float(steps - 1)))
        below = ctx.node("Less", place, ctx.constant(0.0))
        ctx.graph.node("Where", [below, ctx.constant(-1.0), place], [y])


@emits_python(FACE, PERSON)
def combine_python(ctx: PythonContext) -> str:
    return ctx.call("combine_regressions", *ctx.x, f"whole={ctx.layer.written_as == FACE}")


@emits_onnx(TEXT)
def text_proposal_onnx(ctx: OnnxContext) -> None:
    layer, (channels, h, w) = ctx.layer, ctx.size()
    anchors = layer.shifted(h, w).astype(np.float32)
    left, top, right, bottom = (anchors[:, i : i + 1] for i in range(4))
    moves = ctx.node("Reshape", ctx.node("Transpose", ctx.x[1], perm=[0, 2, 3, 1]), ctx.integers([-1, 2]))
    shift, stretch = split(ctx, moves, 1, 1)
    size, middle = ctx.constant(bottom - top + 1), ctx.constant((top + bottom) / 2)
    height = ctx.node("Mul", ctx.node("Exp", stretch), size)
    begin = ctx.node("Sub", ctx.node("Add", ctx.node("Mul", shift, size), middle),
                     ctx.node("Mul", height, ctx.constant(0.5)))
    boxes = ctx.node("Concat", ctx.constant(left), begin, ctx.constant(right), ctx.node("Add", begin, height), axis=1)
    info = ctx.node("Reshape", ctx.x[2], ctx.integers([-1]))
    ends = ctx.node("Sub", ctx.node("Gather", info, ctx.integers([1, 0, 1, 0])), ctx.constant(1.0))
    ctx.graph.node("Max", [ctx.node("Min", boxes, ends), ctx.constant(0.0)], [ctx.y[0]])
    score = ctx.node("Slice", ctx.x[0], *map(ctx.integers, ([channels // 2], [channels], [1])))
    ctx.graph.node("Reshape", [ctx.node("Transpose", score, perm=[0, 2, 3, 1]), ctx.integers([-1, 1])], [ctx.y[1]])


@emits_python(TEXT)
def text_proposal_python(ctx: PythonContext) -> str:
    anchors = torch.from_numpy(ctx.layer.shifted(*map(int, ctx.bottom_shapes[0][2:]))).float()
    return ctx.call("text_boxes", *ctx.x, ctx.writer.buffer(ctx.layer, anchors))
