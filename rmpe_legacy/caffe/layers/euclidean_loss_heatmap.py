"""The fork's Euclidean loss on heatmaps. Source: euclidean_loss_heatmap_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, count, shape_text
from .loss import Loss, in_turn
from .registry import register


@register("EuclideanLossHeatmap", dialects=("rmpe",))
class EuclideanLossHeatmap(Loss):
    """The mean squared difference of heatmaps and labels, both (N, C, H, W); the third bottom is only displayed.

    Its gradient is 2 / (C * H * W) times the difference, an integer division that gives 0 for 3 or more values
    (euclidean_loss_heatmap_layer.cpp:248). loss_weight and the top's diff have no effect on it; the labels get no
    gradient. The published GPU code uses a factor of 2.
    """

    params = ("visualise",)
    bottoms = 3
    refuses = unforced = ()

    def setup(self, *bottom: Shape) -> None:
        if self.spec.get("visualise"):
            self.set_aside("visualise: true opens windows, which is not supported; remove it")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        if self.nchw(bottom[0])[1:] != self.nchw(bottom[1])[1:] or not count(bottom[0]):
            raise self.spec.error("its heatmaps and labels differ in shape, or are empty: "
                                  + " and ".join(map(shape_text, bottom[:2])))
        return top

    def forward(self, heatmap: Tensor, label: Tensor, _shown: Tensor) -> Tensor:
        apart = heatmap.detach() - label.detach().reshape(heatmap.shape)
        return _Fixed.apply(in_turn(apart * apart) / apart.numel(), apart, heatmap)


class _Fixed(torch.autograd.Function):
    """A loss whose gradient ignores the top's diff."""

    @staticmethod
    def forward(ctx, loss: Tensor, apart: Tensor, heatmap: Tensor) -> Tensor:
        ctx.save_for_backward(apart)
        return loss

    @staticmethod
    def backward(ctx, _dy: Tensor) -> tuple[None, None, Tensor]:
        apart, = ctx.saved_tensors
        return None, None, apart * (2 // count(apart.shape[1:]))
