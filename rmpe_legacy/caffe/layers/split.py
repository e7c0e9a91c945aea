"""One blob under several names. Source: split_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .registry import register


@register("Split")
class Split(Layer):
    """Gives one bottom several names; the tops' gradients add up."""

    works_in_place = False
    shares_data = True

    tops = (1, None)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if not x.requires_grad:
            return (x,) * len(self.spec.top)
        return tuple(x.view_as(x) for _ in self.spec.top)  # views, so that each top has its own gradient
