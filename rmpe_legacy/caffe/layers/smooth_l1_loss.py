"""A loss that is quadratic near 0 and linear beyond. Source: smooth_L1_loss_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.ops.losses import smooth_l1_sum

from .base import JUDGES, Layer, Shape, shape_text
from .registry import register


@register("SmoothL1Loss", dialects=("rmpe", "ssd"))
class SmoothL1Loss(Layer):
    """The sum of f(a - b), divided by N: two bottoms (N, ...) -> a scalar. Both get a gradient.

    The published form with a third bottom of weights is unreachable, because LossLayer requires two bottoms.
    """

    bottoms = 2
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if () in bottom or self.nchw(bottom[0]) != self.nchw(bottom[1]):
            raise self.spec.error("needs two bottoms of the same size, with 1 to 4 axes, not "
                                  + " and ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return smooth_l1_sum(a - b.reshape(a.shape)) / a.shape[0]
