"""Sums over words and products of matrices, as Ask, Attend and Answer has them.

Sources: {word_sum,matrix_prod}_layer.cpp of VisionLearningGroup/Ask_Attend_and_Answer@45b1d36.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("WordSum", form="")
class WordSum(Layer):
    """Weighted sums along axis 1: (N, M, D) -> (N, num_output, D). Blobs: (num_output, M), and with bias_term a bias
    for each of the num_output * D sums."""

    params = ("word_sum_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("word_sum_param")
        if len(bottom[0]) != 3 or param.num_output < 1:
            raise self.spec.error(f"needs num_output above 0 and a bottom (N, M, D), not {shape_text(bottom[0])}")
        self.size = bottom[0][1:]
        self.declare("weight", (param.num_output, self.size[0]), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (param.num_output * self.size[1],), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 3 or bottom[0][1:] != self.size:
            raise self.spec.error(f"was set up for {shape_text(self.size)} values of each row; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [(bottom[0][0], self.declared[0].shape[0], self.size[1])]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        sums = weight @ x
        return sums + bias[0].view(sums.shape[1:]) if bias else sums


@register("MatrixProd", form="")
class MatrixProd(Layer):
    """Products of matrices: (L, K, M) times (L, M, N) -> (L, K, N). A first bottom (1, L, M) has one row for each of
    the L matrices, and gives (1, L, N)."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        left, right = bottom
        fits = len(left) == len(right) == 3 and left[2] == right[1]
        if not fits or right[0] != (left[1] if left[0] == 1 else left[0]):
            raise self.spec.error("needs bottoms (L, K, M) or (1, L, M), and (L, M, N); they are "
                                  f"{shape_text(left)} and {shape_text(right)}")
        return [(*left[:2], right[2])]

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if len(left) == 1:
            return (left.transpose(0, 1) @ right).transpose(0, 1)
        return left @ right
