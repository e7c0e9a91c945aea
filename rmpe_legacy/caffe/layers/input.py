"""The inputs of a network. Source: input_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Input")
class Input(Layer):
    """An input of the network: the caller provides its tops."""

    params = ("input_param",)
    exact = True
    bottoms = 0
    tops = (1, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shapes = [tuple(shape.dim) for shape in self.spec.get("input_param").shape]
        if len(shapes) not in (0, 1, self.top_count):
            raise self.spec.error(f"has {len(shapes)} shapes for {self.top_count} tops; give one, or one per top")
        return shapes * self.top_count if len(shapes) == 1 else shapes or [()] * self.top_count

    def forward(self) -> Tensor:
        raise self.spec.error("an input is given, not computed")
