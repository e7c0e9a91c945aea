"""Parts of a map around facial landmarks. Source: multi_roi_pooling_layer.{cpp,cu} of mysee1989/PG-CNN@f3faafd."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Count, Layer, Shape, shape_text
from .registry import register
from .roi import half_away, whole


@register("MultiROIPooling", form="")
class MultiROIPooling(Layer):
    """A map (N, C, H, W) and top_num points (N, top_num, 2), columns first -> for each point what lies around it,
    (N, C, pooled_h, pooled_w), 0 outside the map. Points are multiplied by spatial_scale.

    As published, Backward gives each row of the map that a part covers the diff of the part's first row inside the map.
    """

    params = ("multi_roi_pooling_param",)
    bottoms = 2
    tops: Count = (1, None)
    works_in_place = False
    is_discontinuous = True
    caffe_source = "multi_roi_pooling_layer.cu"

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("multi_roi_pooling_param")
        x, points = bottom
        self.pooled = param.pooled_h, param.pooled_w
        if len(x) != 4 or points != (x[0], self.top_count, 2) or param.top_num != self.top_count:
            raise self.spec.error(f"needs a map (N, C, H, W) and top_num points (N, {self.top_count}, 2), one for each "
                                  f"top; top_num is {param.top_num}, its bottoms are {shape_text(x)} and "
                                  f"{shape_text(points)}")
        if not all(0 < size <= have for size, have in zip(self.pooled, x[2:], strict=True)):
            raise self.spec.error("needs pooled_h and pooled_w above 0, and not larger than its bottom, "
                                  f"{shape_text(x)}")
        return [(*x[:2], *self.pooled)] * self.top_count

    def forward(self, x: Tensor, points: Tensor) -> tuple[Tensor, ...]:
        scale = self.spec.get("multi_roi_pooling_param").spatial_scale
        sizes = self.pooled
        wide = F.pad(x, [sizes[1], sizes[1], sizes[0], sizes[0]])
        begin = [whole(half_away(points.detach()[..., 1 - i] * scale - sizes[i] // 2).clamp(-sizes[i], x.shape[2 + i]))
                 for i in (0, 1)]  # (N, points) each: rows, columns
        return tuple(self._part(wide, *(side[:, i] for side in begin)) for i in range(self.top_count))

    def _part(self, wide: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The part of the padded map that begins at these rows and columns of the map, (N) each."""
        (h, w), device = self.pooled, wide.device
        rows = (row.unsqueeze(1) + h + torch.arange(h, device=device)).view(-1, 1, h, 1)
        columns = (column.unsqueeze(1) + w + torch.arange(w, device=device)).view(-1, 1, 1, w)
        image = torch.arange(len(wide), device=device).view(-1, 1, 1, 1)
        part = wide[image, torch.arange(wide.shape[1], device=device).view(1, -1, 1, 1), rows, columns]
        if not part.requires_grad:
            return part
        first = (torch.arange(h, device=device) == (-row).clamp(0, h - 1).unsqueeze(1)).to(part).view(-1, 1, h, 1)
        carrier = first * part.sum(2, keepdim=True)
        return part.detach() + (carrier - carrier.detach())
