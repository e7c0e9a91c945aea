"""Mask R-CNN's ROIAlign for Caffe. Sources: roi_align_layer.{cpp,cu} of jasjeetIM/Mask-RCNN@1b07c4c, and its copy in
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.spec import LayerSpec

from .base import FLT_MAX, Shape
from .registry import Choice, chooses, register
from .roi import RoiLayer, whole

POINTS = 4  # of the map that a bin looks at
SAMPLES = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))  # x, y on a region from -1 to 1


class _Sampled(torch.autograd.Function):
    """The largest of a bin's samples; its diff goes to the points of this sample that lie in the region.

    x: the features. index (R, PH, PW, 4): points of a plane, as indices; learns: which of them get a diff; weight
    (R, PH, PW, 4, samples): of each point in each sample, 0 where there is none; least (R, PH, PW).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, image: Tensor, index: Tensor, learns: Tensor, weight: Tensor, least: Tensor
                ) -> Tensor:
        channels, plane = x.shape[1], x.shape[2] * x.shape[3]
        first = (image[:, None] * channels + torch.arange(channels, device=x.device)) * plane
        at = first[:, :, None, None, None] + index[:, None]
        beyond = x.new_zeros(int(at.max()) + 1 - x.numel()) if at.numel() and at.max() >= x.numel() else x.new_zeros(0)
        values = torch.cat([x.flatten(), beyond])[at]
        best = least[:, None].expand(values.shape[:-1]).clone()
        chosen = torch.zeros_like(values)
        for sample in range(weight.shape[-1]):
            each = weight[:, None, ..., sample]
            total = torch.zeros_like(best)
            for point in range(POINTS):
                total = total + values[..., point] * each[..., point]
            larger = total > best
            best = torch.where(larger, total, best)
            chosen = torch.where(larger[..., None], each, chosen)
        ctx.save_for_backward(at, chosen * learns[:, None])
        ctx.shape = x.shape
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        at, weight = ctx.saved_tensors
        dx = dy.new_zeros(ctx.shape).flatten()
        counts = weight != 0
        dx.index_add_(0, at[counts], (dy[..., None] * weight)[counts])
        return dx.view(ctx.shape), None, None, None, None, None


@register("ROIAlign", form="mask-rcnn")
class SampledRoiAlign(RoiLayer):
    """The largest of four samples of each bin: (N, C, H, W), regions (R, 5) -> (R, C, pooled_h, pooled_w).

    A bin looks at its first four points of the map, row by row, up to one row and column beyond the map, where the
    published code reads what follows in memory, as this does; behind the last value it is 0. A sample weighs them by
    how near they lie to one of four points of the whole region, not of the bin, as published. Only points inside the
    region get a diff.
    Differs: on an axis on which a region has no extent, a point lies in its middle, as in synopsys' copy; the published
    code divides by 0.
    """

    params = ("roi_align_param",)
    unforced = (1,)
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("roi_align_param")
        self.scale, self.pooled = param.spatial_scale, (param.pooled_h, param.pooled_w)
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_h and pooled_w above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, corners = self.regions(x, rois)
        w0, h0, w1, h1 = (corners * self.scale).unbind(1)
        (row, rows), (column, columns) = (self.points(*each) for each in (
            (h0, h1, self.pooled[0], x.shape[2]), (w0, w1, self.pooled[1], x.shape[3])))
        many = columns[2][:, None, :, None].clamp(min=1)  # points in a row of a bin
        k = torch.arange(POINTS, device=x.device)
        h, w = row[:, :, None, None] + k.div(many, rounding_mode="floor"), column[:, None, :, None] + k % many
        there = (k < rows[2][:, :, None, None] * columns[2][:, None, :, None]).to(x)
        y, across = self.on_region(h, h0, h1), self.on_region(w, w0, w1)
        weight = torch.stack([(1 - (sx - across).abs()).clamp(min=0) * (1 - (sy - y).abs()).clamp(min=0) * there
                              for sx, sy in SAMPLES], -1)
        index = torch.where(there > 0, h * x.shape[3] + w, 0)
        inside = index < x.shape[2] * x.shape[3]
        for place, low, high in ((index.div(x.shape[3], rounding_mode="floor"), h0, h1), (index % x.shape[3], w0, w1)):
            inside &= (place >= low.ceil().view(-1, 1, 1, 1)) & (place <= high.floor().view(-1, 1, 1, 1))
        empty = ~((rows[1] > rows[0])[:, :, None] & (columns[1] > columns[0])[:, None, :])
        least = torch.where(empty, 0.0, -FLT_MAX).to(x)
        image = torch.tensor(images, dtype=torch.int64, device=x.device)
        return _Sampled.apply(x, image, index, inside.to(x), weight, least)

    def points(self, low: Tensor, high: Tensor, bins: int, size: int
               ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Of each region's bins along an axis, (R, bins): the first point, where they begin and end, and how many
        points they have."""
        step = ((high - low + 1).clamp(min=1) / bins)[:, None]
        k = torch.arange(bins, dtype=low.dtype, device=low.device)
        begin, end = ((n * step + low[:, None]).clamp(0, size) for n in (k, k + 1))
        first = whole(begin.ceil())
        return first, (begin, end, (whole(end.floor()) - first + 1).clamp(min=0))

    def on_region(self, place: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Where points lie on their regions, from -1 to 1."""
        low, extent = low.view(-1, 1, 1, 1), (high - low).view(-1, 1, 1, 1)
        at = 2 * (place.to(low) - low) / torch.where(extent == 0, 1, extent) - 1
        return torch.where(extent == 0, 0, at).clamp(-1, 1)


@chooses("ROIAlign")
def _choose(spec: LayerSpec) -> Choice:
    """roi_align_param is that of forks of Mask R-CNN."""
    return Choice("mask-rcnn") if spec.has("roi_align_param") else Choice("", ("mask-rcnn",))
