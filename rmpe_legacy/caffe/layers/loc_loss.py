"""A loss of values beyond a threshold. Source: loc_loss_layer.cu of daerduoCarey/SpatialTransformerLayer@cf2a461."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


def beyond(x: Tensor, limit: float) -> Tensor:
    """How far values lie outside -limit to limit; 0 inside."""
    return x - x.clamp(-limit, limit)


@register("LocLoss", form="")
class LocLoss(Layer):
    """Half the mean square of how far values lie beyond threshold: any shape -> a scalar.

    Differs: the published Backward leaves what it finds in the diff of values within threshold; here that is 0.
    """

    params = ("loc_loss_param",)
    is_loss = True
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        self.threshold = self.spec.get("loc_loss_param").threshold
        if not self.threshold > 0:
            raise self.spec.error("needs a threshold above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [()]

    def forward(self, x: Tensor) -> Tensor:
        return beyond(x, self.threshold).square().sum() / 2 / x.numel()
