"""Layers that only forks of Caffe have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import Layer

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .convolution import convolution_onnx, convolution_python
from .expressions import arguments, number, pair, reshape_arguments, sizes
from .shape import crop_to, cut_python

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def _slice(ctx: OnnxContext, x: str, begin: list[int], end: list[int], axes: list[int], steps: list[int],
           last: bool = True) -> str:
    inputs = (x, *map(ctx.integers, (begin, end, axes, steps)))
    if last:
        ctx.output("Slice", *inputs)
        return ctx.y[0]
    return ctx.node("Slice", *inputs)


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


@emits_onnx("Padding")
def padding_onnx(ctx: OnnxContext) -> None:
    begin, end = ctx.layer.begin, ctx.layer.end
    ctx.output("Pad", ctx.x[0], ctx.integers([0, 0, begin, begin, 0, 0, end, end]))


@emits_python("Padding")
def padding_python(ctx: PythonContext) -> str:
    begin, end = ctx.layer.begin, ctx.layer.end
    return f"F.pad({ctx.x[0]}, ({begin}, {end}, {begin}, {end}))"


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
    n, c, h, w = ctx.shape()
    top = ctx.graph.graph.at_own_sizes(ctx.top_shapes[0])
    flat = [ctx.node("Reshape", x, ctx.integers([n, c, h * w])) for x in ctx.x]
    index = ctx.node("Cast", flat[1], to=7)  # int64
    zeros = ctx.node("ConstantOfShape", ctx.integers([n, c, top[2] * top[3]]))
    placed = ctx.node("ScatterElements", zeros, index, flat[0], axis=2)
    ctx.output("Reshape", placed, ctx.integers(list(top)))


@emits_python("Upsample=segnet")
def unpooled_python(ctx: PythonContext) -> str:
    values, mask = ctx.x
    h, w = ctx.plane(top=True)
    return (f"{values}.new_zeros(*{values}.shape[:2], {h * w}).scatter(2, {mask}.flatten(2).long(), "
            f"{values}.flatten(2)).unflatten(2, ({h}, {w}))")


@emits_onnx("BN=segnet")
def segnet_bn_onnx(ctx: OnnxContext) -> None:
    if len(ctx.top_shapes) > 1:
        raise ctx.refuse("its tops for mean and variance cannot be converted; remove them")
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
        raise ctx.refuse("its tops for mean and variance cannot be converted; remove them")
    x, c = ctx.x[0], ctx.layer.declared[0].shape[1]
    if ctx.layer.learn:
        x = f"F.batch_norm({x}, None, None, training=True, eps={number(ctx.layer.eps)})"
    state = {name: blob.flatten() for name, blob in zip(("scale", "bias"), ctx.layer.blobs(), strict=True)}
    constructor = f"{ctx.writer.use('Scale')}({c})"
    return f"{ctx.writer.module(ctx.layer, constructor, state)}({x})"


@emits_onnx("BN=pspnet", "BN=tsn", "BN=p3d", "CuDNNBatchNorm")
def pspnet_bn_onnx(ctx: OnnxContext) -> None:
    if ctx.layer.spec.phase != "TEST" and not ctx.layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    ctx.output("BatchNormalization", ctx.x[0], *(ctx.weight(i, (-1,)) for i in range(4)), epsilon=ctx.layer.eps)


@emits_python("BN=pspnet", "BN=tsn", "BN=p3d", "CuDNNBatchNorm")
def pspnet_bn_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.spec.phase != "TEST" and not layer.frozen:
        raise ctx.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: blob.flatten() for name, blob in zip(names, layer.blobs(), strict=True)}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    dims = max(1, len(ctx.bottom_shapes[0]) - 2)
    constructor = f"nn.BatchNorm{dims}d({layer.declared[0].shape[1]}, eps={number(layer.eps)})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


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


@emits_onnx("Interp=pspnet", "Interp=deeplab", "Interp=sized")
def interp_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    if layer.begin or layer.end:
        x = _slice(ctx, x, [layer.begin] * 2, [-layer.end or INT64_MAX] * 2, [2, 3], [1, 1], last=False)
    size = _interp_size(ctx, x) if ctx.has_symbols(ctx.top_shapes[0][2:]) else ctx.integers(list(layer.size))
    _resize_onnx(ctx, x, size)


def _resize_onnx(ctx: OnnxContext, x: str, size: str) -> None:
    """Give the layer's top: x resized bilinearly to (h, w), with the corner pixels aligned."""
    ctx.output("Resize", x, "", "", size, axes=[2, 3], mode="linear", coordinate_transformation_mode="align_corners")


def _resize_python(x: str, size: str) -> str:
    return f"F.interpolate({x}, {size}, mode=\"bilinear\", align_corners=True)"


def _interp_size(ctx: OnnxContext, x: str) -> str:
    """Return the top's height and width, computed from those of x when the file runs."""
    param = ctx.layer.spec.get("interp_param")
    shrink, zoom = param.shrink_factor, param.zoom_factor
    last = ctx.node("Sub", ctx.sizes_of(x, 2), ctx.integers(1))  # the last pixel's index
    if shrink != 1:
        last = ctx.node("Div", last, ctx.integers(shrink))
    return ctx.node("Add", last if zoom == 1 else ctx.node("Mul", last, ctx.integers(zoom)), ctx.integers(1))


@emits_python("Interp=pspnet", "Interp=deeplab", "Interp=sized")
def interp_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    whole = x
    if layer.begin or layer.end:
        part = f"{layer.begin or ''}:{-layer.end or ''}"
        x = f"{x}[:, :, {part}, {part}]"
    size = pair(layer.size)
    if ctx.has_symbols(ctx.top_shapes[0][2:]):
        param, cut = layer.spec.get("interp_param"), layer.begin + layer.end + 1
        size = pair([f"({whole}.shape[{axis}] - {cut}) // {param.shrink_factor} * {param.zoom_factor} + 1"
                     for axis in (2, 3)])
    return _resize_python(x, size)


@emits_onnx("BilinearInterpolation")
def bilinear_onnx(ctx: OnnxContext) -> None:
    _resize_onnx(ctx, ctx.x[0], ctx.integers(list(ctx.layer.size)))


@emits_python("BilinearInterpolation")
def bilinear_python(ctx: PythonContext) -> str:
    return _resize_python(ctx.x[0], pair(ctx.layer.size))


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
    ctx.output("Reshape", x, ctx.integers([-1, *ctx.graph.graph.at_own_sizes(ctx.top_shapes[0][1:])]))


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


def _four_axes_onnx(ctx: OnnxContext) -> str:
    """The bottom as N x C x H x W; missing axes are 1."""
    missing = list(range(len(ctx.bottom_shapes[0]), 4))
    return ctx.node("Unsqueeze", ctx.x[0], ctx.integers(missing)) if missing else ctx.x[0]


def _four_axes_python(ctx: PythonContext) -> str:
    x, have = ctx.x[0], ctx.bottom_shapes[0]
    return x if len(have) == 4 else f"{x}.reshape({reshape_arguments(x, have, ctx.top_shapes[0])})"


@emits_onnx("Normalize=happynear")
def normalize_channels_onnx(ctx: OnnxContext) -> None:
    x, axis = _four_axes_onnx(ctx), ctx.integers([1])
    if ctx.layer.kind == "L2":
        norm = ctx.node("Sqrt", ctx.node("Add", ctx.node("ReduceSum", ctx.node("Mul", x, x), axis), ctx.constant(1e-6)))
    else:
        norm = ctx.node("Add", ctx.node("ReduceSum", ctx.node("Abs", x), axis), ctx.constant(1e-6))
    ctx.output("Div", x, norm)
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [norm], [ctx.y[1]])


@emits_python("Normalize=happynear")
def normalize_channels_python(ctx: PythonContext) -> str:
    x = _four_axes_python(ctx)
    call = ctx.call("normalize_channels", x, f"by_absolute={ctx.layer.kind == 'L1'}")
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_onnx("NormL2")
def norm_l2_onnx(ctx: OnnxContext) -> None:
    x = _four_axes_onnx(ctx)
    energy = ctx.node("ReduceSum", ctx.node("Mul", x, x), ctx.integers([1, 2, 3]))
    ctx.output("Div", x, ctx.node("Sqrt", ctx.node("Add", energy, ctx.constant(1e-7))))


@emits_python("NormL2")
def norm_l2_python(ctx: PythonContext) -> str:
    x = _four_axes_python(ctx)
    return f"{x} / ({x}.square().sum((1, 2, 3), keepdim=True) + 1e-7).sqrt()"


@emits_onnx("Python=Norm2Layer")
def row_norm_onnx(ctx: OnnxContext) -> None:
    x = ctx.x[0]
    if extra := list(range(2, len(ctx.bottom_shapes[0]))):
        x = ctx.node("Squeeze", x, ctx.integers(extra))
    length = ctx.node("Sqrt", ctx.node("ReduceSum", ctx.node("Mul", x, x), ctx.integers([1])))
    is_zero = ctx.node("Equal", length, ctx.constant(0))
    ctx.output("Div", x, ctx.node("Where", is_zero, ctx.constant(1), length))


@emits_python("Python=Norm2Layer")
def row_norm_python(ctx: PythonContext) -> str:
    x = f"{ctx.x[0]}.flatten(1)"
    length = f"{x}.norm(dim=1, keepdim=True)"
    return f"{x} / {length}.masked_fill({length} == 0, 1)"


@emits_onnx("AutoCrop", "Crop=hed")
def aligned_crop_onnx(ctx: OnnxContext) -> None:
    top, left = ctx.layer.offset
    crop_to(ctx, {2: top, 3: left})


@emits_python("AutoCrop", "Crop=hed")
def aligned_crop_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}[:, :, {', '.join(cut_python(ctx, axis, ctx.layer.offset[axis - 2]) for axis in (2, 3))}]"


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
    rows, columns = _resized(ctx, ctx.shape())
    resized = ctx.node("MatMul", ctx.constant(rows), ctx.node("MatMul", ctx.x[0], ctx.constant(columns)))
    ctx.output("ReduceMean", resized, ctx.integers([0]))


@emits_python("ImResize")
def imresize_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    ctx.plane()
    return ctx.call("resize_images", ctx.x[0], pair(layer.size), number(layer.start), number(layer.gap))


def _resized(ctx: EmitContext, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each row and column in each value, (N, 1, H', H) and (N, 1, W, W')."""
    n, _, *plane = sizes
    rows, columns = (torch.stack([ctx.layer._along(torch.eye(size)[None], axis + 1, image) for image in range(n)])
                     for axis, size in enumerate(plane))
    return rows.numpy(), columns.numpy()


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


@emits_onnx("ContinuationIndicator")
def continuation_indicator_onnx(ctx: OnnxContext) -> None:
    steps, batch = ctx.layer.shape
    continues = ctx.constant(np.arange(steps)[:, None] > 0)
    size = ctx.sizes_of(ctx.x[0], 0, 1) if ctx.x and ctx.bottom_shapes[0] else ctx.integers([batch])
    ctx.output("Expand", continues, ctx.node("Concat", ctx.integers([steps]), size, axis=0))


@emits_python("ContinuationIndicator")
def continuation_indicator_python(ctx: PythonContext) -> str:
    steps, batch = ctx.layer.shape
    of_one = ctx.writer.buffer(ctx.layer, (torch.arange(steps)[:, None] > 0).float())
    return f"{of_one}.expand(-1, {f'len({ctx.x[0]})' if ctx.x and ctx.bottom_shapes[0] else batch})"


@emits_onnx("Lstm")
def lstm_onnx(ctx: OnnxContext) -> None:
    w, u, bias = _lstm_blobs(ctx, (0, 2, 1, 3))  # ONNX: input, output, forget, candidate
    names = ctx.layer.spec.name, [declared.name for declared in ctx.layer.declared]
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1]))
    weights = [ctx.graph.parameter(f"{names[0]}.{name}", value[None])
               for name, value in zip(names[1], (w, u, np.concatenate([bias, np.zeros_like(bias)])), strict=True)]
    ctx.output("Squeeze", ctx.node("LSTM", x, *weights, hidden_size=ctx.layer.size), ctx.integers([1]))


@emits_python("Lstm")
def lstm_python(ctx: PythonContext) -> str:
    w, u, bias = map(torch.from_numpy, _lstm_blobs(ctx, (0, 1, 3, 2)))  # torch: input, forget, candidate, output
    state = {"weight_ih_l0": w, "weight_hh_l0": u, "bias_ih_l0": bias, "bias_hh_l0": torch.zeros_like(bias)}
    module = ctx.writer.module(ctx.layer, f"nn.LSTM({w.shape[1]}, {ctx.layer.size})", state)
    return f"{module}({ctx.x[0]}{'' if len(ctx.bottom_shapes[0]) == 3 else '.flatten(2)'})[0]"


def _lstm_blobs(ctx: EmitContext, order: tuple[int, ...]) -> list[np.ndarray]:
    """The layer's blobs with the gates input, forget, output and candidate in another order."""
    if len(ctx.x) > 1:
        raise ctx.refuse("with flags it goes on from the state of the forward before")
    blobs = [blob.detach().cpu().numpy() for blob in ctx.layer.blobs()]
    return [np.concatenate([np.split(blob, 4)[i] for i in order]) for blob in blobs]


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


@emits_onnx("Unpooling")
def unpooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.method != "MAX":
        rows, columns = (layer.windows(axis, ctx.size()[1 + axis]).numpy() for axis in (0, 1))
        x = ctx.x[0]
        if layer.method == "AVE":
            x = ctx.node("Div", x, ctx.constant(np.outer(rows.sum(0), columns.sum(0))))
        ctx.output("MatMul", ctx.constant(rows), ctx.node("MatMul", x, ctx.constant(columns.T)))
        return
    n, c, h, w = ctx.shape()
    if len(ctx.x) > 1:
        index = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([n, c, h * w])), to=7)  # int64
    else:
        index = ctx.node("Expand", ctx.integers(layer.corners(h, w).tolist()), ctx.integers([n, c, h * w]))
    zeros = ctx.node("ConstantOfShape", ctx.integers([n, c, layer.size[0] * layer.size[1]]))
    placed = ctx.node("ScatterElements", zeros, index, ctx.node("Reshape", ctx.x[0], ctx.integers([n, c, h * w])),
                      axis=2)
    ctx.output("Reshape", placed, ctx.integers([n, c, *layer.size]))


@emits_python("Unpooling")
def unpooling_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    if layer.method != "MAX":
        return ctx.call("spread", x, pair(layer.kernel), pair(layer.stride), pair(layer.size),
                        f"divide={layer.method == 'AVE'}")
    h, w = ctx.plane()
    index = f"{ctx.x[1]}.flatten(2).long()" if len(ctx.x) > 1 else \
        f"{ctx.writer.buffer(layer, layer.corners(h, w))}.expand(*{x}.shape[:2], -1)"
    return (f"{x}.new_zeros(*{x}.shape[:2], {layer.size[0] * layer.size[1]}).scatter(2, {index}, {x}.flatten(2))"
            f".unflatten(2, {pair(layer.size)})")


@emits_onnx("PowerFile")
def power_file_onnx(ctx: OnnxContext) -> None:
    ctx.output("Add", ctx.x[0], ctx.graph.parameter(f"{ctx.layer.spec.name}.shift", ctx.layer.shift.cpu().numpy()))


@emits_python("PowerFile")
def power_file_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]} + {ctx.writer.buffer(ctx.layer, ctx.layer.shift.cpu())}"


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


@emits_onnx("SignedSqrt")
def signed_sqrt_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.node("Sign", ctx.x[0]), ctx.node("Sqrt", ctx.node("Abs", ctx.x[0])))


@emits_python("SignedSqrt")
def signed_sqrt_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.sign() * {ctx.x[0]}.abs().sqrt()"


@emits_onnx("Sparsify")
def sparsify_onnx(ctx: OnnxContext) -> None:
    limit = float(ctx.layer.threshold)
    ctx.output("Sub", ctx.x[0], ctx.node("Clip", ctx.x[0], ctx.constant(-limit), ctx.constant(limit)))


@emits_python("Sparsify")
def sparsify_python(ctx: PythonContext) -> str:
    limit = number(ctx.layer.threshold)
    return f"{ctx.x[0]} - {ctx.x[0]}.clamp(-{limit}, {limit})"


@emits_onnx("PixelConv")
def pixel_convolution_onnx(ctx: OnnxContext) -> None:
    """Add up the map moved by each place of the kernel, times the kernels' values of that place."""
    side, (channels, h, w) = ctx.layer.side, ctx.size(1)
    kernels = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, channels, side * side, h, w]))
    pad = side // 2
    x = ctx.node("Pad", ctx.x[1], ctx.integers([0, 0, pad, pad, 0, 0, pad, pad]))
    parts = [ctx.node("Mul", ctx.node("Gather", kernels, ctx.integers(row * side + column), axis=2),
                      _slice(ctx, x, [row, column], [row + h, column + w], [2, 3], [1, 1], last=False))
             for row in range(side) for column in range(side)]
    ctx.output("Sum", *parts)


@emits_python("PixelConv")
def pixel_convolution_python(ctx: PythonContext) -> str:
    return ctx.call("convolve_each", *ctx.x, ctx.layer.side)


@emits_onnx("Gather")
def gather_onnx(ctx: OnnxContext) -> None:
    for x, y in zip(ctx.x, ctx.y, strict=True):
        ctx.graph.node("Identity", [x], [y])


@emits_python("Gather")
def gather_python(ctx: PythonContext) -> str:
    return ", ".join(ctx.x)


@emits_onnx("Python=SpatialDropoutLayer")
def spatial_dropout_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.x[0], ctx.constant(_kept_share(ctx)))


@emits_python("Python=SpatialDropoutLayer")
def spatial_dropout_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]} * {number(_kept_share(ctx))}"


def _kept_share(ctx: EmitContext) -> float:
    if ctx.layer.drops:
        raise ctx.refuse(ctx.layer.not_exportable)
    return 1 / (1 - ctx.layer.p)
