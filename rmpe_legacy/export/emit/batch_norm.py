"""Batch normalisation, in the meanings that forks give it."""

from __future__ import annotations

import torch

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number
from .normalization import four_axes_onnx, four_axes_python


def _by_batch(ctx: OnnxContext) -> list[str]:
    """Return what is divided, and by what, for a mean of 0 and a variance of 1 in each channel of the batch."""
    axes = ctx.integers([i for i in range(len(ctx.bottom_shapes[0])) if i != 1])
    centred = ctx.node("Sub", *ctx.x, ctx.node("ReduceMean", *ctx.x, axes))
    variance = ctx.node("ReduceMean", ctx.node("Mul", centred, centred), axes)
    return [centred, ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(ctx.layer.eps)))]


@emits_onnx("BatchNorm")
def batch_norm_onnx(ctx: OnnxContext) -> None:
    layer, channels = ctx.layer, ctx.layer.declared[0].shape[0]
    if not layer.use_global_stats:
        ctx.output("Div", *_by_batch(ctx))
        return
    mean, variance, factor = (layer.blobs()[i].detach() for i in range(3))
    factor = torch.where(factor == 0, 0, 1 / factor)
    name = layer.spec.name
    stored = [ctx.graph.parameter(f"{name}.{word}", (values * factor).cpu().numpy())
              for word, values in (("mean", mean), ("variance", variance))]
    same = [ctx.constant([value] * channels) for value in (1.0, 0.0)]
    ctx.output("BatchNormalization", *ctx.x, *same, *stored, epsilon=layer.eps)


@emits_python("BatchNorm")
def batch_norm_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if not layer.use_global_stats:
        return ctx.call("normalize_by_batch", ctx.x[0], number(layer.eps))
    return ctx.part("BatchNorm", "mean", "variance", "scale_factor",
                    arguments=arguments(*layer.declared[0].shape, eps=(number(layer.eps), "1e-05")))


def _darknet_statistics(ctx: OnnxContext | PythonContext) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each channel and what it is divided by."""
    layer = ctx.layer
    if not layer.use_global_stats:
        raise ctx.refuse("takes its statistics from the batch")
    mean, variance, factor = (blob.detach() for blob in layer.blobs())
    factor = torch.where(factor == 0, 0, 1 / factor)
    return mean * factor, layer.deviation(variance * factor)


@emits_onnx("BatchNorm=synopsys")
def darknet_batch_norm_onnx(ctx: OnnxContext) -> None:
    lead = (-1,) + (1,) * (len(ctx.bottom_shapes[0]) - 2)
    mean, deviation = (ctx.graph.parameter(f"{ctx.layer.spec.name}.{word}", values.view(lead).cpu().numpy())
                       for word, values in zip(("mean", "deviation"), _darknet_statistics(ctx), strict=True))
    ctx.output("Div", ctx.node("Sub", ctx.x[0], mean), deviation)


@emits_python("BatchNorm=synopsys")
def darknet_batch_norm_python(ctx: PythonContext) -> str:
    mean, deviation = _darknet_statistics(ctx)
    state = {"scale": 1 / deviation, "bias": -mean / deviation}
    constructor = f"{ctx.writer.use('Scale')}({len(mean)})"
    return f"{ctx.writer.module(ctx.layer, constructor, state)}({ctx.x[0]})"


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


@emits_onnx("BN=segnet", "BNplus")
def segnet_bn_onnx(ctx: OnnxContext) -> None:
    x = four_axes_onnx(ctx)
    if ctx.layer.learn:
        axes = ctx.integers([0, 2, 3])
        mean = ctx.node("ReduceMean", x, axes)
        variance = ctx.node("Sub", ctx.node("ReduceMean", ctx.node("Mul", x, x), axes), ctx.node("Mul", mean, mean))
        for value, y in zip((mean, variance), ctx.y[1:], strict=False):
            ctx.graph.node("Identity", [value], [y])
        deviation = ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(ctx.layer.eps)))
        x = ctx.node("Div", ctx.node("Sub", x, mean), deviation)
    ctx.output("Add", ctx.node("Mul", x, ctx.weight(0)), ctx.weight(1))


@emits_python("BN=segnet", "BNplus")
def segnet_bn_python(ctx: PythonContext) -> str:
    x, c = four_axes_python(ctx), ctx.layer.declared[0].shape[1]
    statistics = [f"{x}.mean((0, 2, 3), keepdim=True)", f"{x}.var((0, 2, 3), unbiased=False, keepdim=True)"]
    if ctx.layer.learn:
        x = f"F.batch_norm({x}, None, None, training=True, eps={number(ctx.layer.eps)})"
    state = {name: blob.flatten() for name, blob in zip(("scale", "bias"), ctx.layer.blobs(), strict=True)}
    constructor = f"{ctx.writer.use('Scale')}({c})"
    top = f"{ctx.writer.module(ctx.layer, constructor, state)}({x})"
    return ", ".join([top, *statistics][: len(ctx.top_shapes)])


@emits_onnx("BN=pspnet", "BN=tsn", "BN=p3d", "BNConv", "BatchNorm=nvidia15", "CuDNNBatchNorm")
def pspnet_bn_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.phase != "TEST" and not ctx.layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    ctx.output("BatchNormalization", ctx.x[0], *(ctx.weight(i, (-1,)) for i in range(4)), epsilon=ctx.layer.eps)


@emits_python("BN=pspnet", "BN=tsn", "BN=p3d", "BNConv", "BatchNorm=nvidia15", "CuDNNBatchNorm")
def pspnet_bn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.spec.phase != "TEST" and not layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: blob.flatten() for name, blob in zip(names, layer.blobs(), strict=False)}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    dims = max(1, len(ctx.bottom_shapes[0]) - 2)
    constructor = f"nn.BatchNorm{dims}d({layer.declared[0].shape[1]}, eps={number(layer.eps)})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("BN=averaged")
def averaged_bn_onnx(ctx: OnnxContext) -> None:
    if not ctx.layer.of_batch:
        pspnet_bn_onnx(ctx)
        return
    normal = ctx.node("Div", *_by_batch(ctx))
    ctx.output("Add", ctx.node("Mul", normal, ctx.weight(0)), ctx.weight(1))


@emits_python("BN=averaged")
def averaged_bn_python(ctx: PythonContext) -> str:
    if not ctx.layer.of_batch:
        return pspnet_bn_python(ctx)
    scale, bias = (blob.flatten() for blob in ctx.layer.blobs()[:2])
    module = ctx.writer.module(ctx.layer, f"{ctx.writer.use('Scale')}({len(scale)})", {"scale": scale, "bias": bias})
    return f"{module}(F.batch_norm({ctx.x[0]}, None, None, training=True, eps={number(ctx.layer.eps)}))"


@emits_onnx("BN=happynear")
def happynear_bn_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.phase != "TEST" and not ctx.layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    slope, bias, mean, factor = (ctx.weight(i, (1, -1, 1, 1)) for i in range(4))
    normal = ctx.node("Mul", ctx.node("Sub", ctx.x[0], mean), factor)
    ctx.output("Add", ctx.node("Mul", normal, slope), bias)


@emits_python("BN=happynear")
def happynear_bn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.spec.phase != "TEST" and not layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    state = {name: blob.flatten() for name, blob in zip(("scale", "bias", "mean", "factor"), layer.blobs(),
                                                        strict=True)}
    constructor = f"{ctx.writer.use('StoredNorm')}({state['scale'].numel()})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"
