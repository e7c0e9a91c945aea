"""Scale and shift, for nets without batch statistics. Source: eltwise_affine_layer.{cpp,cu} of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy import ops

from .base import Layer, Shape, shape_text
from .registry import register


@register("EltwiseAffine", dialects=("rmpe",))
class EltwiseAffine(Layer):
    """x * slope + bias: (N, C) or (N, C, H, W) -> the same; one slope and bias a channel, or channel_shared.

    They begin at 1.0001 and 0.0001. In two roundings, as the CPU code has it; a GPU build fuses them, which changes
    the last bit. A shared bias gets its gradient from channel 0 alone (eltwise_affine_layer.cpp:132).
    Differs: that code also writes the other channels' past the blob; the GPU's bias gradient, whose matrix product has
    its sides exchanged (eltwise_affine_layer.cu:83), reads and writes outside too. Neither is copied.
    Differs: parameter gradients add up over backward passes as in every layer; the CPU code overwrites them.
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
            raise self.spec.error(f"was set up for {self.channels} channels, its bottom is {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        slope, bias = self.blobs()
        if self.shared:
            bias = torch.cat([bias.reshape(1), bias.detach().expand(max(x.shape[1] - 1, 0))])[: x.shape[1]]
        return ops.eltwise_affine(x, slope, bias)
