"""Convolution and pooling over any number of axes.

Sources: cudnn_nd{conv,pooling}_layer.cpp of lferrer/iccv2017@7acb7b2, caffe/src/caffe/layers, where not said
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec

from .base import FLT_MAX, Layer, Shape, shape_text
from .convolution3d import areas, margins
from .registry import Choice, chooses, register


def _axes(layer: Layer, bottom: Shape) -> int:
    """How many axes a bottom has after the channels. Raises LayerError if it is not 1 to 3."""
    if not 3 <= len(bottom) <= 5:
        raise layer.spec.error(f"works on 1 to 3 axes after the channels; its bottom is {shape_text(bottom)}")
    return len(bottom) - 2


def _windows(layer: Layer, param: Message, axes: int) -> tuple[tuple[int, ...], ...]:
    """kernel, stride and pad along each axis, from kernel_shape, stride_shape and pad_shape."""
    kernel = tuple(param.kernel_shape.dim)
    stride = tuple(param.stride_shape.dim) if param.has("stride_shape") else (1,) * len(kernel)
    pad = tuple(param.pad_shape.dim) if param.has("pad_shape") else (0,) * len(kernel)
    if not len(kernel) == len(stride) == len(pad) == axes or min(*kernel, *stride) < 1 or min(pad) < 0:
        raise layer.spec.error(f"needs {axes} sizes in kernel_shape, and in stride_shape and pad_shape if given")
    return kernel, stride, pad


@register("NdConvolution", form="")
class NdConvolution(Layer):
    """(N, C, ...) -> (N, num_output, ...), weights (num_output, C / group, ...)."""

    params = ("convolution_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("convolution_param")
        self.kernel, self.stride, self.pad = _windows(self, param, _axes(self, bottom[0]))
        self.num_output, self.group, self.channels = param.num_output, param.group, bottom[0][1]
        if self.num_output < 1 or self.group < 1 or self.num_output % self.group or self.channels % self.group:
            raise self.spec.error("num_output must be above 0, and num_output and the channels must be multiples of "
                                  "group")
        self.declare("weight", (self.num_output, self.channels // self.group, *self.kernel), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (self.num_output,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != len(self.kernel) + 2 or bottom[0][1] != self.channels:
            raise self.spec.error(f"was set up for {self.channels} channels; its bottom is {shape_text(bottom[0])}")
        size = [(n + 2 * p - k) // s + 1
                for n, k, s, p in zip(bottom[0][2:], self.kernel, self.stride, self.pad, strict=True)]
        if min(size) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        return [(bottom[0][0], self.num_output, *size)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        convolve = (F.conv1d, F.conv2d, F.conv3d)[len(self.kernel) - 1]
        return convolve(x, weight, bias[0] if bias else None, self.stride, self.pad, 1, self.group)


class _Pool(Layer):
    """MAX or AVE over windows along the axes after the channels; sizes are rounded up, and a last window that starts
    in the padding is dropped."""

    works_in_place = False
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    method: str
    counts_whole = False  # True: AVE divides by the whole window, also where it reaches beyond the padding
    clips = False  # True: a last window beyond the padding is dropped if any axis is padded

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != len(self.kernel) + 2:
            raise self.spec.error(f"was set up for {len(self.kernel)} axes; its bottom is {shape_text(bottom[0])}")
        self.grid = []
        for n, k, s, p in zip(bottom[0][2:], self.kernel, self.stride, self.pad, strict=True):
            size = math.ceil((n + 2 * p - k) / s) + 1
            if (any(self.pad) if self.clips else p) and (size - 1) * s >= n + p:
                size -= 1
            if size < 1:
                raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
            self.grid.append(size)
        self.check_windows(bottom[0], self.grid, self.kernel, self.stride)
        return [(*bottom[0][:2], *self.grid)]

    def forward(self, x: Tensor) -> Tensor:
        margin = margins(self.grid, x.shape[2:], self.kernel, self.stride, self.pad)
        dims = len(self.kernel) - 1
        if self.method == "MAX":
            pooled = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims]
            return pooled(F.pad(x, margin, value=-FLT_MAX), self.kernel, self.stride)
        kernel = self.kernel[0] if not dims else self.kernel
        mean = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims](F.pad(x, margin), kernel, self.stride)
        if self.counts_whole:
            return mean
        return mean * (math.prod(self.kernel) / areas(x, self.grid, self.kernel, self.stride, self.pad))


@register("NdPooling", form="")
class NdPooling(_Pool):
    """(N, C, ...) -> (N, C, ...); AVE divides by the whole window, padding included, as cuDNN does."""

    params = ("pooling_param",)
    counts_whole = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("pooling_param")
        self.method = param.pool
        if self.method == "STOCHASTIC":
            raise self.spec.error("pool STOCHASTIC is not known to cuDNN; use MAX or AVE")
        axes = _axes(self, bottom[0])
        if param.global_pooling:
            self.kernel, self.stride, self.pad = bottom[0][2:], (1,) * axes, (0,) * axes
        else:
            self.kernel, self.stride, self.pad = _windows(self, param, axes)


@register("PoolingND", form="")
class PoolingND(_Pool):
    """(N, C, ...) -> (N, C, ...); kernel_size, stride and pad are given once, or once for each axis.

    Source: 3D-Caffe/src/caffe/layers/pooling_nd_layer.cpp of DlutMedimgGroup/MouseCTSegmentation@80ef450.
    """

    params = ("pooling_nd_param",)
    clips = True
    methods: tuple[str, ...] = ("MAX",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.method = param.pool
        if self.method not in self.methods:
            raise self.spec.error(f"pool {self.method} is not supported; use {' or '.join(self.methods)}")
        axes = len(bottom[0]) - 2
        if ("axis" in param.descriptor.fields and self.axis(param.axis, len(bottom[0])) != 1) or not 1 <= axes <= 3:
            raise self.spec.error("works on the 1 to 3 axes after axis 1")

        def each(name: str, default: int) -> tuple[int, ...]:
            pair = getattr(param, f"{name.removesuffix('_size')}_h"), getattr(param, f"{name.removesuffix('_size')}_w")
            values = list(getattr(param, name)) or (list(pair) if any(pair) else [default])
            if len(values) not in (1, axes):
                raise self.spec.error(f"{name} is given {len(values)} times; give it once, or {axes} times")
            return tuple(values * axes if len(values) == 1 else values)

        self.kernel, self.stride, self.pad = each("kernel_size", 0), each("stride", 1), each("pad", 0)
        if param.global_pooling:
            self.kernel = bottom[0][2:]
        if min(*self.kernel, *self.stride) < 1 or any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.spec.error("needs a kernel_size larger than its pad, and strides above 0")


@register("Pooling", form="nd")
class PoolingOverAxes(PoolingND):
    """The same, or the mean, as a form of Pooling. Sources: caffe3d/src/caffe/layers/pooling_layer.cpp of
    VisionLearningGroup/R-C3D@78da577 and pooling_layer.cpp of yjxiong/caffe@8cbbf8c, its branch 3D. Differs: the
    published loops on a CPU pool over the first two axes only; this pools over all, as cuDNN does, which divides by the
    whole window.
    """

    params = ("pooling_param",)
    clips = False
    methods = ("MAX", "AVE")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.counts_whole = len(bottom[0]) > 4


@chooses("Pooling")
def _choose_pooling(spec: LayerSpec) -> Choice:
    """Where a file may give kernel_size once for each axis, it is the form that takes it; pads of each side, and means
    without the padding, are synopsys's."""
    param = spec.get("pooling_param")
    if param.pool in ("AVE_EXC_PAD", "AVE_TF") or any(
            map(param.has, ("pad_type", "pad_l", "pad_r", "pad_t", "pad_b"))):
        return Choice("synopsys")
    if param.has("dilation"):
        return Choice("dilated")
    return (Choice("nd") if param.descriptor.fields["kernel_size"].repeated
            else Choice("", ("nd", "synopsys", "dilated")))


@register("Pooling3D", form="p3d")
class Pooling3DOfPseudo3D(_Pool):
    """Maximum or mean over windows: (N, C, L, H, W) -> (N, C, L', H', W'). kernel_l, stride_l and pad_l hold in time,
    the others in space. Source: pooling3d_layer.cpp of ZhaofanQiu/pseudo-3d-residual-networks@e91f95d.
    """

    params = ("pooling3d_param",)
    clips = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("pooling3d_param")
        self.method = param.pool
        if self.method == "STOCHASTIC":
            raise self.spec.error("pool STOCHASTIC is not supported; use MAX or AVE")
        if len(bottom[0]) != 5:
            raise self.spec.error(f"needs a bottom (N, C, L, H, W), not {shape_text(bottom[0])}")

        def space(both: str, h: str, w: str) -> tuple[int, int]:
            return (getattr(param, h), getattr(param, w)) if param.has(h) else (getattr(param, both),) * 2

        self.stride = (param.stride_l, *space("stride", "stride_h", "stride_w"))
        self.pad = (param.pad_l, *space("pad", "pad_h", "pad_w"))
        self.kernel = (param.kernel_l, *space("kernel_size", "kernel_h", "kernel_w"))
        if param.global_pooling:
            self.kernel = bottom[0][2:]
        if min(*self.kernel, *self.stride) < 1 or any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.spec.error("needs kernel_l and kernel_size, each larger than its pad, and strides above 0")


@chooses("Pooling3D")
def _choose(spec: LayerSpec) -> Choice:
    """C3D's has kernel_depth, Pseudo-3D's kernel_l."""
    param = spec.message.fields.get("pooling3d_param")
    return Choice("p3d") if param is not None and "kernel_l" in param.fields else Choice("")
