"""Features and masks of regions. Sources: {mask_pooling,mask_resize,roi_warping}_layer.cu of
daijifeng001/caffe-mnc@b7bdfee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register
from .roi import RoiLayer, half_away


@register("MaskPooling", form="")
class MaskPooling(Layer):
    """Features (N, C, H, W) times masks (N, 1, H, W)."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        features, mask = map(self.nchw, bottom)
        if mask != (features[0], 1, *features[2:]):
            raise self.spec.error("needs features (N, C, H, W) and masks (N, 1, H, W); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [features]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        return x.view(n, c, h, w) * mask.view(n, 1, h, w)


def weights(place: Tensor, size: int) -> Tensor:
    """The share of each of `size` pixels in what is interpolated at places (...): (..., size).

    Up to half a pixel beyond the first or last pixel, that pixel; further outside, and of nan, nothing.
    """
    pixel = torch.arange(size, dtype=place.dtype, device=place.device)
    share = (1 - (place.clamp(0, size - 1).unsqueeze(-1) - pixel).abs()).clamp(min=0)
    return torch.where(((place >= -0.5) & (place <= size - 0.5)).unsqueeze(-1), share, 0)


@register("MaskResize", form="")
class MaskResize(Layer):
    """Interpolates to output_height x output_width; the first corner stays: (N, C, H, W) -> (N, C, H', W').

    SSTD's factor_height and factor_width, if above 0, give the size as a part of the bottom's
    (mask_resize_layer.cpp of BestSonny/SSTD@174d452).

    Differs: Backward is the gradient. The published one adds up at most four places of the top for each of the bottom.
    """

    params = ("mask_resize_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("mask_resize_param")
        if len(bottom[0]) != 4 or not (param.output_height and param.output_width):
            raise self.spec.error("needs a bottom (N, C, H, W), output_height and output_width; its bottom is "
                                  f"{shape_text(bottom[0])}")
        sides = ((bottom[0][2], self._factor("height"), param.output_height),
                 (bottom[0][3], self._factor("width"), param.output_width))
        if any(size * factor >= 2**31 for size, factor, _ in sides):
            raise self.spec.error(f"its factors are too large for a bottom of {shape_text(bottom[0])}")
        self.out = tuple(int(np.float32(size) * np.float32(factor)) if factor > 0 else given
                         for size, factor, given in sides)
        if min(self.out) < 1:
            raise self.spec.error(f"its top would be {shape_text(self.out)}, for a bottom of {shape_text(bottom[0])}")
        return [(*bottom[0][:2], *self.out)]

    def _factor(self, side: str) -> float:
        param = self.spec.get("mask_resize_param")
        return getattr(param, f"factor_{side}") if param.has(f"factor_{side}") else 0

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.sides(x.shape[2:], x)
        return rows @ x @ columns.t()

    def sides(self, sizes: Sequence[int], like: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """For planes of these sizes, the share of each row and column in each value, (out, size)."""
        like = torch.empty(()) if like is None else like
        rows, columns = (
            weights(torch.arange(out, dtype=like.dtype, device=like.device) * (like.new_tensor(size) / out), size)
            for size, out in zip(sizes, self.out, strict=True))
        return rows, columns


@register("ROIWarping", form="")
class ROIWarping(RoiLayer):
    """Interpolates features (N, C, H, W) on a grid in each region: -> (R, C, pooled_h, pooled_w).

    Corners are rounded after spatial_scale; the grid begins at the first corner, and leaves out the last.

    Differs: Backward is the gradient, of the features alone. The published one leaves out a part of it, and has a
    gradient of the regions.
    """

    params = ("roi_warping_param",)
    is_discontinuous = True
    refuses = unforced = (1,)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("roi_warping_param")
        self.size, self.scale = (param.pooled_h, param.pooled_w), param.spatial_scale
        if not all(self.size):
            raise self.spec.error("needs pooled_h and pooled_w, both above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        return [(bottom[1][0], bottom[0][1], *self.size)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        corners = half_away(boxes * self.scale)
        sides = []
        for first, axis in ((1, 0), (0, 1)):
            begin, bins = corners[:, first], self.size[axis]
            step = (corners[:, first + 2] - begin).clamp(min=0) / bins
            place = begin.unsqueeze(1) + torch.arange(bins, dtype=x.dtype, device=x.device) * step.unsqueeze(1)
            sides.append(weights(place, x.shape[2 + axis]))
        rows, columns = sides
        return torch.einsum("rph,rchw,rqw->rcpq", rows, x[images], columns)
