"""The rectifier that keeps what is below 0. Source: neg_relu_layer.{cpp,cu} of lmb-freiburg/flownet2@b92e198."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .gradient import pointwise
from .registry import register


@register("NegReLU", form="")
class NegReLU(Layer):
    """min(x, 0) + negative_slope * max(x, 0): any shape -> the same. At 0 its slope is negative_slope."""

    params = ("relu_param",)

    def forward(self, x: Tensor) -> Tensor:
        slope = self.spec.get("relu_param").negative_slope

        def value(x: Tensor) -> Tensor:
            return x.clamp(max=0) + slope * x.clamp(min=0)

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * ((x < 0) + slope * (x >= 0))

        return pointwise(x, value, back, self.in_place)
