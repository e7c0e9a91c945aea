"""Soft thresholding. Source: sparsify_layer.cpp of wenwei202/caffe@f54a74a."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from .base import Layer, Shape
from .registry import register


class _Sparsify(torch.autograd.Function):
    """Backward adds coef times the sign of the top, an L1 regularisation of the values."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float, coef: float) -> Tensor:
        y = softshrink(x, threshold) if threshold else x.clone()
        ctx.save_for_backward(y)
        ctx.cuts, ctx.coef = threshold > 0, coef
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        dx = dy + ctx.coef * y.sign()
        return dx * (y != 0) if ctx.cuts else dx, None, None


@register("Sparsify", form="")
class Sparsify(Layer):
    """Moves each value towards 0 by `thre`, and no further."""

    params = ("sparsify_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("sparsify_param")
        self.threshold, self.coef = param.thre, param.coef
        if not 0 <= self.threshold < math.inf or self.coef < 0:
            raise self.spec.error("thre and coef must not be negative, nor thre without end")

    def forward(self, x: Tensor) -> Tensor:
        return _Sparsify.apply(x, self.threshold, self.coef)
