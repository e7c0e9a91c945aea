"""Keeps the samples that a selector picks. Source: filter_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .base import Layer, Shape, shape_text
from .gradient import severed
from .registry import register


@register("Filter")
class Filter(Layer):
    """Keeps the samples whose entry in the selector, the last bottom, is not 0: one top per other bottom.

    `reshape` returns shapes with all samples, as the published layer does before it has read a selector, unless it is
    asked for another number.
    """

    exact = True
    bottoms = (2, None)
    tops = (1, None)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        if len(self.spec.top) != len(bottom) - 1:
            raise self.spec.error(f"needs one top per bottom except the selector, but is given {len(self.spec.top)} "
                                  f"for {len(bottom)} bottoms")
        self.refuses = (len(bottom) - 1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        *blobs, selector = bottom
        if not selector or any(size != 1 for size in selector[1:]):
            raise self.spec.error(f"needs a selector of one number per sample, not {shape_text(selector)}")
        if any(shape[:1] != selector[:1] for shape in blobs):
            raise self.spec.error(f"its selector has {selector[0]} entries; its bottoms are "
                                  + ", ".join(map(shape_text, blobs)))
        rows = self.spec.assumed_rows
        return blobs if rows is None else [(rows, *shape[1:]) for shape in blobs]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        return rng.integers(0, 2, bottom[-1]).astype(np.float32) if index == len(bottom) - 1 else None

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        *blobs, selector = bottoms
        chosen = selector.detach().flatten().nonzero().flatten()
        # Every top is severed from every bottom, because Caffe's Backward writes all diffs.
        return tuple(severed(blob.index_select(0, chosen), *bottoms) for blob in blobs)
