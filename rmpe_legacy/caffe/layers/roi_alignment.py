"""One bilinear sample in the middle of each bin. Source: roi_alignment_layer.cu of nqanh/affordance-net@8db1b3f."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape
from .registry import register
from .roi import RoiLayer, whole


@register("ROIAlignment", form="")
class ROIAlignment(RoiLayer):
    """Features (N, C, H, W), regions (R, 5) -> (R, C, pooled_h, pooled_w): bins are cut at the map, and each gives the
    value in its middle, 0 if nothing is left of it.

    As published, places more than one pixel outside their region get no gradient: those of a region that lies wholly
    beyond the map.
    """

    params = ("roi_alignment_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("roi_alignment_param")
        self.pooled, self.scale = (param.pooled_h, param.pooled_w), param.spatial_scale
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_h and pooled_w, both above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        return [(bottom[1][0], bottom[0][1], *self.pooled)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        boxes = boxes * self.scale
        low, high, share, empty, near = [], [], [], [], []
        for axis, (bins, extent) in enumerate(zip(self.pooled, x.shape[2:], strict=True)):
            first, last = boxes[:, 1 - axis, None], boxes[:, 3 - axis, None]  # boxes name x first
            edge = torch.arange(bins + 1, dtype=x.dtype, device=x.device) * ((last - first + 1).clamp(min=1) / bins)
            edge = (edge + first).clamp(0, extent - 1)
            middle = (edge[:, :-1] + edge[:, 1:]) / 2
            low.append(whole(middle.floor()))
            high.append(whole(middle.ceil()).clamp(max=extent - 1))
            share.append(middle - low[-1])
            empty.append(~(edge[:, 1:] >= edge[:, :-1]))
            near.append([(at >= first - 1) & (at <= last + 1) for at in (low[-1], high[-1])])
        image = torch.tensor(images, device=x.device, dtype=torch.int64).view(-1, 1, 1)
        features = x.permute(0, 2, 3, 1)
        out = x.new_zeros(1)
        for i, rows in enumerate((low[0], high[0])):
            for j, columns in enumerate((low[1], high[1])):
                value = features[image, rows.unsqueeze(2), columns.unsqueeze(1)]
                learns = (near[0][i].unsqueeze(2) & near[1][j].unsqueeze(1)).unsqueeze(3)
                value = torch.where(learns, value, value.detach())
                down = share[0] if i else 1 - share[0]
                across = share[1] if j else 1 - share[1]
                out = out + value * down[:, :, None, None] * across[:, None, :, None]
        nothing = (empty[0].unsqueeze(2) | empty[1].unsqueeze(1)).unsqueeze(3)
        return out.masked_fill(nothing, 0).permute(0, 3, 1, 2).contiguous()
