"""Domain adaptation's layers, which change nothing but the gradient. Sources: gradient_scaler_layer.cpp of
ddtm/caffe@25fddca, and gradient_scaler_layer.cpp and gradient_silent_layer.cu of yuhuayc/da-faster-rcnn@3193b65."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape
from .registry import Choice, chooses, register


class _Times(torch.autograd.Function):
    """The same values; a gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy * ctx.factor, None


class _GradientTimes(Layer):
    """Base: passes its bottom on, and its top's gradient times `factor` back."""

    works_in_place = False
    shares_data = True
    exact = True
    factor = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return _Times.apply(x, self.factor)


@register("GradientScaler", form="ganin")
class GradientReversal(_GradientTimes):
    """Reverses the gradient, times a coefficient that grows with the solver's iteration, from lower_bound to
    upper_bound at about max_iter: the steeper, the larger alpha. Without a solver the coefficient is 1."""

    params = ("gradient_scaler_param",)
    caffe_source = "gradient_scaler_layer.cpp"
    factor = -1.0

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("gradient_scaler_param")
        if not (param.lower_bound <= param.upper_bound and param.alpha >= 0 and param.max_iter >= 1):
            raise self.spec.error("needs lower_bound no larger than upper_bound, alpha of 0 or more and max_iter of 1 "
                                  f"or more; they are {param.lower_bound:g}, {param.upper_bound:g}, {param.alpha:g} "
                                  f"and {param.max_iter:g}")

    def begin_iteration(self, iteration: int) -> None:
        one, param = np.float32(1), self.spec.get("gradient_scaler_param")
        low, high, steep, last = map(np.float32, (param.lower_bound, param.upper_bound, param.alpha, param.max_iter))
        progress, height = min(one, np.float32(iteration) / last), high - low
        self.factor = -float(2 * height / (one + np.exp(-steep * progress)) - height + low)


@register("GradientScaler", form="da-faster-rcnn")
class GradientScaler(_GradientTimes):
    """Multiplies the gradient by scale_factor, which is below 0 where it reverses it."""

    params = ("gradient_scaler_param",)
    caffe_source = "gradient_scaler_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.factor = self.spec.get("gradient_scaler_param").scale_factor


@register("GradientSilent", form="")
class GradientSilent(_GradientTimes):
    """Passes the gradient back where the first value of its second bottom is not 0; else, and without one, none.

    Differs: the published code for a CPU passes none at all.
    """

    bottoms = (1, 2)
    unforced = (1,)

    def forward(self, x: Tensor, needed: Tensor | None = None) -> Tensor:
        passes = needed is not None and bool(needed.detach().flatten()[:1].any())
        return _Times.apply(x, float(passes))


@chooses("GradientScaler")
def _choose_scaler(spec: LayerSpec) -> Choice:
    """Which of the two by its field: they have none in common."""
    name = "gradient_scaler_param"
    fixed = spec.has(name) and spec.get(name).has("scale_factor")
    return Choice("da-faster-rcnn" if fixed else "ganin")
