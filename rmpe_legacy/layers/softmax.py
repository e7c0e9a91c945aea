"""Softmax along an axis. Source: softmax_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Softmax")
class Softmax(Layer):
    """exp(x - max) / sum of these, along `axis`."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(self.along)
