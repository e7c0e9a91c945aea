"""Losses that give one number in TEST too."""

from __future__ import annotations

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number


def _mean_square_beyond(ctx: OnnxContext, x: str, limit: float) -> str:
    apart = ctx.node("Sub", x, ctx.node("Clip", x, ctx.constant(-limit), ctx.constant(limit)))
    return ctx.node("ReduceMean", ctx.node("Mul", apart, apart), keepdims=0)


@emits_onnx("LocLoss")
def loc_loss_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", _mean_square_beyond(ctx, ctx.x[0], ctx.layer.threshold), ctx.constant(0.5))


@emits_python("LocLoss")
def loc_loss_python(ctx: PythonContext) -> str:
    limit = number(ctx.layer.threshold)
    return f"({ctx.x[0]} - {ctx.x[0]}.clamp(-{limit}, {limit})).square().mean() / 2"


@emits_onnx("STLoss")
def st_loss_onnx(ctx: OnnxContext) -> None:
    theta = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, 2, 3]))
    points = ctx.node("MatMul", theta, ctx.constant(ctx.layer.grid().numpy()))
    ctx.output("Identity", _mean_square_beyond(ctx, points, 1.0))  # half of the sum of two coordinates


@emits_python("STLoss")
def st_loss_python(ctx: PythonContext) -> str:
    return ctx.call("window_loss", ctx.x[0], *ctx.layer.size)
