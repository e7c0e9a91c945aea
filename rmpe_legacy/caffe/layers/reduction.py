"""Sums over the last axes. Source: reduction_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .base import Layer, Shape, count
from .registry import register


@register("Reduction")
class Reduction(Layer):
    """Sum, sum of absolute values, sum of squares or mean over the axes from `axis` on, times coeff."""

    params = ("reduction_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("reduction_param")
        at = self.axis(param.axis, len(bottom[0]))
        self.operation, self.shape, self.coeff = param.operation, bottom[0][:at], param.coeff
        self.summed = count(bottom[0][at:])
        if self.operation == "MEAN":
            with np.errstate(divide="ignore", invalid="ignore"):
                self.coeff = float(np.float32(param.coeff) / np.float32(self.summed))
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(count(self.shape), self.summed)
        if self.operation == "ASUM":
            rows = rows.abs()
        elif self.operation == "SUMSQ":
            rows = rows * rows
        y = rows.sum(1).view(self.shape)
        return y if self.coeff == 1 else y * self.coeff
