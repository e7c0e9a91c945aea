"""Reorders axes. Source: permute_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Permute", dialects=("rmpe", "ssd"))
class Permute(Layer):
    """Reorders axes; axes not named in `order` follow in their old order."""

    params = ("permute_param",)
    exact = True
    shares_data = None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        order, dims = list(self.spec.get("permute_param").order), len(bottom[0])
        if any(i >= dims for i in order) or len(set(order)) != len(order):
            raise self.spec.error(f"order {order} must name each of the {dims} axes at most once")
        self.order = order + [i for i in range(dims) if i not in order]
        self.shares_data = self.shares_diff = self.order == sorted(self.order)
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot move values in place; give its top another name")
        return [tuple(bottom[0][i] for i in self.order)]

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order).contiguous()
