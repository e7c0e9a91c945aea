"""A ReLU of four values. Source: relu2b_layer.cpp of peiswang/Two-Step-Quantization-AlexNet@63d45d7."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer
from .gradient import pointwise
from .registry import register


@register("ReLU2B", form="")
class ReLU2B(Layer):
    """0 up to `thresh`, delta up to 1.5 delta, 2 delta up to 2.5 delta, else 3 delta: any shape -> the same. The
    gradient passes where the bottom, in place the top, lies between 0 and 3 delta."""

    params = ("relu_param",)
    is_discontinuous = True

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("relu_param")
        thresh, delta = param.thresh, x.new_tensor(param.delta)

        def value(x: Tensor) -> Tensor:
            upper = torch.where(x <= 2.5 * param.delta, 2 * delta, 3 * delta)
            steps = torch.where(x <= 1.5 * param.delta, delta, upper)
            return torch.where(x <= thresh, torch.zeros_like(x), steps)

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * ((x > 0) & (x < 3 * delta))

        return pointwise(x, value, back, self.in_place)
