"""Depthwise convolutions.

Sources: depthwise_conv_layer.cpp of yonghenglh6/DepthwiseConvolution@2b9cf52 and eric612/MobileNet-YOLO@69b4441,
conv_dw_layer.cpp of suzhenghang/MobileNetv2@abe0e3d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .conv import Convolution
from .registry import register


@register("DepthwiseConvolution", form="")
class DepthwiseConvolution(Convolution):
    """A Convolution, by its group: the published layer differs from it in speed alone."""


@register("ConvolutionDepthwise", form="")
class ConvolutionDepthwise(Layer):
    """Each channel under a window of its own: (N, C, H, W) -> (N, C, H', W'), weights (C, 1, h, w).

    num_output and group have no effect. Kernel, stride and pad are given once, or as _h and _w.
    """

    params = ("convolution_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("convolution_param")
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        self.kernel = self._pair(param, "kernel_size", "kernel_h", "kernel_w", None)
        self.stride = self._pair(param, "stride", "stride_h", "stride_w", 1)
        self.pad = self._pair(param, "pad", "pad_h", "pad_w", 0)
        self.dilation = self._pair(param, "dilation", "", "", 1)
        self.channels = bottom[0][1]
        self.declare("weight", (self.channels, 1, *self.kernel), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (self.channels,), param.bias_filler)

    def _pair(self, param: Any, name: str, h: str, w: str, default: int | None) -> tuple[int, int]:
        """(h, w) of a window's property. Differs: the published layer reads beyond an empty list for a stride or pad
        that is not given; here these are 1 and 0."""
        if h and param.has(h) and param.has(w):
            return getattr(param, h), getattr(param, w)
        given = list(getattr(param, name)) or ([] if default is None else [default])
        if len(given) not in (1, 2):
            raise self.spec.error(f"{name} is given {len(given)} times; give it once, or for height and width")
        return given[0], given[-1]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0][1] != self.channels:
            raise self.spec.error(f"was set up for {self.channels} channels; its bottom is {shape_text(bottom[0])}")
        size = [(n + 2 * p - (d * (k - 1) + 1)) // s + 1 for n, p, d, k, s in
                zip(bottom[0][2:], self.pad, self.dilation, self.kernel, self.stride, strict=True)]
        if min(size) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        return [(*bottom[0][:2], *size)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        return F.conv2d(x, weight, bias[0] if bias else None, stride=self.stride, padding=self.pad,
                        dilation=self.dilation, groups=self.channels)
