"""Modules on images: convolution, pooling, upsampling. Sources: the .lua of each class and lib/THNN/generic,
nn@8726825; SpatialConvolution.lua, Pooling.lua of cudnn.torch@008c49d.

Images are (N, C, H, W), or (C, H, W) without a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.errors import NetError

from .base import Fields, Module, batched, torch7_class

Shape = tuple[int, ...]


@torch7_class("nn.SpatialConvolution", "nn.SpatialConvolutionMM", "nn.SpatialDilatedConvolution",
              "cudnn.SpatialConvolution")
class SpatialConvolution(Module):
    """Cross-correlation with weights (out, in / groups, kH, kW); older files have them as (out, in kH kW)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        outputs, inputs = fields.integer("nOutputPlane"), fields.integer("nInputPlane")
        self.groups = fields.integer("groups", 1) if self.is_cudnn else 1
        if inputs % self.groups or outputs % self.groups:
            raise fields.error(f"{inputs} and {outputs} planes are not multiples of {self.groups} groups")
        self.kernel = fields.pair("kH", "kW")
        self.stride = fields.pair("dH", "dW", 1)
        padding = fields.integer("padding", 0, least=0)  # once, for both; before padW and padH
        self.pad = (padding, padding) if fields.has("padding") else fields.pair("padH", "padW", 0, least=0)
        dilated = fields.class_name == "nn.SpatialDilatedConvolution"
        self.dilation = fields.pair("dilationH", "dilationW", 1) if dilated else (1, 1)
        self.weight = fields.required("weight", (outputs, inputs // self.groups, *self.kernel))
        self.bias = fields.parameter("bias", (outputs,))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.pad, self.dilation, self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an image of `shape`, (N, C, H, W) or (C, H, W).

        Raises:
            NetError: The image has another number of channels, or is smaller than the window.
        """
        channels = self.weight.shape[1] * self.groups
        sizes = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(
            shape[-2:], self.pad, self.dilation, self.kernel, self.stride, strict=True))
        if len(shape) not in (3, 4) or shape[-3] != channels or min(sizes) < 1:
            raise NetError(f"{self.class_name}: takes {channels} planes that are at least as large as its window, not "
                           f"{list(shape)}")
        return (*shape[:-3], len(self.weight), *sizes)


@torch7_class("nn.SpatialFullConvolution", "cudnn.SpatialFullConvolution")
class SpatialFullConvolution(Module):
    """The transpose of a convolution, weights (in, out, kH, kW).

    A table {image, like} as input: the output is as high and wide as `like`.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.kernel = fields.pair("kH", "kW")
        self.stride = fields.pair("dH", "dW", 1)
        self.pad = fields.pair("padH", "padW", 0, least=0)
        self.adjust = fields.pair("adjH", "adjW", 0, least=0)
        planes = fields.integer("nInputPlane"), fields.integer("nOutputPlane")
        self.weight = fields.required("weight", (*planes, *self.kernel))
        self.bias = fields.parameter("bias", planes[1:])

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        adjust: Sequence[int] = self.adjust
        if isinstance(x, list):
            x, like = x
            adjust = [(n + 2 * p - k) % s
                      for n, p, k, s in zip(like.shape[-2:], self.pad, self.kernel, self.stride, strict=True)]
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.pad, adjust)


class _Pooling(Module):
    """A sliding window; its number of positions is rounded down, or up with ceil_mode."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.kernel = fields.pair("kH", "kW")
        self.stride = fields.integer("dH", self.kernel[0]), fields.integer("dW", self.kernel[1])
        self.pad = fields.pair("padH", "padW", 0, least=0)
        self.ceil_mode = fields.flag("ceil_mode")
        if any(2 * p > k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise fields.error(f"pad {self.pad} is more than half of the window {self.kernel}")

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an image of `shape`."""
        if len(shape) not in (3, 4):
            raise NetError(f"{self.class_name}: takes (N, C, H, W) or (C, H, W), not {list(shape)}")
        sizes = zip(shape[-2:], self.kernel, self.stride, self.pad, strict=True)
        return (*shape[:-2], *(self._positions(*values) for values in sizes))

    def _positions(self, size: int, kernel: int, stride: int, pad: int) -> int:
        count = -(-(size + 2 * pad - kernel) // stride) if self.ceil_mode else (size + 2 * pad - kernel) // stride
        count += 1
        if count < 1:
            raise NetError(f"{self.class_name}: an image of size {size} is smaller than the window of {kernel}")
        outside = (count - 1) * stride >= size + pad  # the last window does not touch the image
        if self.is_cudnn and outside:
            raise NetError(f"{self.class_name}: with ceil_mode, cudnn's last window lies outside an image of size "
                           f"{size}; its content is undefined")
        return count - (pad > 0 and outside)


@torch7_class("nn.SpatialMaxPooling", "cudnn.SpatialMaxPooling")
class SpatialMaxPooling(_Pooling):
    """The maximum of each window. nn ignores NaN (a window of NaN only gives -inf), cudnn propagates it."""

    def forward(self, x: Tensor) -> Tensor:
        self.output_shape(tuple(x.shape))
        if not self.is_cudnn:
            x = torch.where(x == x, x, -math.inf)
        return F.max_pool2d(x, self.kernel, self.stride, self.pad, 1, self.ceil_mode)


@torch7_class("nn.SpatialAveragePooling", "cudnn.SpatialAveragePooling")
class SpatialAveragePooling(_Pooling):
    """The mean of each window, including padding unless count_include_pad is false; the sum if `divide` is false."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        if not fields.has("ceil_mode"):  # before 2015-09: no padding, whatever the file says
            self.pad = (0, 0)
        self.count_include_pad = self.is_cudnn or not fields.has("ceil_mode") or fields.flag("count_include_pad")
        self.divide = fields.flag("divide", self.is_cudnn)
        if self.is_cudnn and not self.divide:
            raise fields.error("divide is false, which cudnn does not support")

    def forward(self, x: Tensor) -> Tensor:
        self.output_shape(tuple(x.shape))
        y = F.avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil_mode, self.count_include_pad)
        return y if self.divide else y * math.prod(self.kernel)


@torch7_class("nn.SpatialSubSampling")
class SpatialSubSampling(_Pooling):
    """The sum of each window times a learned weight per channel, plus a bias."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.stride = fields.pair("dH", "dW", 1)
        planes = fields.integer("nInputPlane")
        self.weight = fields.required("weight", (planes,))
        self.bias = fields.required("bias", (planes,))

    def forward(self, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, self.kernel, self.stride) * math.prod(self.kernel)
        return total * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


@torch7_class("nn.SpatialAdaptiveMaxPooling", "nn.SpatialAdaptiveAveragePooling")
class SpatialAdaptivePooling(Module):
    """A given number of windows that cover the whole image."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.size = fields.pair("H", "W")
        largest = fields.class_name == "nn.SpatialAdaptiveMaxPooling"
        self.pool = F.adaptive_max_pool2d if largest else F.adaptive_avg_pool2d

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, self.size)


@torch7_class("nn.SpatialUpSamplingNearest")
class SpatialUpSamplingNearest(Module):
    """Repeats each pixel `scale` times in both directions."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.scale = fields.integer("scale_factor")

    def forward(self, x: Tensor) -> Tensor:
        shape = self.output_shape(tuple(x.shape))
        return F.interpolate(batched(x, 3), scale_factor=self.scale).view(shape)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an image of `shape`, (N, C, H, W) or (C, H, W).

        Raises:
            NetError: The input is not an image.
        """
        if len(shape) not in (3, 4):
            raise NetError(f"{self.class_name}: takes (N, C, H, W) or (C, H, W), not {list(shape)}")
        return (*shape[:-2], shape[-2] * self.scale, shape[-1] * self.scale)


@torch7_class("nn.SpatialUpSamplingBilinear")
class SpatialUpSamplingBilinear(Module):
    """Bilinear upsampling with aligned corners, by a factor or to a size."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.scale = fields.integer("scale_factor") if fields.has("scale_factor") else 0  # 0: to `size`
        self.size = None if self.scale else fields.pair("oheight", "owidth")

    def forward(self, x: Tensor) -> Tensor:
        size = self.size or tuple(n * self.scale for n in x.shape[-2:])
        y = F.interpolate(batched(x, 3), size, mode="bilinear", align_corners=True)
        return y.view(*x.shape[:-2], *size)
