"""Sums and products: of bottoms, with learnt blobs, over axes."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import Layer

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, bracketed, number, pair


def _first_read(layer: Layer) -> int:
    """The first bottom that Eltwise reads: in place, the published code clears bottom 0 before (layers.eltwise)."""
    return 1 if layer.in_place and layer.operation != "PROD" else 0


@emits_onnx("Eltwise", "Eltwise=flownet", "Eltwise=difference")
def eltwise_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    start = _first_read(layer)
    terms = list(ctx.x[start:])
    if layer.operation == "SUM":
        terms = [x if c == 1 else ctx.node("Mul", x, ctx.constant(c))
                 for x, c in zip(terms, layer.coeff[start:], strict=True)]
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max", "SUBTRACT": "Sub"}[layer.operation]
    if len(terms) == 1:
        ctx.output("Identity", terms[0])
        return
    total = terms[0]
    for term in terms[1:-1]:
        total = ctx.node(op, total, term)
    ctx.output(op, total, terms[-1])


@emits_python("Eltwise", "Eltwise=flownet", "Eltwise=difference")
def eltwise_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    start = _first_read(layer)
    terms = list(ctx.x[start:])
    if layer.operation == "MAX":
        total = terms[0]
        for term in terms[1:]:
            total = f"torch.maximum({total}, {term})"
        return total
    if layer.operation == "SUM":
        terms = [x if c == 1 else f"{bracketed(c)} * {x}" for x, c in zip(terms, layer.coeff[start:], strict=True)]
    return {"SUM": " + ", "PROD": " * ", "SUBTRACT": " - "}[layer.operation].join(terms)


@emits_onnx("Scale", "Bias")
def along_onnx(ctx: OnnxContext) -> None:
    """Multiply by, or add, an operand that is broadcast: learnt, or the second bottom."""
    layer, dims = ctx.layer, len(ctx.bottom_shapes[0])
    is_scale = layer.spec.type == "Scale"
    y = ctx.x[0]
    if len(ctx.x) == 1 and dims > 2 and len(layer.declared) == 2 and _is_per_channel(ctx, layer.at):
        _affine_onnx(ctx)
        return
    if len(ctx.x) == 2:
        behind = range(len(ctx.bottom_shapes[1]), dims - layer.at)
        operand = ctx.x[1] if not behind else ctx.node("Unsqueeze", ctx.x[1], ctx.integers(list(behind)))
    else:
        operand = _spread_onnx(ctx, 0, layer.at)
    has_bias = is_scale and layer.spec.get("scale_param").bias_term
    y = ctx.graph.node("Mul" if is_scale else "Add", [y, operand], 1 if has_bias else ctx.y)
    if has_bias:
        ctx.output("Add", y, _spread_onnx(ctx, len(layer.declared) - 1, layer.bias_at))


@emits_onnx("Scale=happynear")
def scale_within_onnx(ctx: OnnxContext) -> None:
    layer, limits = ctx.layer, ctx.layer.limits()
    if len(ctx.x) == 2:
        ends = [ctx.constant(limits[name]) if name in limits else "" for name in ("min", "max")]
        along_onnx(replace(ctx, x=(ctx.x[0], ctx.node("Clip", ctx.x[1], *ends))))
        return
    y = ctx.node("Mul", ctx.x[0], _stored_onnx(ctx, 0, _cut(layer).numpy(), layer.at))
    if layer.bias_term:
        ctx.output("Add", y, _spread_onnx(ctx, len(layer.declared) - 1, layer.bias_at))
    else:
        ctx.output("Identity", y)


@emits_python("Scale=happynear")
def scale_within_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if len(ctx.x) == 2:
        cut = "".join(f", {name}={number(value)}" for name, value in layer.limits().items()).removeprefix(", ")
        operand = f"{ctx.x[1]}.clamp({cut})" if cut else ctx.x[1]
        return scale_python(replace(ctx, x=(ctx.x[0], operand)))
    own = copy(layer)
    own._parameters = layer._parameters | {layer.declared[0].name: torch.nn.Parameter(_cut(layer), False)}
    return scale_python(replace(ctx, layer=own))


def _cut(layer: Layer) -> torch.Tensor:
    """The scale as the next forward would cut it."""
    scale = layer.blobs()[0].detach().cpu()
    return scale.clamp(**layer.limits()) if layer.limits() else scale


def _is_per_channel(ctx: OnnxContext, axis: int) -> bool:
    return axis == 1 and all(declared.shape == (ctx.bottom_shapes[0][1],) for declared in ctx.layer.declared)


def _affine_onnx(ctx: OnnxContext) -> None:
    """Multiply and add per channel in one node: a BatchNormalization of mean 0 and variance 1."""
    channels = len(ctx.layer.blobs()[0].flatten())
    ctx.output("BatchNormalization", ctx.x[0], ctx.weight(0, (-1,)), ctx.weight(1, (-1,)),
               *(ctx.constant([value] * channels) for value in (0.0, 1.0)), epsilon=0.0)


def _spread_onnx(ctx: OnnxContext, index: int, axis: int) -> str:
    """Return a parameter with axes of size 1 appended, so that it broadcasts from `axis` on."""
    return _stored_onnx(ctx, index, ctx.blob(index), axis)


def _stored_onnx(ctx: OnnxContext, index: int, values: np.ndarray, axis: int) -> str:
    """Return the same of these values of a parameter."""
    spread = (1,) * (len(ctx.bottom_shapes[0]) - axis - values.ndim)
    return ctx.graph.parameter(f"{ctx.layer.spec.name}.{ctx.layer.declared[index].name}",
                               values.reshape(values.shape + spread))


@emits_python("Scale")
def scale_python(ctx: PythonContext) -> str:
    layer, has_bias = ctx.layer, ctx.layer.spec.get("scale_param").bias_term
    if len(ctx.x) == 2:
        y = f"{ctx.x[0]} * {_spread_python(ctx, layer.at)}"
        return y if not has_bias else f"{_bias_module(ctx, layer.bias_at)}({y})"
    scale, *bias = layer.blobs()
    if has_bias and bias[-1].shape != scale.shape:
        raise ctx.refuse("its bias and its scale differ in shape; use a Bias layer")
    ctx.writer.use("Scale")
    inside = arguments(*scale.shape, axis=(str(layer.at), "1"), bias=(str(bool(has_bias)), "True"))
    state = {"scale": scale} | ({"bias": bias[-1]} if has_bias else {})
    return f"{ctx.writer.module(layer, f'Scale({inside})', state)}({ctx.x[0]})"


@emits_python("Bias")
def bias_python(ctx: PythonContext) -> str:
    if len(ctx.x) == 2:
        return f"{ctx.x[0]} + {_spread_python(ctx, ctx.layer.at)}"
    return f"{_bias_module(ctx, ctx.layer.at)}({ctx.x[0]})"


def _bias_module(ctx: PythonContext, axis: int) -> str:
    ctx.writer.use("Bias")
    bias = ctx.layer.blobs()[-1]
    return ctx.writer.module(ctx.layer, f"Bias({arguments(*bias.shape, axis=(str(axis), '1'))})", {"bias": bias})


def _spread_python(ctx: PythonContext, axis: int) -> str:
    """Return the second bottom with axes appended, so that it broadcasts from `axis` on."""
    behind = len(ctx.bottom_shapes[0]) - axis - len(ctx.bottom_shapes[1])
    return ctx.x[1] if not behind else f"{ctx.x[1]}[..., {', '.join(['None'] * behind)}]"


@emits_onnx("Eltwise=lrcn")
def weighted_sum_onnx(ctx: OnnxContext) -> None:
    *terms, factors = ctx.x
    further = list(range(len(ctx.bottom_shapes[-1]) - 1, len(ctx.bottom_shapes[0])))
    parts = []
    for i, (term, c) in enumerate(zip(terms, ctx.layer.coeff, strict=True)):
        factor = ctx.node("Gather", factors, ctx.integers(i), axis=0)
        if further:
            factor = ctx.node("Unsqueeze", factor, ctx.integers(further))
        if c != 1:
            factor = ctx.node("Mul", factor, ctx.constant(c))
        parts.append(ctx.node("Mul", term, factor))
    ctx.output("Sum", *parts)


@emits_python("Eltwise=lrcn")
def weighted_sum_python(ctx: PythonContext) -> str:
    *terms, factors = ctx.x
    further = len(ctx.bottom_shapes[0]) - len(ctx.bottom_shapes[-1]) + 1
    spread = f"[(...{', None' * further})]" if further else ""
    return " + ".join(f"{term} * {'' if c == 1 else f'{bracketed(c)} * '}{factors}[{i}]{spread}"
                      for i, (term, c) in enumerate(zip(terms, ctx.layer.coeff, strict=True)))


@emits_onnx("EltwiseAffine")
def eltwise_affine_onnx(ctx: OnnxContext) -> None:
    if not ctx.layer.shared and len(ctx.bottom_shapes[0]) > 2:
        _affine_onnx(ctx)
        return
    spread = () if ctx.layer.shared else (-1, *[1] * (len(ctx.bottom_shapes[0]) - 2))
    ctx.output("Add", ctx.node("Mul", ctx.x[0], ctx.weight(0, spread)), ctx.weight(1, spread))


@emits_python("EltwiseAffine")
def eltwise_affine_python(ctx: PythonContext) -> str:
    return ctx.part("EltwiseAffine", "slope", "bias", arguments=arguments(*ctx.layer.declared[0].shape))


@emits_onnx("Reduction")
def reduction_onnx(ctx: OnnxContext) -> None:
    param, dims = ctx.layer.spec.get("reduction_param"), len(ctx.bottom_shapes[0])
    op = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[param.operation]
    axes = ctx.integers(list(range(len(ctx.top_shapes[0]), dims)))
    y = ctx.graph.node(op, [*ctx.x, axes], ctx.y if param.coeff == 1 else 1, keepdims=0)
    if param.coeff != 1:
        ctx.output("Mul", y, ctx.constant(param.coeff))


@emits_python("Reduction")
def reduction_python(ctx: PythonContext) -> str:
    param, x = ctx.layer.spec.get("reduction_param"), ctx.x[0]
    axes = pair(range(len(ctx.top_shapes[0]), len(ctx.bottom_shapes[0]))).replace(",)", ")")
    y = {"SUM": f"{x}.sum({axes})", "ASUM": f"{x}.abs().sum({axes})", "SUMSQ": f"({x} * {x}).sum({axes})",
         "MEAN": f"{x}.mean({axes})"}[param.operation]
    return y if param.coeff == 1 else f"{y} * {number(param.coeff)}"


@emits_onnx("Axpy")
def axpy_onnx(ctx: OnnxContext) -> None:
    a = ctx.x[0]
    if len(ctx.bottom_shapes[0]) == 2:
        a = ctx.node("Unsqueeze", a, ctx.integers([2, 3]))
    ctx.output("Add", ctx.node("Mul", a, ctx.x[1]), ctx.x[2])


@emits_python("Axpy")
def axpy_python(ctx: PythonContext) -> str:
    a, x, y = ctx.x
    weight = a if len(ctx.bottom_shapes[0]) == 4 else f"{a}[:, :, None, None]"
    return f"{weight} * {x} + {y}"


@emits_onnx("ChannelScale")
def channel_scale_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.param
    if param.global_scale:
        factor = ctx.graph.parameter(f"{layer.spec.name}.scale", _global_scale(ctx).numpy())
    else:
        factor = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, *[1] * min(1, len(ctx.bottom_shapes[0]) - 1),
                                                             *ctx.size()[1:]]))
    if param.do_forward:
        ctx.output("Mul", ctx.x[0], factor)
    else:
        ctx.output("Identity", ctx.x[0])
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [factor], [ctx.y[1]])


@emits_python("ChannelScale")
def channel_scale_python(ctx: PythonContext) -> str:
    param = ctx.layer.param
    if param.global_scale:
        factor = ctx.writer.buffer(ctx.layer, _global_scale(ctx))
    else:
        factor = f"{ctx.x[1]}.reshape({', '.join(map(str, (-1, 1, *ctx.bottom_shapes[0][2:])))})"
    top = f"{ctx.x[0]} * {factor}" if param.do_forward else ctx.x[0]
    return top if len(ctx.top_shapes) == 1 else f"{top}, {factor}"


def _global_scale(ctx: EmitContext) -> torch.Tensor:
    param = ctx.layer.param
    return ctx.layer.blobs()[0].detach().cpu().clamp(param.min_global_scale, param.max_global_scale)


@emits_onnx("PowerFile")
def power_file_onnx(ctx: OnnxContext) -> None:
    ctx.output("Add", ctx.x[0], ctx.graph.parameter(f"{ctx.layer.spec.name}.shift", ctx.layer.shift.cpu().numpy()))


@emits_python("PowerFile")
def power_file_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]} + {ctx.writer.buffer(ctx.layer, ctx.layer.shift.cpu())}"


@emits_onnx("SpatialProduct")
def spatial_product_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", *ctx.x)


@emits_python("SpatialProduct")
def spatial_product_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]} * {ctx.x[1]}"
