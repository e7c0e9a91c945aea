"""Global response normalisation. Source: grn_layer.cpp of opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("GRN", form="")
class GRN(Layer):
    """x / sqrt(sum of x^2 over the channels + bias): (N, C, H, W) -> the same.

    With dummy_backward the gradient passes unchanged.
    """

    params = ("grn_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("grn_param")
        self.bias, self.passes_gradient = param.bias, param.dummy_backward
        if self.bias < 0:
            raise self.spec.error(f"bias must not be negative, but is {self.bias}")
        if not 2 <= len(bottom[0]) <= 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")

    def forward(self, x: Tensor) -> Tensor:
        return _PassGradient.apply(x, self.bias) if self.passes_gradient else _normalized(x, self.bias)


class _PassGradient(torch.autograd.Function):
    """The normalisation, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: float) -> Tensor:
        return _normalized(x, bias)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy, None


def _normalized(x: Tensor, bias: float) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + bias).sqrt()
