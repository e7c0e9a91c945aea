"""Samples chosen by another bottom: Filter, BatchReindex.

Sources: {filter,batch_reindex}_layer.cpp of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .gradient import severed
from .registry import register


@register("Filter")
class Filter(Layer):
    """The samples whose entry in the last bottom, the selector, is not 0: each other bottom gives a top.

    `reshape` promises tops for all samples, as the published layer does before it has seen a selector.
    """

    bottoms = (2, None)
    tops = (1, None)
    not_exportable = "gives as many rows as the values of its last bottom say"
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        if len(self.spec.top) != len(bottom) - 1:
            raise self.spec.error(f"needs one top per bottom but the selector, is given {len(self.spec.top)} for "
                                  f"{len(bottom)} bottoms")
        self.refuses = (len(bottom) - 1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        *blobs, selector = bottom
        if not selector or any(size != 1 for size in selector[1:]):
            raise self.spec.error(f"needs a selector of one number per sample, it is {shape_text(selector)}")
        if any(shape[:1] != selector[:1] for shape in blobs):
            raise self.spec.error(f"its selector has {selector[0]} entries, its bottoms are "
                                  + ", ".join(map(shape_text, blobs)))
        return blobs

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *blobs, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        return tuple(severed(blob.index_select(0, chosen), *bottoms) for blob in blobs)  # a diff for each, as in Caffe


@register("BatchReindex")
class BatchReindex(Layer):
    """The samples that the second bottom (M) names, in its order and as often: (N, ...) -> (M, ...)."""

    bottoms = 2
    refuses = (1,)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or len(bottom[1]) != 1 or bottom[1] == (0,):
            raise self.spec.error(f"needs samples and one axis of indices, its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(*bottom[1], *bottom[0][1:])]

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        if index.numel() and not 0 <= index.min() <= index.max() < len(x):
            raise self.spec.error(f"its indices go from {index.min():g} to {index.max():g}, its samples are 0 to "
                                  f"{len(x) - 1}")
        return severed(x.index_select(0, index.to(torch.int64)), index)
