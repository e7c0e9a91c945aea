"""Takes blobs so that they are not outputs. Source: silence_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from torch import Tensor

from .base import Layer
from .registry import register


@register("Silence")
class Silence(Layer):
    """Takes bottoms so that they are no outputs. Their gradient is zero."""

    exact = True
    bottoms = (1, None)
    tops = 0

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        return ()
