"""What layers that only forks of Caffe have become in ONNX; see onnx_layers.py."""

from __future__ import annotations

import math

import numpy as np
import torch

from .onnx_graph import NeedsFixedBatch
from .onnx_layers import Here, convolution, emits

INT64_MIN = -(1 << 63)


def _slice(at: Here, x: str, begin: list[int], end: list[int], axes: list[int], steps: list[int],
           last: bool = True) -> str:
    inputs = (x, *map(at.integers, (begin, end, axes, steps)))
    if last:
        at.last("Slice", *inputs)
        return at.y[0]
    return at.node("Slice", *inputs)


def _fixed(at: Here, index: int = 0) -> tuple[int, ...]:
    """The sizes of a bottom, batch included."""
    sizes = at.bottom[index]
    if not all(isinstance(size, int) for size in sizes):
        raise NeedsFixedBatch(f"{at.layer.spec.name}: {at.layer.spec.type} is written for one batch size")
    return sizes


@emits("DepthwiseConvolution")
def _depthwise(at: Here) -> None:
    convolution(at)


@emits("ConvolutionDepthwise")
def _convolution_depthwise(at: Here) -> None:
    layer = at.layer
    weights = [at.weight(i) for i in range(len(layer.declared))]
    at.last("Conv", at.x[0], *weights, group=layer.channels, strides=layer.stride, dilations=layer.dilation,
            pads=[*layer.pad, *layer.pad])


@emits("Convolution3D", "Convolution3d", "Deconvolution3d")
def _convolution3d(at: Here) -> None:
    layer = at.layer
    weights = [at.weight(0), *(at.weight(i, (-1,)) for i in range(1, len(layer.declared)))]
    at.last("ConvTranspose" if layer.transposed else "Conv", at.x[0], *weights, strides=layer.stride,
            pads=[*layer.pad, *layer.pad])


@emits("Pooling3D", "Pooling3d")
def _pooling3d(at: Here) -> None:
    layer = at.layer
    if layer.method != "MAX" or any(layer.pad):
        raise at.refuse("pool AVE over volumes; use MAX")
    sizes = at.size()[1:]
    beyond = [(n - 1) * s + k - size
              for n, s, k, size in zip(layer.grid, layer.stride, layer.kernel, sizes, strict=True)]
    if any(b >= k for b, k in zip(beyond, layer.kernel, strict=True)):
        raise at.refuse("its last window lies outside its bottom")
    end = [max(0, b) for b in beyond]
    at.last("MaxPool", at.x[0], kernel_shape=layer.kernel, strides=layer.stride, pads=[0, 0, 0, *end])


@emits("Upsample=yolo")
def _repeated(at: Here) -> None:
    scales = at.constant([1.0, 1.0, float(at.layer.scale), float(at.layer.scale)])
    at.last("Resize", at.x[0], "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor")


@emits("Upsample=segnet")
def _unpooled(at: Here) -> None:
    n, c, h, w = _fixed(at)
    top = at.top[0]
    flat = [at.node("Reshape", x, at.integers([n, c, h * w])) for x in at.x]
    index = at.node("Cast", flat[1], to=7)  # int64
    zeros = at.node("ConstantOfShape", at.integers([n, c, top[2] * top[3]]))
    placed = at.node("ScatterElements", zeros, index, flat[0], axis=2)
    at.last("Reshape", placed, at.integers(list(top)))


@emits("BN=segnet")
def _segnet_bn(at: Here) -> None:
    if len(at.top) > 1:
        raise at.refuse("it gives mean and variance; remove the further tops")
    x = at.x[0]
    if at.layer.learn:
        axes = at.integers([0, 2, 3])
        mean = at.node("ReduceMean", x, axes)
        variance = at.node("Sub", at.node("ReduceMean", at.node("Mul", x, x), axes), at.node("Mul", mean, mean))
        deviation = at.node("Sqrt", at.node("Add", variance, at.constant(at.layer.eps)))
        x = at.node("Div", at.node("Sub", x, mean), deviation)
    at.last("Add", at.node("Mul", x, at.weight(0)), at.weight(1))


@emits("BN=pspnet", "BN=tsn")
def _pspnet_bn(at: Here) -> None:
    if at.layer.spec.phase != "TEST" and not at.layer.frozen:
        raise at.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    at.last("BatchNormalization", at.x[0], *(at.weight(i, (-1,)) for i in range(4)), epsilon=at.layer.eps)


@emits("BN=happynear")
def _happynear_bn(at: Here) -> None:
    if at.layer.spec.phase != "TEST" and not at.layer.frozen:
        raise at.refuse("is in phase TRAIN, where it takes its statistics from the batch")
    slope, bias, mean, factor = (at.weight(i, (1, -1, 1, 1)) for i in range(4))
    normal = at.node("Mul", at.node("Sub", at.x[0], mean), factor)
    at.last("Add", at.node("Mul", normal, slope), bias)


@emits("Interp=pspnet", "Interp=deeplab")
def _interp(at: Here) -> None:
    layer, x = at.layer, at.x[0]
    h, w = at.size()[1:]
    if layer.begin or layer.end:
        x = _slice(at, x, [layer.begin] * 2, [h - layer.end, w - layer.end], [2, 3], [1, 1], last=False)
    at.last("Resize", x, "", "", at.integers(list(layer.size)), axes=[2, 3], mode="linear",
            coordinate_transformation_mode="align_corners")


@emits("ReLU6")
def _relu6(at: Here) -> None:
    param = at.layer.spec.get("relu6_param" if at.layer.spec.has("relu6_param") else "relu_param")
    x = at.node("LeakyRelu", at.x[0], alpha=param.negative_slope) if param.negative_slope else at.node("Relu", at.x[0])
    at.last("Min", x, at.constant(6.0))


@emits("Reorg")
def _reorg(at: Here) -> None:
    c, h, w = at.size()
    s = at.layer.stride
    if at.layer.backwards:
        split, order = [-1, s, s, c // s**2, h, w], [0, 3, 4, 1, 5, 2]
    else:
        split, order = [-1, c // s**2, h, s, w, s], [0, 3, 5, 1, 2, 4]
    x = at.node("Transpose", at.node("Reshape", at.x[0], at.integers(split)), perm=order)
    at.last("Reshape", x, at.integers([-1, *at.top[0][1:]]))


@emits("Axpy")
def _axpy(at: Here) -> None:
    a = at.x[0]
    if len(at.bottom[0]) == 2:
        a = at.node("Unsqueeze", a, at.integers([2, 3]))
    at.last("Add", at.node("Mul", a, at.x[1]), at.x[2])


@emits("Flip")
def _flip(at: Here) -> None:
    param = at.layer.spec.get("flip_param")
    axes = [axis for axis, wanted in ((2, param.flip_height), (3, param.flip_width)) if wanted]
    if not axes:
        at.last("Identity", at.x[0])
        return
    _slice(at, at.x[0], [-1] * len(axes), [INT64_MIN] * len(axes), axes, [-1] * len(axes))


@emits("Reverse")
def _reverse(at: Here) -> None:
    _slice(at, at.x[0], [-1], [INT64_MIN], [at.layer.along], [-1])


@emits("Transpose")
def _transpose(at: Here) -> None:
    at.last("Transpose", at.x[0], perm=list(at.layer.order))


@emits("ShuffleChannel")
def _shuffle_channel(at: Here) -> None:
    c, *rest = at.size()
    x = at.node("Reshape", at.x[0], at.integers([-1, at.layer.group, c // at.layer.group, math.prod(rest)]))
    at.last("Reshape", at.node("Transpose", x, perm=[0, 2, 1, 3]), at.integers([-1, c, *rest]))


@emits("L2Normalize")
def _l2_normalize(at: Here) -> None:
    axes = at.integers(list(range(1, len(at.bottom[0]))))
    total = at.node("ReduceSum", at.node("Mul", at.x[0], at.x[0]), axes)
    at.last("Div", at.x[0], at.node("Sqrt", at.node("Add", total, at.constant(1e-7))))


@emits("Normalize=happynear")
def _normalize_channels(at: Here) -> None:
    x, axis = at.x[0], at.integers([1])
    if len(at.bottom[0]) != 4:
        raise at.refuse("needs a bottom (N, C, H, W)")
    if at.layer.kind == "L2":
        norm = at.node("Sqrt", at.node("Add", at.node("ReduceSum", at.node("Mul", x, x), axis), at.constant(1e-6)))
    else:
        norm = at.node("Add", at.node("ReduceSum", at.node("Abs", x), axis), at.constant(1e-6))
    at.last("Div", x, norm)
    if len(at.y) > 1:
        at.graph.node("Identity", [norm], [at.y[1]])


@emits("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def _roi_pooling(at: Here) -> None:
    layer = at.layer
    if layer.pad_ratio or len(layer.pooled) != 2:
        raise at.refuse("pad_ratio, or regions of volumes")
    rois = at.x[1] if len(at.bottom[1]) == 2 else at.node("Reshape", at.x[1], at.integers([-1, 5]))
    at.last("MaxRoiPool", at.x[0], rois, pooled_shape=list(layer.pooled), spatial_scale=layer.scale)


@emits("AutoCrop", "Crop=hed")
def _aligned_crop(at: Here) -> None:
    (top, left), (h, w) = at.layer.offset, at.top[0][2:]
    _slice(at, at.x[0], [top, left], [top + h, left + w], [2, 3], [1, 1])


@emits("Insanity")
def _insanity(at: Here) -> None:
    layer = at.layer
    if layer.spec.phase == "TRAIN":
        raise at.refuse("is in phase TRAIN, where its slopes are random")
    slope = (layer.high - layer.low) / (math.log(abs(layer.high)) - math.log(abs(layer.low)))
    at.last("LeakyRelu", at.x[0], alpha=1 / slope)


@emits("ImResize")
def _imresize(at: Here) -> None:
    layer, (n, _, h, w) = at.layer, _fixed(at)
    parts = []
    for image in range(n):
        rows = layer._along(torch.eye(h).unsqueeze(0), 1, image)[0].numpy()
        columns = layer._along(torch.eye(w).unsqueeze(0), 2, image)[0].numpy()
        x = at.x[0] if n == 1 else _slice(at, at.x[0], [image], [image + 1], [0], [1], last=False)
        x = at.node("MatMul", at.graph.constant(rows), at.node("MatMul", x, at.graph.constant(columns)))
        parts.append(x)
    total = parts[0] if n == 1 else at.node("Sum", *parts)
    at.last("Div", total, at.constant(np.float32(n)))
