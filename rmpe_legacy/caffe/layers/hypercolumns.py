"""The values of several maps at each pixel. Source: hypercolumns_layer.cpp of JiangQH/caffe@a86cdfe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("HyperColumns", form="")
class HyperColumns(Layer):
    """Values (N, K, H, W), and maps whose sizes H and W are multiples of -> for each place of the values, the maps'
    values there, (N * places, C, 1, 1), C counting the channels of all maps, and the place's values, (N * places, K).

    Maps are interpolated; beyond their outer pixels, those pixels count. With is_train: false, it takes every
    skip_ratio-th place, where that divides the number of places, else the next smaller number that does. With
    is_train: true, sample_num random places whose values are not nan and not all invalid_condition: that has a shape,
    but is not computed here.
    """

    params = ("hypercolumns_param",)
    bottoms = (2, None)
    tops = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (values, *maps) = self.spec.get("hypercolumns_param"), bottom
        if any(len(shape) != 4 for shape in bottom) or any(
                shape[0] != values[0] or not shape[2] or values[2] % shape[2]
                or tuple(size * (values[2] // shape[2]) for size in shape[2:]) != values[2:] for shape in maps):
            raise self.spec.error("needs bottoms (N, C, H, W) whose heights and widths divide those of the first in "
                                  f"equal parts; its bottoms are {', '.join(map(shape_text, bottom))}")
        if param.skip_ratio < 1 or param.invalid_condition not in (0, -1):
            raise self.spec.error("needs a skip_ratio above 0, and an invalid_condition of 0 or -1")
        places = values[2] * values[3]
        self.step = next(step for step in range(min(param.skip_ratio, places), 0, -1) if places % step == 0)
        count = param.sample_num if param.is_train else places // self.step
        return [(values[0] * count, sum(shape[1] for shape in maps), 1, 1), (values[0] * count, values[1])]

    def forward(self, values: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor]:
        if self.spec.get("hypercolumns_param").is_train:
            raise self.spec.error("is_train: true picks random places, which is not computed here; set it to false")
        sizes = values.shape[2:]
        columns = torch.cat([self._places(rows.to(x) @ x @ across.to(x)) for x in maps
                             for rows, across in [self.sides(x.shape[2:], sizes)]], 1)
        return columns.view(*columns.shape, 1, 1), self._places(values)

    def _places(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the values of the places that are taken, (N * places, C)."""
        n, c = x.shape[:2]
        return x.reshape(n, c, -1)[..., :: self.step].transpose(1, 2).reshape(-1, c)

    @staticmethod
    def sides(have: Sequence[int], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The matrices that interpolate a map, (H', H) from the left and (W, W') from the right."""
        factor = sizes[0] // have[0]
        rows, columns = (
            (1 - (((torch.arange(size, dtype=torch.float32) - (factor - 1) / 2) / factor).clamp(0, old - 1)
                  .unsqueeze(1) - torch.arange(old, dtype=torch.float32)).abs()).clamp(min=0)
            for size, old in zip(sizes, have, strict=True))
        return rows, columns.t()
