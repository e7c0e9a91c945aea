"""Self-normalizing networks. Sources: selu_layer.cpp and selu_dropout_layer.cpp of BVLC/caffe@3866af4, a pull request
(SeLu and SeLuDropout), and of foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36 (SeLU and SeLUDropout).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer, Shape
from .gradient import pointwise
from .registry import register


@register("SeLu", form="")
@register("SeLU", form="")
class SeLU(Layer):
    """lambda * x if positive, else lambda * alpha * (exp(x) - 1): any shape -> the same."""

    params = ("selu_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("selu_param")
        self.alpha, self.scale = param.alpha, getattr(param, "lambda")

    def forward(self, x: Tensor) -> Tensor:
        def value(x: Tensor) -> Tensor:
            return self.scale * torch.where(x > 0, x, self.alpha * (x.clamp(max=0).exp() - 1))

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * self.scale * torch.where(x > 0, 1, self.alpha * x.clamp(max=0).exp())

        return pointwise(x, value, back, self.in_place)


@register("SeLuDropout", form="")
@register("SeLUDropout", form="")
class SeLUDropout(Layer):
    """In TRAIN, sets each value to alpha with probability dropout_ratio, and then scales and shifts all of them so that
    mean and variance stay what they are: any shape -> the same.

    torch's generator picks them, so torch.manual_seed makes it repeatable.
    """

    params = ("selu_dropout_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("selu_dropout_param")
        self.ratio, self.alpha = param.dropout_ratio, param.alpha
        if not 0 < self.ratio < 1:
            raise self.spec.error(f"dropout_ratio {self.ratio:g} must be above 0 and below 1")
        keep = 1 - self.ratio
        self.scale = (keep * (1 + self.alpha * self.alpha * self.ratio)) ** -0.5
        self.shift = -self.scale * self.ratio * self.alpha

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.phase != "TRAIN":
            return x if self.in_place else x.view_as(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.ratio)
        return self.scale * torch.where(kept > 0, x, self.alpha) + self.shift
