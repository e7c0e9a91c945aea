"""Consumes blobs, so that they are not outputs. Source: silence_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .registry import register


@register("Silence")
class Silence(Layer):
    """Consumes its bottoms, so that they are not outputs. Their gradient is zero."""

    exact = True
    bottoms = (1, None)
    tops = 0
    not_exportable = "has no tops, so nothing depends on it"

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        return ()
