"""Rectifiers that forks have beside ReLU. Sources: deconvrelu_layer.cpp of zhongyy/interpretable-face@311cff0 and
brelu_layer.cpp of yanhuama/mycaffe@4e73803."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
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
