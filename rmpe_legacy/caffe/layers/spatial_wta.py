"""Winners that take all. Source: spatial_wta_layer.cpp of t2mhanh/caffe_convLSTM_WTA@4f31996."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("SpatialWta", form="")
class SpatialWta(Layer):
    """Keeps the value of the largest magnitude in each window, or with global_wta in each map, and sets others to 0:
    (N, C, H, W) -> the same; a second top marks the places. Of equal magnitudes the first wins."""

    params = ("spatial_wta_param",)
    tops = (1, 2)
    works_in_place = False
    exact = True
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("spatial_wta_param")
        square, sides = param.has("kernel_size"), param.has("kernel_h") and param.has("kernel_w")
        if (square and (param.has("kernel_h") or param.has("kernel_w"))) or not (param.global_wta or square or sides):
            raise self.spec.error("needs kernel_size, or kernel_h and kernel_w, or global_wta")
        if param.global_wta and (square or param.has("kernel_h") or param.has("kernel_w")):
            raise self.spec.error("takes no kernel with global_wta, which has one window, the map")
        self.whole = param.global_wta
        self.kernel = (param.kernel_size,) * 2 if square else (param.kernel_h, param.kernel_w)
        self.stride = (param.stride_h, param.stride_w) if param.has("stride_h") else (param.stride,) * 2
        if not self.whole and min(*self.kernel, *self.stride) < 1:
            raise self.spec.error("needs a kernel and a stride above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return bottom * self.top_count

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        wins = self._winners(x.detach())
        return (torch.where(wins, x, 0), wins.to(x.dtype))[: self.top_count]

    def _winners(self, x: Tensor) -> Tensor:
        wins = torch.zeros_like(x, dtype=torch.bool)
        kernel, stride = self.windows_in(tuple(x.shape[2:]))
        if x.numel() and kernel is not None:
            place = F.max_pool2d(x.abs(), kernel, stride, return_indices=True)[1]
            wins.flatten(2).scatter_(2, place.flatten(2), True)
        return wins

    def windows_in(self, plane: Shape) -> tuple[tuple[int, int] | None, tuple[int, int]]:
        """Kernel and stride of the windows in a map of this size; None for the kernel if none fits."""
        h, w = plane
        if self.whole:
            return (h, w), (1, 1)
        return self.kernel if self.kernel[0] <= h and self.kernel[1] <= w else None, self.stride
