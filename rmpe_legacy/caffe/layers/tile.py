"""Repeats a blob along an axis. Source: tile_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Tile")
class Tile(Layer):
    """Repeats its bottom `tiles` times along `axis`."""

    params = ("tile_param",)
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("tile_param")
        along = self.axis(param.axis, len(bottom[0]))
        if not param.has("tiles") or param.tiles < 1:
            raise self.spec.error("tiles must be given, and positive")
        if self.in_place and param.tiles > 1:
            raise self.spec.error("cannot work in place; give its top another name")
        self.times = [param.tiles if i == along else 1 for i in range(len(bottom[0]))]
        return [tuple(size * n for size, n in zip(bottom[0], self.times, strict=True))]

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(self.times)
