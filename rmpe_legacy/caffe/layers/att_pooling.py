"""Pooling by attention (PiCANet). Source: att_pooling_layer.cu of ArcherFMY/caffe-sal-ensemble@ff8e040."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("AttPooling", form="")
class AttPooling(Layer):
    """Weighted sums of windows: (N, C, H, W) and weights (N, k * k, P, Q), one for each cell of a window, ->
    (N, C, P, Q).

    LOCAL: each place has a window of its own, (P, Q) of them. GLOBAL: one window covers the map, which is square, and
    the places differ in their weights only; kernel_size is then the map's size by default.
    """

    params = ("att_pooling_param",)
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("att_pooling_param")
        self.pad, self.stride, self.dilation = param.pad, param.stride, param.dilation
        self.everywhere = param.att_mode == "GLOBAL"
        if min(self.stride, self.dilation) < 1 or (param.has("kernel_size") and param.kernel_size < 1):
            raise self.spec.error("needs kernel_size, stride and dilation above 0")
        if not param.has("kernel_size") and not self.everywhere:
            raise self.spec.error("needs kernel_size with att_mode LOCAL")
        if self.everywhere and (self.stride != 1 or (self.dilation != 1 and not param.has("kernel_size"))):
            raise self.spec.error("att_mode GLOBAL takes stride 1, and a dilation only beside kernel_size")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, weight = bottom
        if len(x) != 4 or len(weight) != 4 or x[0] != weight[0]:
            raise self.spec.error("needs a bottom (N, C, H, W) and weights (N, k * k, P, Q), not "
                                  f"{shape_text(x)} and {shape_text(weight)}")
        if self.everywhere and x[2] != x[3]:
            raise self.spec.error(f"att_mode GLOBAL takes a square map, not {shape_text(x)}")
        param = self.spec.get("att_pooling_param")
        self.kernel = param.kernel_size if param.has("kernel_size") else x[3]
        extent = self.dilation * (self.kernel - 1) + 1
        windows = tuple((size + 2 * self.pad - extent) // self.stride + 1 for size in x[2:])
        if windows != ((1, 1) if self.everywhere else weight[2:]) or weight[1] != self.kernel**2:
            raise self.spec.error(f"its kernel of {self.kernel} x {self.kernel} has {shape_text(windows)} windows in a "
                                  f"bottom of {shape_text(x)}; weights of {shape_text(weight)} do not fit"
                                  + (", as att_mode GLOBAL takes one window" if self.everywhere else ""))
        self.check_padded(x, [size + 2 * self.pad for size in x[2:]])
        return [(*x[:2], *weight[2:])]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        n, c = x.shape[:2]
        padded = F.pad(x, [self.pad] * 4)
        if self.everywhere:
            step = self.dilation
            window = padded[:, :, ::step, ::step].flatten(2)
            return (window @ weight.flatten(2)).view(n, c, *weight.shape[2:])
        top = x.new_zeros(n, c, *weight.shape[2:])
        for cell in range(weight.shape[1]):  # not all at once: k * k copies of a large map may not fit in memory
            place = [slice(start * self.dilation, start * self.dilation + (size - 1) * self.stride + 1, self.stride)
                     for start, size in zip(divmod(cell, self.kernel), weight.shape[2:], strict=True)]
            top = torch.addcmul(top, padded[:, :, place[0], place[1]], weight[:, cell : cell + 1])
        return top
