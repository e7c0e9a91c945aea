"""The loss of segmentation by overlap. Source: dice_coef_loss_layer.cpp of BVLC/caffe@27ab044, the head of a pull
request."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import JUDGES, Layer, Shape, count, rows, shape_text
from .loss import given
from .registry import register

SMOOTH = 1


@register("DiceCoefLoss", form="")
class DiceCoefLoss(Layer):
    """1 less the mean of 2 a.b + 1 over a.a + b.b + 1 of each row: two bottoms (N, ...) -> a scalar.

    As published, the gradient is that of the rows' sum, not of their mean.
    """

    bottoms = 2
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        a, b = bottom
        if not a or not b or (a[0], count(a[1:])) != (b[0], count(b[1:])):
            raise self.spec.error("its bottoms must have the same number of rows and of values per row; they are "
                                  f"{shape_text(a)} and {shape_text(b)}")
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        shapes = a.shape, b.shape
        x, y = rows(a.detach()), rows(b.detach())
        total = (x * x).sum(1) + (y * y).sum(1) + SMOOTH
        share = (2 * (x * y).sum(1) + SMOOTH) / total

        def gradients() -> tuple[Tensor, Tensor]:
            part, mean = (2 / total).unsqueeze(1), share.unsqueeze(1)
            return (part * (mean * x - y)).view(shapes[0]), (part * (mean * y - x)).view(shapes[1])

        return given(1 - share.abs().mean(), gradients, a, b)
