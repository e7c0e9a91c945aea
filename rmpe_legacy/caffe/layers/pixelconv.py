"""Convolution by kernels of their own for each place. Source: PixelConv_layer.cpp of csjcai/SICE@6760894, Model
3/Layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("PixelConv", form="")
class PixelConv(Layer):
    """Kernels (N, C * k * k, H, W) and a map (N, C, H, W) -> (N, C, H, W).

    is_bpk and is_bpd say which of the two bottoms gets a gradient.
    """

    params = ("pixelconvolution_param",)
    bottoms = 2
    works_in_place = False
    caffe_source = "PixelConv_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("pixelconvolution_param")
        self.to_kernels, self.to_map = param.is_bpk, param.is_bpd
        if not param.is_pad:
            raise self.spec.error("is_pad: false is not computed here, as the published code then reads past its end")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        kernels, x = bottom
        if len(x) == 4 and len(kernels) == 4 and x[1] and (kernels[0], *kernels[2:]) == (x[0], *x[2:]):
            self.side = math.isqrt(kernels[1] // x[1])
            if self.side % 2 and self.side**2 * x[1] == kernels[1]:
                return [x]
        raise self.spec.error("needs a kernel of k x k values, k odd, for each channel and place; its bottoms are "
                              f"{shape_text(kernels)} and {shape_text(x)}")

    def forward(self, kernels: Tensor, x: Tensor) -> Tensor:
        kernels, source = kernels if self.to_kernels else kernels.detach(), x if self.to_map else x.detach()
        n, c, h, w = x.shape
        near = F.unfold(source, self.side, padding=self.side // 2).view(n, c, self.side**2, h, w)
        return (kernels.view(n, c, self.side**2, h, w) * near).sum(2)
