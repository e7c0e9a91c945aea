"""The square root of the magnitude, with the sign. Source: signed_sqrt_layer.cpp of
gy20073/compact_bilinear_pooling@1b7c58a, caffe-20160312/src/caffe/layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Layer
from .registry import register

EPSILON = 0.03


class _SignedSqrt(torch.autograd.Function):
    """Backward divides by twice the magnitude of the top and 0.03, which is finite at 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.where(x >= 0, x.abs().sqrt(), -x.abs().sqrt())
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return dy / (y.abs() + EPSILON) * 0.5


@register("SignedSqrt", form="")
class SignedSqrt(Layer):
    """sqrt(x), or -sqrt(-x) below 0."""

    works_in_place = False

    def forward(self, x: Tensor) -> Tensor:
        return _SignedSqrt.apply(x)
