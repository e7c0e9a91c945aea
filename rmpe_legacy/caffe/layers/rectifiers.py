"""Rectifiers that forks have beside ReLU. Sources: deconvrelu_layer.cpp of zhongyy/interpretable-face@311cff0,
brelu_layer.cpp of yanhuama/mycaffe@4e73803, and relu_layer.cpp of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer, Shape
from .gradient import pointwise
from .registry import register


@register("DeconvReLU", form="")
class DeconvReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0), any shape, whose gradient is rectified too: if it is positive it passes
    whatever x is, and where x is not, negative_slope of it passes as well."""

    params = ("deconvrelu_param",)

    def forward(self, x: Tensor) -> Tensor:
        slope = self.spec.get("deconvrelu_param").negative_slope

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * ((dy > 0) + slope * (x <= 0))

        return pointwise(x, lambda x: x.clamp(min=0) + slope * x.clamp(max=0), back, self.in_place)


@register("BReLU", form="")
class BReLU(Layer):
    """Values cut to minval to maxval, any shape; what lies outside gets no gradient, both ends do."""

    params = ("brelu_param",)
    exact = True

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("brelu_param")
        low, high = param.minval, param.maxval

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * ((x >= low) & (x <= high))

        return pointwise(x, lambda x: x.clamp(min=low).clamp(max=high), back, self.in_place)


@register("ReLU", form="capped")
class CappedReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0), any shape, cut to at most 6 with relu6, to maximum if that is above 0 and
    to at least minimum if that is not 0; nan gives 0. A second bottom's first value is the maximum.

    What is cut gets no gradient, neither does a value on a limit.
    """

    params = ("relu_param",)
    bottoms = (1, 2)
    exact = True
    caffe_source = "relu_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("relu_param")
        self.negative_slope, self.minimum = param.negative_slope, param.minimum
        self.limits = [6.0] * param.relu6 + [param.maximum] * (param.maximum > 0 and len(bottom) == 1)

    def forward(self, x: Tensor, *maximum: Tensor) -> Tensor:
        limits = [*map(x.new_tensor, self.limits), *(limit.detach().flatten()[0] for limit in maximum)]
        limits = [limit for limit in limits if limit > 0]

        def value(x: Tensor) -> Tensor:
            y = (x.clamp(min=0) + self.negative_slope * x.clamp(max=0)).nan_to_num(0, torch.inf, -torch.inf)
            for limit in limits:
                y = y.minimum(limit)
            return y.clamp(min=self.minimum) if self.minimum else y

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            dx = dy * torch.where(x > 0, 1, x.new_tensor(self.negative_slope))
            for limit in limits:
                dx = dx * (x < limit)
            return dx * (x > self.minimum) if self.minimum else dx

        return pointwise(x, value, back, self.in_place)
