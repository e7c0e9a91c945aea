"""Maps times a map. Source: spatial_product_layer.cpp of hszhao/PSPNet@798bdc9, as in other
forks of DeepLab."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("SpatialProduct", form="")
class SpatialProduct(Layer):
    """Each channel of (N, C, H, W) times the one channel of (N, 1, H, W)."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        if self.nchw(bottom[1]) != (n, 1, h, w):
            raise self.spec.error(f"needs a second bottom ({n}, 1, {h}, {w}), not {shape_text(bottom[1])}")
        return [bottom[0]]

    def forward(self, x: Tensor, factor: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        return (x.reshape(n, c, h, w) * factor.reshape(n, 1, h, w)).view(x.shape)
