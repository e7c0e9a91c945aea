"""OpenPose's cubic resize of several scales. Source: imresize_layer.{cpp,cu} of
CMU-Perceptual-Computing-Lab/caffe_rtpose@a4778bb; its kernel's arithmetic, not the CPU code's, which is OpenCV's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("ImResize", form="")
class ImResize(Layer):
    """(N, C, H, W) -> the mean over N of cubic resizes to one size, (1, C, H', W').

    The size is factor times the bottom's, or target_spatial_height x target_spatial_width if factor is 0. Image n is
    first cut at its edges, by floor(size / 2 * (1 - start_scale + n * scale_gap)). At the left and top edge the cubic
    goes beyond the last pixel, as published. It has no Backward.
    """

    params = ("imresize_param",)
    refuses = (0,)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("imresize_param")
        self.factor, self.start, self.gap = param.factor, param.start_scale, param.scale_gap
        if not math.isfinite(self.factor):
            raise self.spec.error(f"factor is {self.factor}, which is no size")
        self.target = param.target_spatial_height, param.target_spatial_width

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or not bottom[0][0]:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        self.size = tuple(int(n * self.factor) for n in bottom[0][2:]) if self.factor else self.target
        if min(self.size) < 1:
            raise self.spec.error("has no output size; set factor, or target_spatial_height and target_spatial_width")
        return [(1, bottom[0][1], *self.size)]

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(x.shape[1], *self.size)
        for n, image in enumerate(x.detach()):
            for axis in (1, 2):
                image = self._along(image, axis, n)
            total = total + image
        top = (total / len(x)).unsqueeze(0)
        return top if not x.requires_grad else top.requires_grad_()

    def _along(self, image: Tensor, axis: int, n: int) -> Tensor:
        """One axis of an image (C, H, W) brought to its size."""
        extent, size = image.shape[axis], self.size[axis - 1]
        cut = math.floor(extent // 2 * (1 - self.start + n * self.gap))
        extent -= 2 * cut
        if extent < 1:
            raise self.spec.error(f"cuts everything off image {n}; check start_scale and scale_gap")
        kind: Any = {"dtype": torch.float32, "device": image.device}
        ratio = torch.tensor(extent, **kind) / size
        shift = torch.tensor(size, **kind) / extent / 2 - 0.5
        at = (torch.arange(size, **kind) - shift) * ratio
        second = (at.double() + 1e-5).trunc().clamp(min=0).long()
        first = (second - 1).clamp(min=0)
        third = (second + 1).clamp(max=extent - 1)
        fourth = (third + 1).clamp(max=extent - 1)
        d = (at - second).to(image.dtype).view(-1, *[1] * (2 - axis))
        a, b, c, e = (image.index_select(axis, index + cut) for index in (first, second, third, fourth))
        return ((-0.5 * a + 1.5 * b - 1.5 * c + 0.5 * e) * d * d * d + (a - 2.5 * b + 2 * c - 0.5 * e) * d * d
                + (-0.5 * a + 0.5 * c) * d + b)
