"""min(ReLU(x), 6). Source: relu6_layer.cpp of eric612/MobileNet-YOLO@69b4441."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .gradient import pointwise
from .registry import register


@register("ReLU6", form="")
class ReLU6(Layer):
    """min(max(x, 0) + negative_slope * min(x, 0), 6): any shape -> the same; the slope stands in relu6_param."""

    params = ("relu6_param", "relu_param")

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("relu6_param") if self.spec.has("relu6_param") else self.spec.get("relu_param")
        slope = param.negative_slope

        def value(x: Tensor) -> Tensor:
            return (x.clamp(min=0) + slope * x.clamp(max=0)).clamp(max=6)

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * (((x > 0) & (x < 6)) + slope * (x <= 0))

        return pointwise(x, value, back, self.in_place)
