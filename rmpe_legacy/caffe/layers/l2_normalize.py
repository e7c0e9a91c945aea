"""Rows of length 1.

Sources: C3D-v1.1/src/caffe/layers/l2_normalize_layer.cpp of facebookarchive/C3D@71336a2; normalization_l2_layer.cu of
liu-xb/RAM@fb92aab.
"""

from __future__ import annotations

from torch import Tensor

from .base import Layer, count
from .registry import register


class UnitRows(Layer):
    """x / sqrt(sum of x^2 + epsilon), the sum over each of a row's `parts`, which are equally large; a row is what one
    index of the first axis has: any shape -> the same."""

    epsilon = 0.0
    parts = 1

    def forward(self, x: Tensor) -> Tensor:
        parts = x.reshape(len(x), self.parts, count(x.shape[1:]) // self.parts)
        return (parts / (parts.square().sum(2, keepdim=True) + self.epsilon).sqrt()).view(x.shape)


@register("L2Normalize", form="")
class L2Normalize(UnitRows):
    """Rows divided by sqrt(sum of x^2 + 1e-7): any shape -> the same."""

    epsilon = 1e-7


@register("NormalizationL2", form="")
class NormalizationL2(UnitRows):
    """Rows divided by sqrt(sum of x^2 + 1e-10): any shape -> the same."""

    epsilon = 1e-10
