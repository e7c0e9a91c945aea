"""What detectors of hidden messages do before their networks."""

from __future__ import annotations

from rmpe_legacy.caffe.layers.steganalysis import BLOCK

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number


@emits_onnx("BdctToSpatial")
def bdct_to_spatial_onnx(ctx: OnnxContext) -> None:
    ctx.output("ConvTranspose", ctx.maps(), ctx.constant(ctx.layer.patterns().numpy()), strides=[BLOCK, BLOCK])


@emits_python("BdctToSpatial")
def bdct_to_spatial_python(ctx: PythonContext) -> str:
    return f"F.conv_transpose2d({ctx.maps()}, {ctx.writer.buffer(ctx.layer, ctx.layer.patterns())}, stride={BLOCK})"


@emits_onnx("QuantTruncAbs")
def quant_trunc_abs_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    size = ctx.node("Abs", x)
    if "QUANT" in layer.process:
        size = _half_up(ctx, size)
    if "TRUNC" in layer.process:
        size = ctx.node("Min", size, ctx.constant(layer.threshold))
    if "ABS" in layer.process:
        ctx.output("Identity", size)
    else:
        ctx.output("Mul", ctx.node("Sign", x), size)


@emits_python("QuantTruncAbs")
def quant_trunc_abs_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    size = f"{x}.abs()"
    if "QUANT" in layer.process:
        size = ctx.call("half_up", size)
    if "TRUNC" in layer.process:
        size = f"{size}.clamp(max={number(layer.threshold)})"
    return size if "ABS" in layer.process else f"{x}.sign() * {size}"


@emits_onnx("DctrQT")
def dctr_qt_onnx(ctx: OnnxContext) -> None:
    size = ctx.node("Abs", ctx.node("Div", ctx.x[0], ctx.constant(ctx.layer.step)))
    ctx.output("Min", _half_up(ctx, size), ctx.constant(ctx.layer.threshold))


@emits_python("DctrQT")
def dctr_qt_python(ctx: PythonContext) -> str:
    size = ctx.call("half_up", f"({ctx.x[0]} / {number(ctx.layer.step)}).abs()")
    return f"{size}.clamp(max={number(ctx.layer.threshold)})"


def _half_up(ctx: OnnxContext, size: str) -> str:
    """Return values that are not negative, rounded; not by adding a half, which rounds what is just below one up."""
    whole = ctx.node("Floor", size)
    is_up = ctx.node("GreaterOrEqual", ctx.node("Sub", size, whole), ctx.constant(0.5))
    return ctx.node("Where", is_up, ctx.node("Add", whole, ctx.constant(1.0)), whole)
