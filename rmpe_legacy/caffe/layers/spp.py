"""Spatial pyramid pooling. Source: spp_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .pooling import Windows, average, maximum, nothing
from .registry import register


@register("SPP")
class SPP(Layer):
    """Pools into 1, 2 x 2, 4 x 4 ... bins and concatenates them: (N, C, H, W) -> (N, C * bins).

    With a pyramid_height of 1 the top keeps the pooling's shape, (N, C, 1, 1). A level may have fewer bins: windows
    that would start in the padding are dropped.
    """

    params = ("spp_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("spp_param")
        self.height, self.method = param.pyramid_height, param.pool
        if self.height < 1:
            raise self.spec.error("pyramid_height must be given, and at least 1")
        if self.method not in ("MAX", "AVE"):
            raise self.spec.error(f"pool {self.method} is not supported; Caffe pads MAX and AVE only")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or 0 in bottom[0][2:]:
            raise self.spec.error(f"needs a bottom (N, C, H, W) that is not empty, not {shape_text(bottom[0])}")
        n, c, *size = bottom[0]
        self.levels = [self._level(2**i, size) for i in range(self.height)]
        grids = [windows.grid(size) for windows in self.levels]
        return [(n, c, *grids[0])] if self.height == 1 else [(n, sum(c * h * w for h, w in grids))]

    def _level(self, bins: int, size: Sequence[int]) -> Windows:
        """Return bins x bins windows that cover the plane, with the excess split between both sides."""
        kernel = tuple(-(-extent // bins) for extent in size)
        pad = tuple((k * bins - extent + 1) // 2 for k, extent in zip(kernel, size, strict=True))
        if any(pad) and any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.spec.error(f"{bins} x {bins} bins are too many for a bottom of {shape_text(tuple(size))}: they "
                                  f"need a padding of {shape_text(pad)}, which must be less than the window, "
                                  f"{shape_text(kernel)}; lower pyramid_height")
        return Windows(kernel, kernel, pad)

    def forward(self, x: Tensor) -> Tensor:
        pool = nothing if not x.shape[1] else maximum if self.method == "MAX" else average
        if self.height == 1:
            return pool(x, self.levels[0])
        return torch.cat([pool(x, windows).flatten(1) for windows in self.levels], 1)
