"""A leaky ReLU with random slopes. Source: insanity_layer.cpp of happynear/caffe-windows@967eedf."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Insanity", form="")
class Insanity(Layer):
    """max(x, 0) + min(x, 0) / slope: any shape -> the same. In TRAIN each slope is drawn from lb to ub, in TEST it is
    (ub - lb) / (log |ub| - log |lb|).

    Differs: the published Backward in TEST divides by slopes that nobody has drawn; here by the one of Forward.
    """

    params = ("insanity_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("insanity_param")
        self.low, self.high = param.lb, param.ub
        bad = self.high <= self.low or not self.low or not self.high or abs(self.low) == abs(self.high)
        if len(bottom[0]) < 2 or bad:
            raise self.spec.error(f"needs lb below ub, neither of them 0, and a bottom (N, C, ...), not "
                                  f"{shape_text(bottom[0])}")

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.phase == "TRAIN":
            slope = torch.empty_like(x).uniform_(self.low, self.high)
        else:
            slope = (self.high - self.low) / (math.log(abs(self.high)) - math.log(abs(self.low)))
        return torch.where(x > 0, x, x / slope)
