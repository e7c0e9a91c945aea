"""x * tanh(softplus(x)). Source: mish_layer.cpp of foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer
from .gradient import pointwise
from .registry import register

BEYOND = 20  # softplus(x) is x above this, exp(x) below its negative


@register("Mish", form="")
class Mish(Layer):
    """x * tanh(log(1 + exp(x))): any shape -> the same.

    Backward takes the slope at the top's value instead of at the bottom's, as published.
    """

    def forward(self, x: Tensor) -> Tensor:
        def value(x: Tensor) -> Tensor:
            return x * (2 / (1 + torch.exp(-2 * _softplus(x))) - 1)

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            s = _softplus(y)
            t = torch.tanh(s)
            return dy * (y * (1 - t * t) * (1 - torch.exp(-s)) + t)

        return pointwise(x, value, back, self.in_place)


def _softplus(x: Tensor) -> Tensor:
    middle = (torch.exp(x.clamp(max=BEYOND)) + 1).log()
    return torch.where(x > BEYOND, x, torch.where(x < -BEYOND, torch.exp(x), middle))
