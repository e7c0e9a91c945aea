"""Splits a blob along an axis. Source: slice_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Slice")
class Slice(Layer):
    """Splits its bottom along an axis: at slice_point, or into equal parts."""

    params = ("slice_param",)
    exact = True
    tops = (1, None)
    shares_data = None

    def setup(self, *bottom: Shape) -> None:
        self.shares_data = self.shares_diff = len(self.spec.top) == 1
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot work in place; give its top another name")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("slice_param")
        self.along = self.either_axis(param, "axis", "slice_dim", len(bottom[0]))
        size, parts = bottom[0][self.along], self.top_count
        if param.slice_point:
            ends = [0, *param.slice_point, size]
            self.sizes = [b - a for a, b in pairwise(ends)]
            if len(self.sizes) != parts or any(s <= 0 for s in self.sizes):
                raise self.spec.error(f"slice_point {list(param.slice_point)} must be {parts - 1} increasing indices "
                                      f"inside an axis of {size}, for {parts} tops")
        elif size % parts:
            raise self.spec.error(f"{parts} tops do not divide an axis of {size} evenly; give slice_point")
        else:
            self.sizes = [size // parts] * parts
        before, after = bottom[0][: self.along], bottom[0][self.along + 1 :]
        return [(*before, s, *after) for s in self.sizes]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self.sizes, self.along)
