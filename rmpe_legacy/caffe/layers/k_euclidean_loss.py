"""The two losses of supervised semantics-preserving hashing that need no label.

Sources: K{1,2}_euclidean_loss_layer.cpp of kevinlin311tw/Caffe-DeepBinaryCode@9eaa766.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .loss import given
from .registry import register


@register("K1_EuclideanLoss", form="")
class K1EuclideanLoss(Layer):
    """Half the mean square of x - 0.5, negative: the further from 0.5 the better. The second bottom counts by its size
    alone, and gets the first one's gradient."""

    bottoms = 2
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES
    sign = -1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if self.nchw(bottom[0]) != self.nchw(bottom[1]):
            raise self.spec.error(f"needs bottoms of the same size; they are {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        apart = x.detach() - 0.5
        slope = self.sign * apart / x.numel()
        shape = like.shape
        return given(self.sign * apart.square().sum() / (2 * x.numel()), lambda: (slope, slope.view(shape)), x, like)


@register("K2_EuclideanLoss", form="")
class K2EuclideanLoss(K1EuclideanLoss):
    """Half the mean square of x - 0.5; DeepBinaryCode gives it each code's mean."""

    sign = 1
