"""What layers that only forks of Caffe have become in a written-out model.py; see python_layers.py."""

from __future__ import annotations

import math

import torch

from .python_layers import Here, arguments, convolution, emits, number, pair, sizes


@emits("DepthwiseConvolution")
def _depthwise(at: Here) -> str:
    return convolution(at)


@emits("ConvolutionDepthwise")
def _convolution_depthwise(at: Here) -> str:
    layer = at.layer
    inside = arguments(
        layer.channels, layer.channels, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), dilation=(sizes(layer.dilation), "1"), groups=(str(layer.channels), "1"),
        bias=(str(len(layer.declared) == 2), "True"))
    return f"{at.submodule(f'nn.Conv2d({inside})', *['weight', 'bias'][: len(layer.declared)])}({at.x[0]})"


@emits("Convolution3D", "Convolution3d", "Deconvolution3d")
def _convolution3d(at: Here) -> str:
    layer = at.layer
    kind = "ConvTranspose3d" if layer.transposed else "Conv3d"
    inside = arguments(layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
                       padding=(sizes(layer.pad), "0"), bias=(str(len(layer.declared) == 2), "True"))
    blobs = layer.blobs()
    state = {"weight": blobs[0], **({"bias": blobs[1].flatten()} if len(blobs) > 1 else {})}
    return f"{at.writer.module(layer, f'nn.{kind}({inside})', state)}({at.x[0]})"


@emits("Upsample=yolo")
def _repeated(at: Here) -> str:
    return f"F.interpolate({at.x[0]}, scale_factor={at.layer.scale}, mode=\"nearest\")"


@emits("Upsample=segnet")
def _unpooled(at: Here) -> str:
    values, mask = at.x
    h, w = at.top[0][2:]
    return (f"{values}.new_zeros(*{values}.shape[:2], {h * w}).scatter(2, {mask}.flatten(2).long(), "
            f"{values}.flatten(2)).unflatten(2, ({h}, {w}))")


@emits("BN=segnet")
def _segnet_bn(at: Here) -> str:
    if len(at.top) > 1:
        raise at.refuse("it gives mean and variance; remove the further tops")
    x, c = at.x[0], at.layer.declared[0].shape[1]
    if at.layer.learn:
        x = f"F.batch_norm({x}, None, None, training=True, eps={number(at.layer.eps)})"
    state = {name: blob.flatten() for name, blob in zip(("scale", "bias"), at.layer.blobs(), strict=True)}
    constructor = f"{at.writer.use('Scale')}({c})"
    return f"{at.writer.module(at.layer, constructor, state)}({x})"


@emits("BN=pspnet", "BN=tsn")
def _pspnet_bn(at: Here) -> str:
    layer = at.layer
    if layer.spec.phase != "TEST" and not layer.frozen:
        raise at.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: blob.flatten() for name, blob in zip(names, layer.blobs(), strict=True)}
    state["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    constructor = f"nn.BatchNorm2d({layer.declared[0].shape[1]}, eps={number(layer.eps)})"
    return f"{at.writer.module(layer, constructor, state)}({at.x[0]})"


@emits("Interp=pspnet", "Interp=deeplab")
def _interp(at: Here) -> str:
    layer, x = at.layer, at.x[0]
    h, w = at.bottom[0][2:]
    if layer.begin or layer.end:
        x = f"{x}[:, :, {layer.begin}:{h - layer.end}, {layer.begin}:{w - layer.end}]"
    return f"F.interpolate({x}, {pair(layer.size)}, mode=\"bilinear\", align_corners=True)"


@emits("ReLU6")
def _relu6(at: Here) -> str:
    param = at.layer.spec.get("relu6_param" if at.layer.spec.has("relu6_param") else "relu_param")
    if param.negative_slope:
        return f"F.leaky_relu({at.x[0]}, {number(param.negative_slope)}).clamp(max=6)"
    return f"F.relu6({at.x[0]})"


@emits("Reorg")
def _reorg(at: Here) -> str:
    c, h, w = at.bottom[0][1:]
    s = at.layer.stride
    if at.layer.backwards:
        split, order = (-1, s, s, c // s**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (-1, c // s**2, h, s, w, s), (0, 3, 5, 1, 2, 4)
    return f"{at.x[0]}.reshape{split}.permute{order}.reshape{(-1, *at.top[0][1:])}"


@emits("Axpy")
def _axpy(at: Here) -> str:
    a, x, y = at.x
    weight = a if len(at.bottom[0]) == 4 else f"{a}[:, :, None, None]"
    return f"{weight} * {x} + {y}"


@emits("Flip")
def _flip(at: Here) -> str:
    param = at.layer.spec.get("flip_param")
    return f"{at.x[0]}.flip({[axis for axis, on in ((2, param.flip_height), (3, param.flip_width)) if on]})"


@emits("Reverse")
def _reverse(at: Here) -> str:
    return f"{at.x[0]}.flip({at.layer.along})"


@emits("Transpose")
def _transpose(at: Here) -> str:
    return f"{at.x[0]}.permute({pair(at.layer.order)})"


@emits("ShuffleChannel")
def _shuffle_channel(at: Here) -> str:
    c, *rest = at.bottom[0][1:]
    return (f"{at.x[0]}.unflatten(1, ({at.layer.group}, {c // at.layer.group})).transpose(1, 2)"
            f".reshape{(-1, c, *rest)}")


@emits("L2Normalize")
def _l2_normalize(at: Here) -> str:
    axes = tuple(range(1, len(at.bottom[0])))
    return f"{at.x[0]} / ({at.x[0]}.square().sum({axes}, keepdim=True) + 1e-07).sqrt()"


@emits("AutoCrop", "Crop=hed")
def _aligned_crop(at: Here) -> str:
    (top, left), (h, w) = at.layer.offset, at.top[0][2:]
    return f"{at.x[0]}[:, :, {top}:{top + h}, {left}:{left + w}]"


@emits("Insanity")
def _insanity(at: Here) -> str:
    layer = at.layer
    if layer.spec.phase == "TRAIN":
        raise at.refuse("is in phase TRAIN, where its slopes are random")
    slope = (layer.high - layer.low) / (math.log(abs(layer.high)) - math.log(abs(layer.low)))
    return f"F.leaky_relu({at.x[0]}, {number(1 / slope)})"
