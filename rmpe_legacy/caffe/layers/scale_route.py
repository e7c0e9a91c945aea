"""Regions of some sizes. Source: scale_route_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .gradient import severed
from .registry import register
from .roi import random_regions


@register("ScaleRoute", form="")
class ScaleRoute(Layer):
    """The regions (R, 5, 1, 1) with a side (square root of the area) from low_scale to below high_scale, and the
    rows of the other bottoms that belong to them. If there are none, the region nearest to the middle of the two.
    """

    params = ("scale_route_param",)
    bottoms = tops = (1, None)
    equal_counts = True
    works_in_place = False
    chooses_rows = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][1:]) != 5 or any(shape[:1] != bottom[0][:1] for shape in bottom):
            raise self.spec.error("needs regions (R, 5) and bottoms with a row for each; they are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(self.spec.rows, *self.nchw(shape)[1:]) for shape in bottom]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        return random_regions(bottom[0], 1, 480, 640, rng) if index == 0 else None

    def limits(self) -> tuple[float, float, float]:
        """The least side that counts, the one from which on none does, and the middle of the two."""
        param = self.spec.get("scale_route_param")
        low = param.low_scale if param.has("low_scale") else 0.0
        high = param.high_scale if param.has("high_scale") else torch.finfo(torch.float32).max
        middle = {(True, True): (low * high) ** 0.5, (True, False): low, (False, True): high}.get(
            (param.has("low_scale"), param.has("high_scale")), 256.0)
        return low, high, middle

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        low, high, middle = self.limits()
        boxes = bottoms[0].detach().reshape(len(bottoms[0]), 5)[:, 1:]
        sides = boxes[:, 2:] - boxes[:, :2]
        scale = torch.where((sides < 0).any(1), 0, (sides + 1).prod(1)).sqrt()
        chosen = ((scale >= low) & (scale < high)).nonzero().flatten()
        if not len(chosen) and len(scale):
            chosen = (scale / middle).log2().abs().argmin().view(1)
        rows = (bottom.detach().reshape(self.nchw(tuple(bottom.shape))).index_select(0, chosen) for bottom in bottoms)
        return tuple(severed(row, *bottoms) for row in rows)
