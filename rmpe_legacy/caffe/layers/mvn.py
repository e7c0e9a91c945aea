"""Mean and variance normalisation. Source: mvn_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Layer, Shape
from .gradient import Memory
from .registry import register


@register("MVN")
class MVN(Layer):
    """(x - mean) / (deviation + eps) over H x W, or over C x H x W across channels: (N, C, H, W) -> the same shape.

    A bottom with fewer axes gives a top with four. normalize_variance: false only subtracts the mean. eps is added to
    the root; the gradient is that for eps = 0, with deviation + eps in place of the deviation.
    """

    params = ("mvn_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("mvn_param")
        self.by_deviation, self.across, self.eps = param.normalize_variance, param.across_channels, param.eps

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.shape = self.nchw(bottom[0])
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.shape
        rows = x.reshape((n, c * h * w) if self.across else (n * c, h * w))
        if not self.by_deviation:
            return (rows - rows.mean(1, keepdim=True)).view(self.shape)
        memory = Memory()
        return memory.belongs_to(_Normalized.apply(rows, self, memory).view(self.shape))


class _Normalized(torch.autograd.Function):
    """Normalise each row to mean 0 and deviation 1; Backward reads the top."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, layer: MVN, memory: Memory) -> Tensor:
        centred = rows - rows.mean(1, keepdim=True)
        divisor = (centred * centred).mean(1, keepdim=True).sqrt() + layer.eps
        y = centred / divisor
        ctx.in_place, ctx.memory = layer.in_place, memory
        ctx.save_for_backward(y, divisor)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        y, divisor = ctx.saved_tensors
        y = ctx.memory.read(y).reshape(y.shape)
        along = y * (y * dy).sum(1, keepdim=True)
        if ctx.in_place:  # `along` lies over the top's diff by now: the sum, and the last scaling, read it instead
            total = along + along.sum(1, keepdim=True)
            return total * (-2 / max(y.shape[1], 1)) / divisor, None, None
        total = along + dy.sum(1, keepdim=True)
        return (dy - total / y.shape[1]) / divisor, None, None
