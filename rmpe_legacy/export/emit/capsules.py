"""Capsules: their lengths, and what shortens or chooses them."""

from __future__ import annotations

import numpy as np

from rmpe_legacy.caffe.layers.capsules import TINY

from .context import OnnxContext, PythonContext, emits_onnx, emits_python


def _cut(ctx: OnnxContext, *sizes: int) -> str:
    """Return the rows of the bottom cut into capsules; of the sizes (capsules, values) one may be -1."""
    return ctx.node("Reshape", ctx.x[0], ctx.integers([0, *sizes]))


def _whole(ctx: OnnxContext, capsules: str) -> None:
    """Give the top: capsules in the bottom's shape."""
    ctx.output("Reshape", capsules, ctx.integers([0, *ctx.size()]))


def _length(ctx: OnnxContext, capsules: str, tiny: float, keepdims: int) -> str:
    square = ctx.node("ReduceSum", ctx.node("Mul", capsules, capsules), ctx.integers([2]), keepdims=keepdims)
    return ctx.node("Sqrt", ctx.node("Add", square, ctx.constant(tiny)))


@emits_onnx("Squash")
def squash_onnx(ctx: OnnxContext) -> None:
    """1 - exp(-r) is written as tanh(r / 2) * (1 + exp(-r)), which keeps the digits of a small r."""
    x = _cut(ctx, -1, ctx.layer.spec.get("squash_param").capsule_dim)
    length = _length(ctx, x, 2 * TINY, keepdims=1)
    rise = ctx.node("Tanh", ctx.node("Mul", length, ctx.constant(0.5)))
    rest = ctx.node("Add", ctx.node("Exp", ctx.node("Neg", length)), ctx.constant(1.0))
    _whole(ctx, ctx.node("Mul", x, ctx.node("Div", ctx.node("Mul", rise, rest), length)))


@emits_python("Squash")
def squash_python(ctx: PythonContext) -> str:
    return ctx.call("squash", ctx.x[0], ctx.layer.spec.get("squash_param").capsule_dim)


@emits_onnx("CapsuleReshape")
def capsule_reshape_onnx(ctx: OnnxContext) -> None:
    size = ctx.layer.spec.get("capsule_reshape_param").capsule_dim
    x = ctx.node("Transpose", _cut(ctx, ctx.size()[0] // size, size, -1), perm=[0, 1, 3, 2])
    ctx.output("Reshape", x, ctx.integers([0, -1, size]))


@emits_python("CapsuleReshape")
def capsule_reshape_python(ctx: PythonContext) -> str:
    size = ctx.layer.spec.get("capsule_reshape_param").capsule_dim
    return f"{ctx.x[0]}.flatten(2).unflatten(1, (-1, {size})).mT.flatten(1, 2)"


@emits_onnx("CapsuleLen")
def capsule_len_onnx(ctx: OnnxContext) -> None:
    length = _length(ctx, _cut(ctx, ctx.layer.spec.get("capsule_len_param").num_class, -1), TINY, keepdims=0)
    ctx.output("Identity", length)


@emits_python("CapsuleLen")
def capsule_len_python(ctx: PythonContext) -> str:
    return ctx.call("capsule_lengths", ctx.x[0], ctx.layer.spec.get("capsule_len_param").num_class)


@emits_onnx("CapsuleMask")
def capsule_mask_onnx(ctx: OnnxContext) -> None:
    classes = ctx.layer.spec.get("capsule_mask_param").class_num
    last = np.arange(classes).reshape(classes, 1) == classes - 1
    _whole(ctx, ctx.node("Mul", _cut(ctx, classes, -1), ctx.constant(last)))


@emits_python("CapsuleMask")
def capsule_mask_python(ctx: PythonContext) -> str:
    return ctx.call("last_capsule", ctx.x[0], ctx.layer.spec.get("capsule_mask_param").class_num)
