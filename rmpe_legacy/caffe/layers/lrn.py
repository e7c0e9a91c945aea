"""Local response normalisation. Source: lrn_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .gradient import Memory
from .registry import register


@register("LRN")
class LRN(Layer):
    """x / (k + alpha / n * sum of x^2) ^ beta: (N, C, H, W) -> the same shape.

    The sum runs over local_size channels (n = local_size), or over local_size x local_size pixels of one channel
    (n = local_size^2), in which case k is ignored and 1 is used. Values outside count as 0.
    """

    params = ("lrn_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("lrn_param")
        self.size, self.alpha, self.beta, self.k = param.local_size, param.alpha, param.beta, param.k
        self.across = param.norm_region == "ACROSS_CHANNELS"
        if self.size % 2 == 0:
            raise self.spec.error(f"local_size {self.size} is even; Caffe takes odd sizes only")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():  # torch cannot pool an empty blob
            return x.view_as(x)
        memory = Memory()
        function = _Across if self.across else _Within
        return memory.belongs_to(function.apply(x, self, memory))


def _over_channels(x: Tensor, size: int) -> Tensor:
    """Sum over `size` neighbouring channels; zeros outside."""
    reach = min(size // 2, x.shape[1])  # only zeros lie beyond
    planes = x.reshape(len(x), 1, x.shape[1], x.shape[2] * x.shape[3])
    return F.avg_pool2d(planes, (2 * reach + 1, 1), 1, (reach, 0), divisor_override=1).view(x.shape)


def _over_pixels(x: Tensor, size: int) -> Tensor:
    """Sum over size x size neighbouring pixels; zeros outside."""
    reach = [min(size // 2, extent) for extent in x.shape[2:]]
    return F.avg_pool2d(x, [2 * r + 1 for r in reach], 1, reach, divisor_override=1)


class _Across(torch.autograd.Function):
    """ACROSS_CHANNELS. Its Backward reads the top; in place, Forward reads back values it has just written."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LRN, memory: Memory) -> Tensor:
        scale = layer.k + layer.alpha / layer.size * _over_channels(x * x, layer.size)
        y = scale**-layer.beta
        y = y * (y if layer.in_place else x)
        ctx.layer, ctx.memory = layer, memory
        ctx.save_for_backward(x, scale, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        layer = ctx.layer
        x, scale, y = ctx.saved_tensors
        y = ctx.memory.read(y)
        factor = scale**-layer.beta
        if layer.in_place:  # Caffe overwrites the top's diff with the factor before multiplying the two
            x, dy = y, factor * factor
            direct = dy
        else:
            direct = dy * factor
        through = _over_channels(dy * y / scale, layer.size)
        return direct - 2 * layer.alpha * layer.beta / layer.size * x * through, None, None


class _Within(torch.autograd.Function):
    """WITHIN_CHANNEL. Its Backward reads the bottom, which in place is the top."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: LRN, memory: Memory) -> Tensor:
        base = layer.alpha / layer.size**2 * _over_pixels(x * x, layer.size) + 1
        y = x * base**-layer.beta
        ctx.layer, ctx.memory = layer, memory
        ctx.save_for_backward(y if layer.in_place else x, base)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        layer = ctx.layer
        x, base = ctx.saved_tensors
        if layer.in_place:
            x = ctx.memory.read(x)
        factor = base**-layer.beta
        through = _over_pixels(dy * x * factor / base, layer.size)
        return dy * factor - 2 * layer.alpha * layer.beta / layer.size**2 * x * through, None, None
