"""Axes in another order. Source: transpose_layer.cpp of tianzhi0549/CTPN@f77ec9e."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Transpose", form="")
class Transpose(Layer):
    """Axis i of the top is axis dim[i] of the bottom; all axes are given."""

    params = ("transpose_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.order = tuple(self.spec.get("transpose_param").dim)
        if sorted(self.order) != list(range(len(bottom[0]))):
            raise self.spec.error(f"needs dim once for each axis of its bottom of {shape_text(bottom[0])}, but is "
                                  f"given {list(self.order)}")
        return [tuple(bottom[0][axis] for axis in self.order)]

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order).contiguous()
