"""Features at points near each region's, weighed. Source: region_pooling_layer.cu of jialinwu17/box_cls_reg@be48824."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .registry import register


@register("RegionPooling", form="")
class RegionPooling(Layer):
    """A map (1, K * F, H, W), points (M, 2) x before y, offsets (M, R, S, 2) and weights (M, R, S, K) -> (M, R, S, F):
    at each point moved by an offset, the mean over K of the weighed features.

    K is num_rfcn_regions, F num_features, R num_regions, S num_samples. Only the map gets a gradient.
    """

    params = ("region_pooling_param",)
    bottoms = 4
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("region_pooling_param")
        channels, points = param.num_rfcn_regions * param.num_features, bottom[1]
        if len(bottom[0]) != 4 or bottom[0][:2] != (1, channels) or count(points) != 2 * points[0]:
            raise self.spec.error(f"needs a map (1, {channels}, H, W) and points (M, 2); they are "
                                  f"{shape_text(bottom[0])} and {shape_text(points)}")
        return [(points[0], param.num_regions, param.num_samples, param.num_features)]

    def forward(self, x: Tensor, points: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """Differs: a point outside the map raises; the published code reads outside its blobs."""
        param, (h, w) = self.spec.get("region_pooling_param"), x.shape[2:]
        k, grid = param.num_rfcn_regions, (len(points), param.num_regions, param.num_samples)
        if any(blob.numel() != math.prod(grid) * each for blob, each in ((offsets, 2), (weights, k))):
            raise self.spec.error(f"needs offsets ({', '.join(map(str, grid))}, 2) and weights "
                                  f"({', '.join(map(str, grid))}, {k}); they are {shape_text(offsets.shape)} and "
                                  f"{shape_text(weights.shape)}")
        base = points.detach().reshape(-1, 1, 1, 2).trunc()
        place = (offsets.detach().reshape(*grid, 2) + base).trunc().to(torch.int64)
        column, row = place.unbind(-1)
        if place.numel() and not bool(((place >= 0) & (place < place.new_tensor([w, h]))).all()):
            raise self.spec.error(f"has points outside its map of {h} x {w}")
        found = x.reshape(k, -1, h, w)[:, :, row, column]  # K, F, M, R, S
        return torch.einsum("kfmrs,mrsk->mrsf", found, weights.detach().reshape(*grid, k)) / k
