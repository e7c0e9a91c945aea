"""Maps read at given places. Source: crl-release/src/caffe/layers/remap_layer.cpp of Artifineuro/crl@eab40c4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Remap", form="")
class Remap(Layer):
    """Maps (N, C, H, W) and places (N, 2, h, w), x then y, in pixels of the maps -> (N, C, h, w): the maps' values
    there, interpolated; beyond the edges they are 0."""

    bottoms = 2
    works_in_place = False
    is_discontinuous = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, places = bottom
        if len(x) != 4 or len(places) != 4 or places[1] != 2 or x[0] != places[0] or min(x) < 1:
            raise self.spec.error("needs maps (N, C, H, W) and places (N, 2, h, w); its bottoms are "
                                  f"{shape_text(x)} and {shape_text(places)}")
        return [(*x[:2], *places[2:])]

    def forward(self, maps: Tensor, places: Tensor) -> Tensor:
        n, c, h, w = maps.shape
        x, y = places[:, 0], places[:, 1]
        left, up = (at.detach().floor() for at in (x, y))
        across, down = ((at - first).unsqueeze(1) for at, first in ((x, left), (y, up)))
        flat = maps.reshape(n, c, h * w)

        def value(column: Tensor, row: Tensor) -> Tensor:
            inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            place = torch.where(inside, row * w + column, 0).long().reshape(n, 1, -1).expand(-1, c, -1)
            return torch.where(inside.unsqueeze(1), flat.gather(2, place).reshape(n, c, *x.shape[1:]), 0)

        return ((1 - across) * (1 - down) * value(left, up) + (1 - across) * down * value(left, up + 1)
                + across * (1 - down) * value(left + 1, up) + across * down * value(left + 1, up + 1))
