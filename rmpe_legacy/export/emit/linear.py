"""Matrices: products, rows by number, and plain learnt blobs."""

from __future__ import annotations

import torch

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.quantized_by_chance import QuantizedByChance

from ..onnx_graph import INT64
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, reshape_arguments

_INNER_PRODUCT = ("InnerProduct", "BinaryInnerProduct", "TernaryInnerProduct", "CInnerProduct", "DNSInnerProduct",
                  "INQInnerProduct")


def refuse_draws(ctx: EmitContext) -> None:
    """Refuse a layer that draws in each forward which weights are quantised."""
    if isinstance(ctx.layer, QuantizedByChance) and ctx.layer.drawn > 0:
        raise ctx.refuse("it draws in each forward which weights are quantised; set sq to false or ratio to 100")


@emits_onnx(*_INNER_PRODUCT)
def inner_product_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    refuse_draws(ctx)
    if len(ctx.bottom_shapes[0]) != 2 or layer.lead != 1:
        x = ctx.node("Flatten", x, axis=layer.lead)
    inputs = [x, *(ctx.weight(i) for i in range(len(layer.blobs())))]
    if len(ctx.top_shapes[0]) == 2:
        ctx.output("Gemm", *inputs, transB=int(not layer.transpose))
    else:
        rows = ctx.node("Gemm", *inputs, transB=int(not layer.transpose))
        ctx.graph.reshape(rows, (), ctx.top_shapes[0], ctx.y[0])


@emits_python(*_INNER_PRODUCT)
def inner_product_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    refuse_draws(ctx)
    names, is_2d = ["weight", "bias"][: len(layer.blobs())], len(ctx.bottom_shapes[0]) == 2
    bias = {"bias": (str(len(names) == 2), "True")}
    if layer.lead == 1 and not layer.transpose:
        module = ctx.submodule(f"nn.Linear({arguments(layer.inputs, layer.num_output, **bias)})", *names)
        return f"{module}({ctx.x[0]}{'' if is_2d else '.flatten(1)'})"
    return ctx.part("InnerProduct", *names, arguments=arguments(
        layer.inputs, layer.num_output, axis=(str(layer.lead), "1"), **bias, transpose=(str(layer.transpose), "False")))


@emits_onnx("InnerProduct=training-toolbox")
def product_of_bottoms_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    rows = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, layer.inputs]))
    size = [layer.inputs, -1] if layer.transpose else [-1, layer.inputs]
    product = ctx.node("Gemm", rows, ctx.node("Reshape", ctx.x[1], ctx.integers(size)), transB=int(not layer.transpose))
    ctx.graph.reshape(product, (), ctx.top_shapes[0], ctx.y[0])


@emits_python("InnerProduct=training-toolbox")
def product_of_bottoms_python(ctx: PythonContext) -> str:
    layer, (x, weight) = ctx.layer, ctx.x
    matrix = f"{weight}.reshape({layer.inputs}, -1).t()" if layer.transpose else f"{weight}.reshape(-1, {layer.inputs})"
    return f"F.linear({x}.flatten({layer.lead}), {matrix})"


def _drops_axis(ctx: EmitContext) -> bool:
    """Whether the vectors take the place of a last axis of 1."""
    return len(ctx.top_shapes[0]) == len(ctx.bottom_shapes[0])


@emits_onnx("Embed", "Embed=up-down")
def embed_onnx(ctx: OnnxContext) -> None:
    rows = ctx.node("Cast", *ctx.x, to=INT64)
    if _drops_axis(ctx):
        rows = ctx.node("Squeeze", rows, ctx.integers([-1]))
    if len(ctx.layer.declared) == 1:
        ctx.output("Gather", ctx.weight(0), rows)
    else:
        ctx.output("Add", ctx.node("Gather", ctx.weight(0), rows), ctx.weight(1))


@emits_python("Embed", "Embed=up-down")
def embed_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    names = ["weight", "bias"][: len(layer.declared)]
    given = arguments(layer.rows, layer.num_output, bias=(str(len(names) == 2), "True"))
    module = ctx.submodule(f"{ctx.writer.use('Embed')}({given})", *names)
    return f"{module}({ctx.x[0]}{'.squeeze(-1)' if _drops_axis(ctx) else ''})"


@emits_onnx("Parameter")
def parameter_onnx(ctx: OnnxContext) -> None:
    ctx.output("Identity", ctx.weight(0))


@emits_python("Parameter")
def parameter_python(ctx: PythonContext) -> str:
    return ctx.writer.buffer(ctx.layer, ctx.layer.blobs()[0])


@emits_onnx("InnerDistance")
def inner_distance_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.spec.get("inner_distance_param")
    weight = ctx.node("Reshape", ctx.x[1], ctx.integers([0, -1])) if len(ctx.x) > 1 else \
        ctx.graph.parameter(f"{layer.spec.name}.weight", _centres(layer).numpy())
    rows = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, 1, layer.values]))
    apart = ctx.node("Sub", rows, weight)
    apart = ctx.node("Abs", apart) if param.distance_type == "L1" else ctx.node("Mul", apart, apart)
    distance = ctx.node("ReduceSum", apart, ctx.integers([2]), keepdims=0)
    ctx.graph.reshape(distance, ctx.bottom_shapes[0][:1] if layer.at else (), ctx.top_shapes[0], ctx.y[0])


@emits_python("InnerDistance")
def inner_distance_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.spec.get("inner_distance_param")
    weight = f"{ctx.x[1]}.flatten(1)" if len(ctx.x) > 1 else ctx.writer.buffer(layer, _centres(layer))
    call = ctx.call("distances", f"{ctx.x[0]}.reshape(-1, {layer.values})", weight,
                    f"absolute={param.distance_type == 'L1'}")
    if layer.at == 1:
        return call
    return f"{call}.reshape({reshape_arguments(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0])})"


def _centres(layer: Layer) -> torch.Tensor:
    """The stored rows, as Forward leaves them."""
    weight = layer.blobs()[0].detach().cpu()
    if not layer.spec.get("inner_distance_param").normalize:
        return weight
    return weight / (weight.square().sum(1, keepdim=True) + 1e-6).sqrt()


@emits_onnx("CompactBilinear")
def compact_bilinear_onnx(ctx: OnnxContext) -> None:
    """As the layer does it; DFT's inverse gives complex numbers, of which the imaginary parts are 0."""
    layer = ctx.layer
    one, other = (_spectrum(ctx, x, *sketch) for x, sketch in zip(ctx.x, layer.sketches, strict=True))
    (a, b), (c, d) = (ctx.graph.nodes_of("Split", [x, ctx.integers([1, 1])], 2, axis=2) for x in (one, other))
    real, imaginary = (ctx.node(op, ctx.node("Mul", *left), ctx.node("Mul", *right))
                       for op, left, right in (("Sub", (a, c), (b, d)), ("Add", (a, d), (b, c))))
    whole = ctx.node("DFT", ctx.node("Concat", real, imaginary, axis=2), inverse=1)
    sums = ctx.node("Mul", ctx.node("Gather", whole, ctx.integers(0), axis=2), ctx.constant(float(layer.size)))
    _, _, h, w = ctx.bottom_shapes[0]
    if not isinstance(h, int) or not isinstance(w, int):
        raise ctx.graph.graph.refuse_dynamic(layer, "it is written for fixed sizes only")
    maps = ctx.node("Transpose", ctx.node("Reshape", sums, ctx.integers([-1, h, w, layer.size])), perm=[0, 3, 1, 2])
    if layer.sum_pool:
        ctx.output("ReduceSum", maps, ctx.integers([2, 3]))
    else:
        ctx.output("Identity", maps)


def _spectrum(ctx: OnnxContext, x: str, cells: torch.Tensor, signs: torch.Tensor) -> str:
    """Return the transform of the sketch of each place, (places, num_output, 2)."""
    into = torch.zeros(len(cells), ctx.layer.size)
    into[torch.arange(len(cells)), cells] = signs
    places = ctx.node("Transpose", x, perm=[0, 2, 3, 1])
    sketch = ctx.node("MatMul", places, ctx.constant(into.numpy()))
    return ctx.node("DFT", ctx.node("Reshape", sketch, ctx.integers([-1, ctx.layer.size, 1])))


@emits_python("CompactBilinear")
def compact_bilinear_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    (cells, signs), (other_cells, other_signs) = layer.sketches
    state = {"cells": cells, "signs": signs, "other_cells": other_cells, "other_signs": other_signs}
    inside = arguments(len(cells), len(other_cells), layer.size, whole=(str(layer.sum_pool), "False"))
    module = ctx.writer.module(layer, f"{ctx.writer.use('CompactBilinear')}({inside})", state)
    return f"{module}({', '.join(ctx.x)})"


@emits_onnx("WordSum")
def word_sum_onnx(ctx: OnnxContext) -> None:
    sums = [ctx.weight(0), ctx.x[0]]
    if len(ctx.layer.declared) == 1:
        ctx.output("MatMul", *sums)
    else:
        ctx.output("Add", ctx.node("MatMul", *sums), ctx.weight(1, list(map(int, ctx.top_shapes[0][1:]))))


@emits_python("WordSum")
def word_sum_python(ctx: PythonContext) -> str:
    layer, (outputs, size) = ctx.layer, map(int, ctx.top_shapes[0][1:])
    weight, *bias = layer.blobs()
    state = {"weight": weight} | ({"bias": bias[0].view(outputs, size)} if bias else {})
    inside = arguments(len(weight.t()), outputs, size, bias=(str(bool(bias)), "True"))
    constructor = f"{ctx.writer.use('WordSum')}({inside})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("MatrixProd")
def matrix_prod_onnx(ctx: OnnxContext) -> None:
    (left, right), (rows, each) = ctx.x, (shape[0] for shape in ctx.bottom_shapes)
    if rows == each or ctx.shape()[0] != 1:
        ctx.output("MatMul", left, right)
        return
    products = ctx.node("MatMul", ctx.node("Transpose", left, perm=[1, 0, 2]), right)
    ctx.output("Transpose", products, perm=[1, 0, 2])


@emits_python("MatrixProd")
def matrix_prod_python(ctx: PythonContext) -> str:
    return ctx.call("matrix_products", *ctx.x)
