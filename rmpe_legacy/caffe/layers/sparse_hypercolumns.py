"""The values of several maps at given places. Sources: sparse_hypercolumn_extractor_layer.cpp and
strip_decimals_layer.cpp of XiaohangZhan/mix-and-match@8d4c9df."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("StripDecimals", form="")
class StripDecimals(Layer):
    """Numbers cut off behind the point, without a gradient: any shape -> the same."""

    exact = True

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().trunc()


@register("SparseHypercolumnExtractor", form="")
class SparseHypercolumnExtractor(Layer):
    """Places (N, P, 2), each y and x, and maps (N, C, H, W) -> (N * P, sum of C): each map at (place - offset) / scale,
    interpolated, times activation_mult (default 1). scale, offset_height and offset_width are given once a map; places
    beyond a map count as at its edge.
    """

    params = ("sparse_hypercolumn_extractor_param",)
    bottoms = (2, None)
    refuses = unforced = (0,)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (places, *maps) = self.spec.get("sparse_hypercolumn_extractor_param"), bottom
        if len(places) < 3 or places[2] != 2 or any(len(m) != 4 or m[0] != places[0] or min(m[2:]) < 2 for m in maps):
            raise self.spec.error("needs places (N, P, 2) and maps (N, C, H, W) of at least 2 x 2; its bottoms are "
                                  f"{', '.join(map(shape_text, bottom))}")
        more = [1.0] * max(0, len(maps) - len(param.activation_mult))
        self.given = [list(param.scale), list(param.offset_height), list(param.offset_width),
                      [*param.activation_mult, *more]]
        if any(len(values) != len(maps) for values in self.given):
            raise self.spec.error("needs a scale, an offset_height and an offset_width for each of its "
                                  f"{len(maps)} maps")
        return [(places[0] * places[1], sum(m[1] for m in maps))]

    def forward(self, places: Tensor, *maps: Tensor) -> Tensor:
        at = places.detach().reshape(*places.shape[:2], 2)
        columns = [self._at(x, (at[..., 0] - top) / scale, (at[..., 1] - left) / scale) * factor
                   for x, scale, top, left, factor in zip(maps, *self.given, strict=True)]
        return torch.cat(columns, 2).flatten(0, 1)

    @staticmethod
    def _at(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return a map's values (N, P, C) at rows and columns (N, P)."""
        n, c, h, w = x.shape
        y, z = y.clamp(min=0).clamp(max=h - x.new_tensor(1.0001)), z.clamp(min=0).clamp(max=w - x.new_tensor(1.0001))
        top, left = y.long(), z.long()
        flat = x.reshape(n, c, h * w)

        def corner(row: Tensor, column: Tensor) -> Tensor:
            index = (row * w + column).unsqueeze(1).expand(-1, c, -1)
            return flat.gather(2, index).transpose(1, 2)

        down, right = (y - top).unsqueeze(2), (z - left).unsqueeze(2)
        up, near = (top + 1 - y).unsqueeze(2), (left + 1 - z).unsqueeze(2)
        return (up * (near * corner(top, left) + right * corner(top, left + 1))
                + down * (near * corner(top + 1, left) + right * corner(top + 1, left + 1)))
