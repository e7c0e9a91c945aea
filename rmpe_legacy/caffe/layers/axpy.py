"""a * x + y. Sources: axpy_layer.cpp of hujie-frank/SENet@0262d43 and eric612/MobileNet-YOLO@69b4441."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Axpy", form="")
class Axpy(Layer):
    """A channel's weight times x, plus y: (N, C) or (N, C, 1, 1), (N, C, H, W), (N, C, H, W) -> (N, C, H, W)."""

    bottoms = 3
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        a, x, y = bottom
        if len(x) != 4 or a not in (x[:2], (*x[:2], 1, 1)) or x != y:
            raise self.spec.error("needs a weight per channel and two blobs (N, C, H, W); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [x]

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return a.reshape(*x.shape[:2], 1, 1) * x + y
