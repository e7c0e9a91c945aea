"""Regions of some sizes. Source: scale_route_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .gradient import severed
from .registry import register


@register("ScaleRoute", form="")
class ScaleRoute(Layer):
    """The regions (R, 5, 1, 1) with a side (square root of the area) from low_scale to below high_scale, and the
    rows of the other bottoms that belong to them. If there are none, the region nearest to the middle of the two.
    """

    params = ("scale_route_param",)
    bottoms = tops = (1, None)
    equal_counts = True
    works_in_place = False
    not_exportable = "gives as many regions as the values say"

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][1:]) != 5 or any(shape[:1] != bottom[0][:1] for shape in bottom):
            raise self.spec.error("needs regions (R, 5) and bottoms with a row for each, they are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(1, *self.nchw(shape)[1:]) for shape in bottom]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        param = self.spec.get("scale_route_param")
        low = param.low_scale if param.has("low_scale") else 0.0
        high = param.high_scale if param.has("high_scale") else torch.finfo(torch.float32).max
        middle = {(True, True): (low * high) ** 0.5, (True, False): low, (False, True): high}.get(
            (param.has("low_scale"), param.has("high_scale")), 256.0)
        boxes = bottoms[0].detach().reshape(len(bottoms[0]), 5)[:, 1:]
        sides = boxes[:, 2:] - boxes[:, :2]
        scale = torch.where((sides < 0).any(1), 0, (sides + 1).prod(1)).sqrt()
        chosen = ((scale >= low) & (scale < high)).nonzero().flatten()
        if not len(chosen) and len(scale):
            chosen = (scale / middle).log2().abs().argmin().view(1)
        rows = (bottom.detach().reshape(self.nchw(tuple(bottom.shape))).index_select(0, chosen) for bottom in bottoms)
        return tuple(severed(row, *bottoms) for row in rows)
