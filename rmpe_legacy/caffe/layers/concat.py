"""Concatenates bottoms along an axis. Source: concat_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Concat")
class Concat(Layer):
    """Concatenates its bottoms along an axis."""

    params = ("concat_param",)
    exact = True
    bottoms = (1, None)
    shares_data = None

    def setup(self, *bottom: Shape) -> None:
        self.shares_data = self.shares_diff = len(bottom) == 1
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot work in place; give its top another name")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.either_axis(self.spec.get("concat_param"), "axis", "concat_dim", len(bottom[0]))
        rest = [(s[: self.along], s[self.along + 1 :]) for s in bottom]
        if any(len(s) != len(bottom[0]) for s in bottom) or any(r != rest[0] for r in rest):
            raise self.spec.error(f"its bottoms must agree in all but axis {self.along}: "
                                  + ", ".join(map(shape_text, bottom)))
        return [(*rest[0][0], sum(s[self.along] for s in bottom), *rest[0][1])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] if len(bottoms) == 1 else torch.cat(bottoms, self.along)
