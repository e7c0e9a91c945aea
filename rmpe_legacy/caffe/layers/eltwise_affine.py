"""Per-channel scale and shift. Source: eltwise_affine_layer.{cpp,cu} of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy import ops

from .base import Layer, Shape, shape_text
from .registry import register


@register("EltwiseAffine", dialects=("rmpe",))
class EltwiseAffine(Layer):
    """x * slope + bias: (N, C) or (N, C, H, W) -> the same shape; slope and bias per channel, or channel_shared.

    They are initialised to 1.0001 and 0.0001. Product and sum are rounded separately, as in the CPU code; a GPU build
    fuses them, which changes the last bit. A shared bias gets its gradient from channel 0 only
    (eltwise_affine_layer.cpp:132).
    Differs: that code also writes the other channels' gradients past the end of the blob; the GPU code's bias gradient
    swaps the operands of a matrix product (eltwise_affine_layer.cu:83) and is out of bounds too. Neither is copied.
    Differs: parameter gradients accumulate over backward passes as in every layer; the CPU code overwrites them.
    """

    params = ("eltwise_affine_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("eltwise_affine_param")
        self._check(bottom[0])
        self.channels, self.shared = bottom[0][1], param.channel_shared
        shape = () if self.shared else (self.channels,)
        self.declare("slope", shape, param.slope_filler if param.has("slope_filler") else 1.0001)
        self.declare("bias", shape, param.bias_filler if param.has("bias_filler") else 0.0001)

    def _check(self, bottom: Shape) -> None:
        if len(bottom) not in (2, 4):  # Blob::channels() takes at most 4 axes, Blob::shape(3) at least
            raise self.spec.error(f"needs a bottom (N, C) or (N, C, H, W), not {shape_text(bottom)}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self._check(bottom[0])
        if bottom[0][1] != self.channels and not self.shared:
            raise self.spec.error(f"was set up for {self.channels} channels; its bottom is {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        slope, bias = self.blobs()
        if self.shared:
            bias = torch.cat([bias.reshape(1), bias.detach().expand(max(x.shape[1] - 1, 0))])[: x.shape[1]]
        return ops.eltwise_affine(x, slope, bias)
