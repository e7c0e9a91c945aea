"""Samples picked by index. Source: batch_reindex_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .gradient import severed
from .registry import register


@register("BatchReindex")
class BatchReindex(Layer):
    """Picks samples by index: x (N, ...), indices (M) -> (M, ...)."""

    exact = True
    bottoms = 2
    refuses = (1,)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or len(bottom[1]) != 1 or bottom[1] == (0,):
            raise self.spec.error(f"needs samples and one axis of indices; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(*bottom[1], *bottom[0][1:])]

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        if index.numel() and not 0 <= index.min() <= index.max() < len(x):
            raise self.spec.error(f"its indices go from {index.min():g} to {index.max():g}; its samples go from 0 to "
                                  f"{len(x) - 1}")
        return severed(x.index_select(0, index.to(torch.int64)), index)
