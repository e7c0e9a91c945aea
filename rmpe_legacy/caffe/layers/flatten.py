"""Merges consecutive axes. Source: flatten_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, count
from .registry import register


@register("Flatten")
class Flatten(Layer):
    """Merges the axes from `axis` to `end_axis`; an end_axis directly before `axis` inserts an axis of size 1."""

    params = ("flatten_param",)
    exact = True
    works_in_place = False
    shares_data = shares_diff = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("flatten_param")
        start = self.axis(param.axis, len(bottom[0]))
        end = self.axis(param.end_axis, len(bottom[0]), "end_axis") + 1
        if end < start:
            raise self.spec.error(f"end_axis {param.end_axis} lies before axis {param.axis}")
        self.shape = (*bottom[0][:start], count(bottom[0][start:end]), *bottom[0][end:])
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)
