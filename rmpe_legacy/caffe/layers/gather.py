"""Blobs of all processes as one. Source: gather_layer.cpp of yjxiong/caffe@9831a2b."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("Gather", form="")
class Gather(Layer):
    """Gives its bottoms as they are: here there is one process, and so in the published code without MPI."""

    bottoms = tops = (1, None)
    equal_counts = True
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return list(bottom)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(x.view_as(x) for x in bottoms)
        return tops if len(tops) > 1 else tops[0]
