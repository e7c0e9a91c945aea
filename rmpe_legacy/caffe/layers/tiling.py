"""Tiles of channels become places. Source: tiling_layer.cpp of asyncbridge/tsinghua-tencent-100k@ea8f399."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Tiling", form="")
class Tiling(Layer):
    """(N, C * t * t, H, W) -> (N, C, H * t, W * t), t being tile_dim: each t * t channels are the rows of a tile."""

    params = ("tiling_param",)
    exact = True
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.side = self.spec.get("tiling_param").tile_dim
        if self.side < 1 or len(bottom[0]) != 4 or bottom[0][1] % self.side**2:
            raise self.spec.error("needs a tile_dim above 0 whose square divides the channels of a bottom (N, C, H, "
                                  f"W); tile_dim is {self.side}, its bottom {shape_text(bottom[0])}")
        n, c, h, w = bottom[0]
        return [(n, c // self.side**2, h * self.side, w * self.side)]

    def forward(self, x: Tensor) -> Tensor:
        return tiled(x, self.side)


def tiled(x: Tensor, side: int) -> Tensor:
    """(N, C * side * side, H, W) -> (N, C, H * side, W * side); also with no values, where torch has no gradient."""
    n, c, h, w = x.shape
    return F.pixel_shuffle(x, side) if x.numel() else x.reshape(n, c // side**2, h * side, w * side)
