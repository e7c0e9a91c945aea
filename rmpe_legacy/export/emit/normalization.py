"""Layers that divide by a norm or a deviation."""

from __future__ import annotations

import torch

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, reshape_arguments


@emits_onnx("BatchNorm")
def batch_norm_onnx(ctx: OnnxContext) -> None:
    layer, channels = ctx.layer, ctx.layer.declared[0].shape[0]
    if not layer.use_global_stats:
        _normalize_by_batch(ctx)
        return
    mean, variance, factor = (layer.blobs()[i].detach() for i in range(3))
    factor = torch.where(factor == 0, 0, 1 / factor)
    name = layer.spec.name
    stored = [ctx.graph.parameter(f"{name}.{word}", (values * factor).cpu().numpy())
              for word, values in (("mean", mean), ("variance", variance))]
    same = [ctx.constant([value] * channels) for value in (1.0, 0.0)]
    ctx.output("BatchNormalization", *ctx.x, *same, *stored, epsilon=layer.eps)


def _normalize_by_batch(ctx: OnnxContext) -> None:
    axes = ctx.integers([i for i in range(len(ctx.bottom_shapes[0])) if i != 1])
    centred = ctx.node("Sub", *ctx.x, ctx.node("ReduceMean", *ctx.x, axes))
    variance = ctx.node("ReduceMean", ctx.node("Mul", centred, centred), axes)
    ctx.output("Div", centred, ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(ctx.layer.eps))))


@emits_python("BatchNorm")
def batch_norm_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if not layer.use_global_stats:
        return ctx.call("normalize_by_batch", ctx.x[0], number(layer.eps))
    return ctx.part("BatchNorm", "mean", "variance", "scale_factor",
                    arguments=arguments(*layer.declared[0].shape, eps=(number(layer.eps), "1e-05")))


def _nvidia_blobs(ctx: OnnxContext | PythonContext) -> list[int]:
    """Indices of scale and bias, if there are any, then of mean and variance."""
    if ctx.layer.spec.phase != "TEST":
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    return [*range(3, len(ctx.layer.declared)), 0, 1]


@emits_onnx("BatchNorm=nvidia")
def nvidia_batch_norm_onnx(ctx: OnnxContext) -> None:
    blobs, channels = _nvidia_blobs(ctx), ctx.layer.declared[0].shape[0]
    same = [] if len(blobs) == 4 else [ctx.constant([value] * channels) for value in (1.0, 0.0)]
    ctx.output("BatchNormalization", ctx.x[0], *same, *(ctx.weight(i, (-1,)) for i in blobs), epsilon=ctx.layer.eps)


@emits_python("BatchNorm=nvidia")
def nvidia_batch_norm_python(ctx: PythonContext) -> str:
    layer, blobs = ctx.layer, _nvidia_blobs(ctx)
    names = ("weight", "bias", "running_mean", "running_var")[-len(blobs):]
    state = {name: layer.blobs()[i] for name, i in zip(names, blobs, strict=True)}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    dims = max(1, len(ctx.bottom_shapes[0]) - 2)
    affine = "" if len(blobs) == 4 else ", affine=False"
    constructor = f"nn.BatchNorm{dims}d({layer.declared[0].shape[0]}, eps={number(layer.eps)}{affine})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("LRN")
def lrn_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.across and not layer.in_place and min(layer.alpha, layer.beta, layer.k) > 0:
        ctx.output("LRN", *ctx.x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    squares, pad, k = ctx.node("Mul", ctx.x[0], ctx.x[0]), layer.size // 2, 1.0
    if layer.across:
        k, (channels, h, w) = layer.k, ctx.size()
        planes = ctx.node("Reshape", squares, ctx.integers([-1, 1, channels, h * w]))
        mean = ctx.node("AveragePool", planes, kernel_shape=[layer.size, 1], pads=[pad, 0, pad, 0], count_include_pad=1)
        mean = ctx.node("Reshape", mean, ctx.integers([-1, channels, h, w]))
    else:
        mean = ctx.node("AveragePool", squares, kernel_shape=[layer.size] * 2, pads=[pad] * 4, count_include_pad=1)
    base = ctx.node("Add", ctx.node("Mul", mean, ctx.constant(layer.alpha)), ctx.constant(k))
    factor = ctx.node("Pow", base, ctx.constant(-layer.beta))
    # In place and across channels, the published code reads back values it has just written: see layers.lrn.
    ctx.output("Mul", factor if layer.across and layer.in_place else ctx.x[0], factor)


@emits_python("LRN")
def lrn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(ctx.x[0], layer.size, f"alpha={number(layer.alpha)}", f"beta={number(layer.beta)}",
                       k=(number(layer.k if layer.across else 1), "1"))
    if layer.across and not layer.in_place:
        return f"F.local_response_norm({inside})"
    return ctx.call("response_norm", inside, f"across={layer.across}", f"in_place={layer.across and layer.in_place}")


@emits_onnx("MVN")
def mvn_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    if len(ctx.bottom_shapes[0]) < 4:
        x = ctx.graph.reshape(x, ctx.bottom_shapes[0], ctx.top_shapes[0])
    axes = ctx.integers([1, 2, 3] if layer.across else [2, 3])
    mean = ctx.node("ReduceMean", x, axes)
    if not layer.by_deviation:
        ctx.output("Sub", x, mean)
        return
    centred = ctx.node("Sub", x, mean)
    deviation = ctx.node("Sqrt", ctx.node("ReduceMean", ctx.node("Mul", centred, centred), axes))
    ctx.output("Div", centred, ctx.node("Add", deviation, ctx.constant(layer.eps)))


@emits_python("MVN")
def mvn_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    if len(ctx.bottom_shapes[0]) < 4:
        x = f"{x}.reshape({reshape_arguments(x, ctx.bottom_shapes[0], ctx.top_shapes[0])})"
    return ctx.call("mean_variance_norm", x, f"across={layer.across}", f"variance={layer.by_deviation}",
                    f"eps={number(layer.eps)}")


@emits_onnx("Normalize")
def normalize_onnx(ctx: OnnxContext) -> None:
    layer, dims = ctx.layer, len(ctx.bottom_shapes[0])
    axes = ctx.integers(list(range(1, dims)) if layer.across_spatial else [1])
    squares = ctx.node("ReduceSumSquare", ctx.x[0], axes)
    norm = ctx.node("Sqrt", ctx.node("Add", squares, ctx.constant(layer.eps)))
    scale = ctx.weight(0, () if layer.channel_shared else (-1, *[1] * (dims - 2)))
    ctx.output("Mul", ctx.node("Div", ctx.x[0], norm), scale)


@emits_python("Normalize")
def normalize_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.part("Normalize", "scale", arguments=arguments(
        *layer.declared[0].shape, eps=(number(layer.eps), "1e-10"), whole=(str(layer.across_spatial), "False")))
