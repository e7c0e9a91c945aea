"""Rows of length 1. Source: C3D-v1.1/src/caffe/layers/l2_normalize_layer.cpp of facebookarchive/C3D@71336a2."""

from __future__ import annotations

from torch import Tensor

from .base import Layer, rows
from .registry import register


@register("L2Normalize", form="")
class L2Normalize(Layer):
    """x / sqrt(sum of x^2 + 1e-7), the sum over all axes but the first: any shape -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        norm = (rows(x).square().sum(1) + 1e-7).sqrt()
        return x / norm.view(-1, *[1] * (x.dim() - 1))
