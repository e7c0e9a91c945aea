"""Values compared with, or weighed by, what is stored for each class."""

from __future__ import annotations

import math

import numpy as np

from ..onnx_graph import FLOAT, INT64
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python


@emits_onnx("ClassWiseProduct")
def class_wise_product_onnx(ctx: OnnxContext) -> None:
    classes, values = ctx.layer.declared[0].shape[:2]
    weight, rows = ctx.weight(0, (classes, values)), ctx.integers([-1, values])
    if math.prod(ctx.size(1)) == 1:
        label = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([-1])), to=INT64)
        mean = ctx.node("Gather", weight, label, axis=0)
    else:
        label = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, classes]))
        size = ctx.node("ReduceSum", ctx.node("Mul", label, label), ctx.integers([1]))
        mean = ctx.node("Div", ctx.node("MatMul", label, weight), size)
    product = ctx.node("Mul", ctx.node("Reshape", ctx.x[0], rows), mean)
    ctx.output("Reshape", product, ctx.integers([-1, values, 1, 1]))


@emits_python("ClassWiseProduct")
def class_wise_product_python(ctx: PythonContext) -> str:
    classes, values = ctx.layer.declared[0].shape[:2]
    names = ["weight", "bias"][: len(ctx.layer.declared)]
    state = {name: blob.reshape(-1, values) for name, blob in zip(names, ctx.layer.blobs(), strict=True)}
    constructor = f"{ctx.writer.use('ClassWiseProduct')}({classes}, {values}, bias={len(names) == 2})"
    return f"{ctx.writer.module(ctx.layer, constructor, state)}({', '.join(ctx.x)})"


@emits_onnx("CreateMaskVector")
def create_mask_vector_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("create_mask_vector_param")
    label = ctx.node("Cast", ctx.node("Reshape", ctx.x[0], ctx.integers([0, 1, -1])), to=INT64)
    same = ctx.node("Equal", label, ctx.integers(np.arange(param.num_label).reshape(-1, 1)))
    shares = ctx.node("ReduceMean", ctx.node("Cast", same, to=FLOAT), ctx.integers([2]))
    seen = ctx.node("CumSum", shares, ctx.integers(0))
    if param.pool == "MAX":
        seen = ctx.node("Cast", ctx.node("Greater", seen, ctx.constant(0.0)), to=FLOAT)
    ctx.output("Unsqueeze", seen, ctx.integers([3]))


@emits_python("CreateMaskVector")
def create_mask_vector_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("create_mask_vector_param")
    return ctx.call("labels_seen", ctx.x[0], param.num_label, f"shares={param.pool != 'MAX'}")


def _refuse_more_labels(ctx: EmitContext) -> None:
    """Refuse more labels than rows, of which only the first count."""
    if ctx.bottom_shapes[1][:1] != ctx.bottom_shapes[0][:1] or any(size != 1 for size in ctx.bottom_shapes[1][1:]):
        raise ctx.refuse("it has more labels than rows")


@emits_onnx("LabeledMatching", "UnlabeledMatching")
def matching_onnx(ctx: OnnxContext) -> None:
    ctx.output("Gemm", ctx.node("Flatten", ctx.x[0]), ctx.weight(0), transB=1)
    if len(ctx.y) == 2:
        _refuse_more_labels(ctx)
        index = ctx.node("Cast", ctx.x[1], to=INT64)
        outside = ctx.node("Or", ctx.node("Less", index, ctx.integers(0)),
                           ctx.node("GreaterOrEqual", index, ctx.integers(ctx.layer.declared[0].shape[0])))
        ctx.graph.node("Where", [outside, ctx.constant(-1.0), ctx.x[1]], [ctx.y[1]])


@emits_python("LabeledMatching", "UnlabeledMatching")
def matching_python(ctx: PythonContext) -> str:
    x, label, features = *ctx.x, ctx.layer.blobs()[0]
    scores = f"F.linear({x}.reshape(len({x}), -1), {ctx.writer.buffer(ctx.layer, features)})"
    if len(ctx.top_shapes) == 1:
        return scores
    _refuse_more_labels(ctx)
    return f"{scores}, {ctx.call('known_labels', label, len(features))}"
