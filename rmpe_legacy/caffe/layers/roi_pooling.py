"""Max pooling inside boxes.

Sources: roi_pooling_layer.{cpp,cu} of rbgirshick/caffe-fast-rcnn@4115385, zhaoweicai/mscnn@534bcac,
zhaoweicai/cascade-rcnn@2252f46, intel/caffe@44d5363 and VisionLearningGroup/R-C3D@78da577.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .roi import RoiLayer, edges, half_away, padded

LAST = 6  # the last row and column of a map that R-C3D pools, whatever the map's size


class _Gather(torch.autograd.Function):
    """Values at places of the features, in Backward a diff for those places that `counts` marks."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: Tensor, place: Tensor, counts: Tensor) -> Tensor:
        ctx.save_for_backward(place, counts)
        ctx.shape = x.shape
        return top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        place, counts = ctx.saved_tensors
        dx = dy.new_zeros(count(ctx.shape))
        dx.index_add_(0, place[counts], dy[counts])
        return dx.view(ctx.shape), None, None, None


@register("ROIPooling", form="rcnn")
class ROIPooling(RoiLayer):
    """The largest value in each bin of each region: (N, C, H, W), (R, 5) -> (R, C, pooled_h, pooled_w).

    Corners are rounded after spatial_scale; bins that lie off the map are 0; of equal values the first counts. Its
    Backward passes over places outside the rounded region, which only a region that ends before it begins has.
    """

    params = ("roi_pooling_param",)
    is_discontinuous = True
    dims = 2

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.scale = param.spatial_scale
        self.pad_ratio = param.pad_ratio if param.has("pad_ratio") else 0.0
        self.pooled = self.pooled_size(param)
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_h and pooled_w, both above 0")

    def pooled_size(self, param: Any) -> tuple[int, ...]:
        return param.pooled_h, param.pooled_w

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1], 2 * self.dims + 1)
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def corners(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the last place (R, axes) of each region on the map, axes as the map has them."""
        rounded = half_away(padded(boxes, self.pad_ratio) * self.scale)
        return rounded[:, [1, 0]], rounded[:, [3, 2]]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        first, last = self.corners(boxes)
        size = x.shape[2:]
        channels, plane = x.shape[1], count(size)
        number = torch.arange(plane, device=x.device).view(size)
        top = x.new_zeros(len(images), channels, count(self.pooled))
        place = torch.full(top.shape, -1, dtype=torch.int64, device=x.device)
        offset = torch.arange(channels, device=x.device) * plane
        for r, bins in enumerate(edges(first, last, self.pooled, size)):
            features = self.seen(x.detach()[images[r]], boxes[r])
            for k, spans in enumerate(product(*bins)):
                if all(begin < end for begin, end in spans):
                    window: Any = tuple(slice(begin, end) for begin, end in spans)
                    value, at = features[(slice(None), *window)].reshape(channels, -1).max(1)
                    top[r, :, k] = value
                    place[r, :, k] = number[window].reshape(-1)[at] + offset + images[r] * channels * plane
        counts = (place >= 0) & self.passes(place % plane, first, last, size)
        return _Gather.apply(x, top, place, counts).view(len(images), channels, *self.pooled)

    def seen(self, features: Tensor, region: Tensor) -> Tensor:
        """Those of an image's features (C, ...) that count for a region, given without the image's number."""
        return features

    def passes(self, place: Tensor, first: Tensor, last: Tensor, size: Sequence[int]) -> Tensor:
        """Return which places (R, C, bins) on a plane receive a gradient: a mask of the same shape."""
        row, column = place // size[1], place % size[1]
        h, w, to_h, to_w = (c.view(-1, 1, 1) for c in (*first.unbind(1), *last.unbind(1)))
        return (row >= h) & (row <= to_h) & (column >= w) & (column <= to_w)


@register("ROIPooling", form="cascade")
class CascadeROIPooling(ROIPooling):
    """The same, in boxes that pad_ratio has moved out; every place that was pooled gets its gradient."""

    def passes(self, place: Tensor, first: Tensor, last: Tensor, size: Sequence[int]) -> Tensor:
        return torch.ones_like(place, dtype=torch.bool)


@register("ROIPooling", form="mscnn")
class MscnnROIPooling(ROIPooling):
    """The same, in boxes that pad_ratio has moved out. As published, Backward cuts a region at the image's edges
    before it looks for the bins that a place may belong to, and so loses some of the gradient."""

    def passes(self, place: Tensor, first: Tensor, last: Tensor, size: Sequence[int]) -> Tensor:
        inside = torch.ones_like(place, dtype=torch.bool)
        for axis, at in enumerate((place // size[1], place % size[1])):
            begin = first[:, axis].clamp(min=0).view(-1, 1, 1)
            image = half_away(first.new_tensor(size[axis] / self.scale))
            end = torch.minimum(last[:, axis], image - 1).view(-1, 1, 1)
            bins = self.pooled[axis]
            step = (end - begin + 1).clamp(min=1) / bins
            k = torch.arange(count(self.pooled), device=place.device)
            k = k // self.pooled[1] if axis == 0 else k % self.pooled[1]
            low = ((at - begin) / step).floor().clamp(0, bins)
            high = ((at - begin + 1) / step).ceil().clamp(0, bins)
            inside &= (at >= begin) & (at <= end) & (k >= low) & (k < high)
        return inside


@register("ROIPooling", form="intel")
class IntelROIPooling(CascadeROIPooling):
    """The same, also over volumes: pooled_size gives 1 to 3 values; 5-axis features take regions
    (image, depth1, x1, y1, depth2, x2, y2)."""

    def setup(self, *bottom: Shape) -> None:
        self.dims = len(bottom[0]) - 2
        if self.dims not in (2, 3):
            raise self.spec.error(f"needs features with 4 or 5 axes; its first bottom is {shape_text(bottom[0])}")
        super().setup(*bottom)

    def pooled_size(self, param: Any) -> tuple[int, ...]:
        given = list(param.pooled_size)
        if not given:
            return param.pooled_h, param.pooled_w
        if len(given) not in (1, self.dims):
            raise self.spec.error(f"pooled_size is given {len(given)} times for {self.dims} axes; give it once, or "
                                  "once per axis")
        return tuple(given) * self.dims if len(given) == 1 else tuple(given)

    def corners(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if self.dims == 2:
            return super().corners(boxes)
        rounded = half_away(boxes * self.scale)
        return rounded[:, [0, 2, 1]], rounded[:, [3, 5, 4]]


@register("ROIPooling", form="r-c3d")
class TemporalROIPooling(ROIPooling):
    """The same of spans of time: (N, C, L, H, W) and (R, 3) of video, begin and end ->
    (R, C, pooled_l, pooled_h, pooled_w). Begin and end are rounded after temporal_scale; rows and columns are pooled as
    if there were 7 of each."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("roi_pooling_param")
        self.scale, self.pooled = param.temporal_scale, (param.pooled_l, param.pooled_h, param.pooled_w)
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_l, pooled_h and pooled_w, all above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 5 or len(bottom[1]) < 2 or count(bottom[1][1:]) != 3:
            raise self.spec.error("needs features (N, C, L, H, W) and regions (R, 3); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def corners(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        first, last = half_away(boxes * self.scale).unbind(1)
        ends = torch.full_like(first, LAST)
        return (torch.stack([first, *[torch.zeros_like(first)] * 2], 1), torch.stack([last, ends, ends], 1))

    def plane_bins(self, plane: Sequence[int]) -> list[list[tuple[int, int]]]:
        """Where each bin of rows and of columns begins and ends on a plane."""
        first = torch.zeros(1, 2)
        return edges(first, first + LAST, self.pooled[1:], plane)[0]

    def passes(self, place: Tensor, first: Tensor, last: Tensor, size: Sequence[int]) -> Tensor:
        moment, begin, end = place // (size[1] * size[2]), first[:, 0].view(-1, 1, 1), last[:, 0].view(-1, 1, 1)
        return (moment >= begin) & (moment <= end)


@chooses("ROIPooling")
def _choose(spec: LayerSpec) -> Choice:
    """They differ in their fields; without these, in Backward alone."""
    param = spec.get("roi_pooling_param")
    if param.has("pooled_size"):
        return Choice("intel")
    if param.has("pooled_l"):
        return Choice("r-c3d")
    if param.has("pad_ratio"):
        return Choice("cascade", others=("mscnn",))
    return Choice("rcnn", others=("cascade", "mscnn", "intel"))
