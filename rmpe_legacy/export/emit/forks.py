"""Layers that only forks of Caffe have."""

from __future__ import annotations

import math

import numpy as np
import torch

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .convolution import convolution_onnx, convolution_python
from .expressions import arguments, number, pair, sizes

INT64_MIN = -(1 << 63)


def _slice(ctx: OnnxContext, x: str, begin: list[int], end: list[int], axes: list[int], steps: list[int],
           last: bool = True) -> str:
    inputs = (x, *map(ctx.integers, (begin, end, axes, steps)))
    if last:
        ctx.output("Slice", *inputs)
        return ctx.y[0]
    return ctx.node("Slice", *inputs)


def _fixed(ctx: OnnxContext, index: int = 0) -> tuple[int, ...]:
    """Return a bottom's sizes, batch included. If they depend on the batch, it gets one fixed size."""
    sizes = ctx.bottom_shapes[index]
    if not all(isinstance(size, int) for size in sizes):
        ctx.fix_batch("is written for one batch size")
    return ctx.graph.graph.at_own_batch(sizes)


@emits_onnx("DepthwiseConvolution")
def depthwise_onnx(ctx: OnnxContext) -> None:
    convolution_onnx(ctx)


@emits_python("DepthwiseConvolution")
def depthwise_python(ctx: PythonContext) -> str:
    return convolution_python(ctx)


@emits_onnx("ConvolutionDepthwise")
def convolution_depthwise_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    weights = [ctx.weight(i) for i in range(len(layer.declared))]
    ctx.output("Conv", ctx.x[0], *weights, group=layer.channels, strides=layer.stride, dilations=layer.dilation,
            pads=[*layer.pad, *layer.pad])


@emits_python("ConvolutionDepthwise")
def convolution_depthwise_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(
        layer.channels, layer.channels, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), dilation=(sizes(layer.dilation), "1"), groups=(str(layer.channels), "1"),
        bias=(str(len(layer.declared) == 2), "True"))
    return f"{ctx.submodule(f'nn.Conv2d({inside})', *['weight', 'bias'][: len(layer.declared)])}({ctx.x[0]})"


@emits_onnx("Convolution3D", "Convolution3d", "Deconvolution3d")
def convolution3d_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    weights = [ctx.weight(0), *(ctx.weight(i, (-1,)) for i in range(1, len(layer.declared)))]
    ctx.output("ConvTranspose" if layer.transposed else "Conv", ctx.x[0], *weights, strides=layer.stride,
            pads=[*layer.pad, *layer.pad])


@emits_python("Convolution3D", "Convolution3d", "Deconvolution3d")
def convolution3d_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    kind = "ConvTranspose3d" if layer.transposed else "Conv3d"
    inside = arguments(layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
                       padding=(sizes(layer.pad), "0"), bias=(str(len(layer.declared) == 2), "True"))
    blobs = layer.blobs()
    state = {"weight": blobs[0], **({"bias": blobs[1].flatten()} if len(blobs) > 1 else {})}
    return f"{ctx.writer.module(layer, f'nn.{kind}({inside})', state)}({ctx.x[0]})"


@emits_onnx("Pooling3D", "Pooling3d")
def pooling3d_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.method != "MAX" or any(layer.pad):
        raise ctx.refuse("pool AVE over volumes; use MAX")
    sizes = ctx.size()[1:]
    beyond = [(n - 1) * s + k - size
              for n, s, k, size in zip(layer.grid, layer.stride, layer.kernel, sizes, strict=True)]
    if any(b >= k for b, k in zip(beyond, layer.kernel, strict=True)):
        raise ctx.refuse("its last window lies outside its bottom")
    end = [max(0, b) for b in beyond]
    ctx.output("MaxPool", ctx.x[0], kernel_shape=layer.kernel, strides=layer.stride, pads=[0, 0, 0, *end])


@emits_onnx("Upsample=yolo")
def repeated_onnx(ctx: OnnxContext) -> None:
    scales = ctx.constant([1.0, 1.0, float(ctx.layer.scale), float(ctx.layer.scale)])
    ctx.output("Resize", ctx.x[0], "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor")


@emits_python("Upsample=yolo")
def repeated_python(ctx: PythonContext) -> str:
    return f"F.interpolate({ctx.x[0]}, scale_factor={ctx.layer.scale}, mode=\"nearest\")"


@emits_onnx("Upsample=segnet")
def unpooled_onnx(ctx: OnnxContext) -> None:
    n, c, h, w = _fixed(ctx)
    top = ctx.graph.graph.at_own_batch(ctx.top_shapes[0])
    flat = [ctx.node("Reshape", x, ctx.integers([n, c, h * w])) for x in ctx.x]
    index = ctx.node("Cast", flat[1], to=7)  # int64
    zeros = ctx.node("ConstantOfShape", ctx.integers([n, c, top[2] * top[3]]))
    placed = ctx.node("ScatterElements", zeros, index, flat[0], axis=2)
    ctx.output("Reshape", placed, ctx.integers(list(top)))


@emits_python("Upsample=segnet")
def unpooled_python(ctx: PythonContext) -> str:
    values, mask = ctx.x
    h, w = map(int, ctx.top_shapes[0][2:])
    return (f"{values}.new_zeros(*{values}.shape[:2], {h * w}).scatter(2, {mask}.flatten(2).long(), "
            f"{values}.flatten(2)).unflatten(2, ({h}, {w}))")


@emits_onnx("BN=segnet")
def segnet_bn_onnx(ctx: OnnxContext) -> None:
    if len(ctx.top_shapes) > 1:
        raise ctx.refuse("it gives mean and variance; remove the other tops")
    x = ctx.x[0]
    if ctx.layer.learn:
        axes = ctx.integers([0, 2, 3])
        mean = ctx.node("ReduceMean", x, axes)
        variance = ctx.node("Sub", ctx.node("ReduceMean", ctx.node("Mul", x, x), axes), ctx.node("Mul", mean, mean))
        deviation = ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(ctx.layer.eps)))
        x = ctx.node("Div", ctx.node("Sub", x, mean), deviation)
    ctx.output("Add", ctx.node("Mul", x, ctx.weight(0)), ctx.weight(1))


@emits_python("BN=segnet")
def segnet_bn_python(ctx: PythonContext) -> str:
    if len(ctx.top_shapes) > 1:
        raise ctx.refuse("it gives mean and variance; remove the other tops")
    x, c = ctx.x[0], ctx.layer.declared[0].shape[1]
    if ctx.layer.learn:
        x = f"F.batch_norm({x}, None, None, training=True, eps={number(ctx.layer.eps)})"
    state = {name: blob.flatten() for name, blob in zip(("scale", "bias"), ctx.layer.blobs(), strict=True)}
    constructor = f"{ctx.writer.use('Scale')}({c})"
    return f"{ctx.writer.module(ctx.layer, constructor, state)}({x})"


@emits_onnx("BN=pspnet", "BN=tsn")
def pspnet_bn_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.phase != "TEST" and not ctx.layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    ctx.output("BatchNormalization", ctx.x[0], *(ctx.weight(i, (-1,)) for i in range(4)), epsilon=ctx.layer.eps)


@emits_python("BN=pspnet", "BN=tsn")
def pspnet_bn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.spec.phase != "TEST" and not layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: blob.flatten() for name, blob in zip(names, layer.blobs(), strict=True)}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    constructor = f"nn.BatchNorm2d({layer.declared[0].shape[1]}, eps={number(layer.eps)})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("BN=happynear")
def happynear_bn_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.phase != "TEST" and not ctx.layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    slope, bias, mean, factor = (ctx.weight(i, (1, -1, 1, 1)) for i in range(4))
    normal = ctx.node("Mul", ctx.node("Sub", ctx.x[0], mean), factor)
    ctx.output("Add", ctx.node("Mul", normal, slope), bias)


@emits_onnx("Interp=pspnet", "Interp=deeplab")
def interp_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    h, w = ctx.size()[1:]
    if layer.begin or layer.end:
        x = _slice(ctx, x, [layer.begin] * 2, [h - layer.end, w - layer.end], [2, 3], [1, 1], last=False)
    ctx.output("Resize", x, "", "", ctx.integers(list(layer.size)), axes=[2, 3], mode="linear",
            coordinate_transformation_mode="align_corners")


@emits_python("Interp=pspnet", "Interp=deeplab")
def interp_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    h, w = ctx.bottom_shapes[0][2:]
    if layer.begin or layer.end:
        x = f"{x}[:, :, {layer.begin}:{h - layer.end}, {layer.begin}:{w - layer.end}]"
    return f"F.interpolate({x}, {pair(layer.size)}, mode=\"bilinear\", align_corners=True)"


@emits_onnx("ReLU6")
def relu6_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("relu6_param" if ctx.layer.spec.has("relu6_param") else "relu_param")
    slope = param.negative_slope
    x = ctx.node("LeakyRelu", ctx.x[0], alpha=slope) if slope else ctx.node("Relu", ctx.x[0])
    ctx.output("Min", x, ctx.constant(6.0))


@emits_python("ReLU6")
def relu6_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("relu6_param" if ctx.layer.spec.has("relu6_param") else "relu_param")
    if param.negative_slope:
        return f"F.leaky_relu({ctx.x[0]}, {number(param.negative_slope)}).clamp(max=6)"
    return f"F.relu6({ctx.x[0]})"


@emits_onnx("Reorg")
def reorg_onnx(ctx: OnnxContext) -> None:
    c, h, w = ctx.size()
    s = ctx.layer.stride
    if ctx.layer.backwards:
        split, order = [-1, s, s, c // s**2, h, w], [0, 3, 4, 1, 5, 2]
    else:
        split, order = [-1, c // s**2, h, s, w, s], [0, 3, 5, 1, 2, 4]
    x = ctx.node("Transpose", ctx.node("Reshape", ctx.x[0], ctx.integers(split)), perm=order)
    ctx.output("Reshape", x, ctx.integers([-1, *ctx.graph.graph.at_own_batch(ctx.top_shapes[0])[1:]]))


@emits_python("Reorg")
def reorg_python(ctx: PythonContext) -> str:
    c, h, w = ctx.bottom_shapes[0][1:]
    s = ctx.layer.stride
    if ctx.layer.backwards:
        split, order = (-1, s, s, c // s**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (-1, c // s**2, h, s, w, s), (0, 3, 5, 1, 2, 4)
    return f"{ctx.x[0]}.reshape{split}.permute{order}.reshape{(-1, *ctx.top_shapes[0][1:])}"


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


@emits_onnx("Flip")
def flip_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("flip_param")
    axes = [axis for axis, wanted in ((2, param.flip_height), (3, param.flip_width)) if wanted]
    if not axes:
        ctx.output("Identity", ctx.x[0])
        return
    _slice(ctx, ctx.x[0], [-1] * len(axes), [INT64_MIN] * len(axes), axes, [-1] * len(axes))


@emits_python("Flip")
def flip_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("flip_param")
    return f"{ctx.x[0]}.flip({[axis for axis, on in ((2, param.flip_height), (3, param.flip_width)) if on]})"


@emits_onnx("Reverse")
def reverse_onnx(ctx: OnnxContext) -> None:
    _slice(ctx, ctx.x[0], [-1], [INT64_MIN], [ctx.layer.along], [-1])


@emits_python("Reverse")
def reverse_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.flip({ctx.layer.along})"


@emits_onnx("Transpose")
def transpose_onnx(ctx: OnnxContext) -> None:
    ctx.output("Transpose", ctx.x[0], perm=list(ctx.layer.order))


@emits_python("Transpose")
def transpose_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.permute({pair(ctx.layer.order)})"


@emits_onnx("ShuffleChannel")
def shuffle_channel_onnx(ctx: OnnxContext) -> None:
    c, *rest = ctx.size()
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, ctx.layer.group, c // ctx.layer.group, math.prod(rest)]))
    ctx.output("Reshape", ctx.node("Transpose", x, perm=[0, 2, 1, 3]), ctx.integers([-1, c, *rest]))


@emits_python("ShuffleChannel")
def shuffle_channel_python(ctx: PythonContext) -> str:
    c, *rest = ctx.bottom_shapes[0][1:]
    return (f"{ctx.x[0]}.unflatten(1, ({ctx.layer.group}, {c // ctx.layer.group})).transpose(1, 2)"
            f".reshape{(-1, c, *rest)}")


@emits_onnx("L2Normalize")
def l2_normalize_onnx(ctx: OnnxContext) -> None:
    axes = ctx.integers(list(range(1, len(ctx.bottom_shapes[0]))))
    total = ctx.node("ReduceSum", ctx.node("Mul", ctx.x[0], ctx.x[0]), axes)
    ctx.output("Div", ctx.x[0], ctx.node("Sqrt", ctx.node("Add", total, ctx.constant(1e-7))))


@emits_python("L2Normalize")
def l2_normalize_python(ctx: PythonContext) -> str:
    axes = tuple(range(1, len(ctx.bottom_shapes[0])))
    return f"{ctx.x[0]} / ({ctx.x[0]}.square().sum({axes}, keepdim=True) + 1e-07).sqrt()"


@emits_onnx("Normalize=happynear")
def normalize_channels_onnx(ctx: OnnxContext) -> None:
    x, axis = ctx.x[0], ctx.integers([1])
    if len(ctx.bottom_shapes[0]) != 4:
        raise ctx.refuse("needs a bottom (N, C, H, W)")
    if ctx.layer.kind == "L2":
        norm = ctx.node("Sqrt", ctx.node("Add", ctx.node("ReduceSum", ctx.node("Mul", x, x), axis), ctx.constant(1e-6)))
    else:
        norm = ctx.node("Add", ctx.node("ReduceSum", ctx.node("Abs", x), axis), ctx.constant(1e-6))
    ctx.output("Div", x, norm)
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [norm], [ctx.y[1]])


@emits_onnx("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def roi_pooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.pad_ratio or len(layer.pooled) != 2:
        raise ctx.refuse("pad_ratio, or regions of volumes")
    rois = ctx.x[1] if len(ctx.bottom_shapes[1]) == 2 else ctx.node("Reshape", ctx.x[1], ctx.integers([-1, 5]))
    ctx.output("MaxRoiPool", ctx.x[0], rois, pooled_shape=list(layer.pooled), spatial_scale=layer.scale)


@emits_onnx("AutoCrop", "Crop=hed")
def aligned_crop_onnx(ctx: OnnxContext) -> None:
    (top, left), (h, w) = ctx.layer.offset, ctx.top_shapes[0][2:]
    _slice(ctx, ctx.x[0], [top, left], [top + h, left + w], [2, 3], [1, 1])


@emits_python("AutoCrop", "Crop=hed")
def aligned_crop_python(ctx: PythonContext) -> str:
    (top, left), (h, w) = ctx.layer.offset, ctx.top_shapes[0][2:]
    return f"{ctx.x[0]}[:, :, {top}:{top + h}, {left}:{left + w}]"


def _insanity_alpha(ctx: EmitContext) -> float:
    """What Insanity multiplies negative values by in TEST: one over the logarithmic mean of its bounds."""
    layer = ctx.layer
    if layer.spec.phase == "TRAIN":
        raise ctx.refuse("is in phase TRAIN, where its slopes are random")
    slope = (layer.high - layer.low) / (math.log(abs(layer.high)) - math.log(abs(layer.low)))
    return 1 / slope


@emits_onnx("Insanity")
def insanity_onnx(ctx: OnnxContext) -> None:
    ctx.output("LeakyRelu", ctx.x[0], alpha=_insanity_alpha(ctx))


@emits_python("Insanity")
def insanity_python(ctx: PythonContext) -> str:
    return f"F.leaky_relu({ctx.x[0]}, {number(_insanity_alpha(ctx))})"


@emits_onnx("ImResize")
def imresize_onnx(ctx: OnnxContext) -> None:
    layer, (n, _, h, w) = ctx.layer, _fixed(ctx)
    parts = []
    for image in range(n):
        rows = layer._along(torch.eye(h).unsqueeze(0), 1, image)[0].numpy()
        columns = layer._along(torch.eye(w).unsqueeze(0), 2, image)[0].numpy()
        x = ctx.x[0] if n == 1 else _slice(ctx, ctx.x[0], [image], [image + 1], [0], [1], last=False)
        x = ctx.node("MatMul", ctx.graph.constant(rows), ctx.node("MatMul", x, ctx.graph.constant(columns)))
        parts.append(x)
    total = parts[0] if n == 1 else ctx.node("Sum", *parts)
    ctx.output("Div", total, ctx.constant(np.float32(n)))
