"""The sum of absolute differences. Sources: l1_loss_layer.cpp of NVIDIA/caffe@87a2554 and abs_loss_layer.cpp of
panzhenfu/caffe_Unsupervised_Depth_Estimation@9b0837c."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .loss import given
from .registry import register


@register("AbsLoss", form="")
@register("L1Loss", form="nvidia")
class L1Loss(Layer):
    """Sum of |a - b| over N: (N, ...) and its like -> a scalar. Gradients go to both."""

    bottoms = 2
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not all(bottom) or bottom[0][0] != bottom[1][0] or count(bottom[0]) != count(bottom[1]):
            raise self.spec.error("needs two bottoms of the same size, not " + " and ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        d = a.detach() - b.detach().reshape(a.shape)
        slope, shape = d.sign() / len(a), b.shape
        return given(d.abs().sum() / len(a), lambda: (slope, -slope.view(shape)), a, b)
