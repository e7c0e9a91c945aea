"""Distances within windows, and what convolutions aware of segments do with them.

Sources: im2dist.cpp, im2parity.cpp, channel_reduce_layer.cpp and base_conv_layer.cpp of aharley/segaware@dc45b8a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import FLT_MAX, Layer, Shape, shape_text
from .base_conv import Windowed
from .conv import Convolution
from .registry import register

FAR = FLT_MAX / 100  # the distance to what does not count


class _Absolute(torch.autograd.Function):
    """|x|, whose slope at 0 is -1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, dy, -dy)


class _Neighbours(Windowed):
    """Base: compares each window's center with its other places. kernel / 2, rounded down, is the center."""

    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if len(bottom[0]) != 4 or self.channel_axis != 1:
            raise self.spec.error(f"takes a bottom (N, C, H, W) and axis 1, not {shape_text(bottom[0])}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[0][0], math.prod(self.kernel), *self.spatial(bottom[0]))]

    def windows(self, x: Tensor) -> Tensor:
        """Return the values of each window, (N, C, places, windows); 0 outside the bottom."""
        columns = F.unfold(x, self.kernel, self.dilation, self.pad, self.stride)
        return columns.view(*x.shape[:2], math.prod(self.kernel), -1)

    def within(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return which places are inside the bottom, (places, windows), and of which windows the center is,
        (windows,)."""
        inside = self.windows(torch.ones_like(x[:1, :1]))[0, 0] > 0
        return inside, inside[self.center]

    @property
    def center(self) -> int:
        """The number of the center among a window's places."""
        return self.kernel[0] // 2 * self.kernel[1] + self.kernel[1] // 2


@register("Im2dist", form="")
class Im2dist(_Neighbours):
    """(N, C, H, W) -> (N, kernel_h * kernel_w, H', W'): how far each place of a window is from its center, half the sum
    over the channels of squared differences, or with norm L1 the sum of absolute ones.

    Places outside the bottom are at distance 0, or with remove_bounds at the largest float / 100, as is the center with
    remove_center. A window whose center is outside is 0. As published, with norm L1 the gradient of a place outside
    counts for its center.
    """

    params = ("convolution_param", "im2dist_param")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.param = self.spec.get("im2dist_param")

    def forward(self, x: Tensor) -> Tensor:
        inside, counts = self.within(x)
        values = self.windows(x)
        center = values[:, :, self.center, None]
        outside = torch.where(counts, center - center.detach(), 0)  # 0, yet with norm L1 it has a gradient
        apart = torch.where(inside & counts, center - values, outside)
        if self.param.norm == "L2":
            distance = (apart * apart).sum(1) * 0.5
        else:
            distance = _Absolute.apply(apart).sum(1)
        far = torch.zeros_like(inside)
        if self.param.remove_bounds:
            far = far | ~inside
        if self.param.remove_center:
            far = far | (torch.arange(len(inside), device=x.device) == self.center)[:, None]
        distance = distance + torch.where(far & counts, FAR, 0.0)  # to 0
        return distance.view(len(x), -1, *self.spatial(tuple(x.shape)))


@register("Im2parity", form="")
class Im2parity(_Neighbours):
    """Labels (N, 1, H, W) -> (N, kernel_h * kernel_w, H', W'): 1 where a place of a window has its center's label, else
    0; ignore_label where either has this label, or the center is outside. What is outside counts as label 0.
    """

    params = ("convolution_param", "im2parity_param")
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0][1] != 1:
            raise self.spec.error(f"takes labels with one channel, not {shape_text(bottom[0])}")
        return super().reshape(*bottom)

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("im2parity_param")
        _, counts = self.within(x)
        labels = self.windows(x.detach())[:, 0].trunc()
        center = labels[:, self.center, None]
        same = (labels == center).to(x)
        ignored = float(param.ignore_label)
        if param.has("ignore_label"):
            same = torch.where((labels == ignored) | (center == ignored), ignored, same)
        same = torch.where(counts, same, ignored)
        return same.view(len(x), -1, *self.spatial(tuple(x.shape)))


@register("ChannelReduce", form="")
class ChannelReduce(Layer):
    """(N, C, H, W) -> (N, num_channels, H, W): the largest of C / num_channels neighbouring channels, or with operation
    SUM their sum."""

    params = ("channel_reduce_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        self.kept = self.spec.get("channel_reduce_param").num_channels
        if not self.kept or c % self.kept:
            raise self.spec.error(f"num_channels {self.kept} does not divide the bottom's {c} channels")
        return [(n, self.kept, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        groups = x.reshape(n, self.kept, c // self.kept, h, w)
        if self.spec.get("channel_reduce_param").operation == "SUM":
            return groups.sum(2)
        return groups.gather(2, groups.detach().argmax(2, keepdim=True)).squeeze(2)


@register("Convolution", form="segaware")
class ConvolutionOfColumns(Convolution):
    """Convolution; with bottom_is_im2col, of windows that Im2col has laid out: (N, C * kernel, H, W) -> (N, num_output,
    H, W), with weights (num_output, C / group, kernel_h, kernel_w)."""

    caffe_source = ""

    def setup(self, *bottom: Shape) -> None:
        self.laid_out = self.spec.get("convolution_param").bottom_is_im2col
        self.is_plain = not self.laid_out
        super().setup(*bottom)

    def weight_shape(self) -> Shape:
        shape = super().weight_shape()
        places = math.prod(self.kernel)
        if self.laid_out and shape[1] % places:
            raise self.spec.error(f"with bottom_is_im2col its bottom's {self.channels} channels must be a multiple of "
                                  f"the kernel's {places} places")
        return (shape[0], shape[1] // places, *self.kernel) if self.laid_out else shape

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        return tuple(bottom[self.channel_axis + 1 :]) if self.laid_out else super().out_spatial(bottom)

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.laid_out:
            return super().apply_one(x, weight, bias)
        y = F.conv1d(x.flatten(2), weight.reshape(len(weight), -1, 1), bias, groups=self.group)
        return y.view(*y.shape[:2], *x.shape[2:])
