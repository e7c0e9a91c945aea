"""Bilinear samples on a grid over each box. Sources: roi_align_layer.{cpp,cu} of zhaoweicai/mscnn@534bcac and
zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape
from .registry import register
from .roi import RoiLayer, padded, whole


@register("ROIAlign", form="")
class ROIAlign(RoiLayer):
    """The features at (pooled_h + 1) x (pooled_w + 1) points of each region: (N, C, H, W), (R, 5) ->
    (R, C, pooled_h + 1, pooled_w + 1).

    Not Mask R-CNN's layer: each point is one sample. Points off the map, and regions without a size, are 0. Its
    parameters stand in roi_pooling_param.
    """

    params = ("roi_pooling_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("roi_pooling_param")
        self.pooled = param.pooled_h, param.pooled_w
        self.scale, self.pad_ratio = param.spatial_scale, param.pad_ratio
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_h and pooled_w, both above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        return [(bottom[1][0], bottom[0][1], self.pooled[0] + 1, self.pooled[1] + 1)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        corners = padded(boxes, self.pad_ratio) * self.scale - 0.5
        length = corners[:, 2:] - corners[:, :2]
        near, far, share, seen = [], [], [], []
        for axis, (bins, extent) in enumerate(zip(self.pooled, x.shape[2:], strict=True)):
            column = 1 - axis  # boxes name x first
            k = torch.arange(bins + 1, dtype=x.dtype, device=x.device)
            at = corners[:, column : column + 1] + k * (length[:, column : column + 1] / bins)
            low = at.floor()
            seen.append((at >= -0.5) & (at <= extent - 0.5))
            near.append(whole(low.clamp(0, extent - 1)))
            far.append(whole((low + 1).clamp(0, extent - 1)))
            share.append(at.clamp(0, extent - 1) - near[-1])
        image = torch.tensor(images, device=x.device).view(-1, 1, 1)
        features = x.permute(0, 2, 3, 1)

        def value(rows: Tensor, columns: Tensor) -> Tensor:
            return features[image, rows.unsqueeze(2), columns.unsqueeze(1)]

        lh, lw = share[0][:, :, None, None], share[1][:, None, :, None]
        out = ((1 - lw) * (1 - lh) * value(near[0], near[1]) + lw * (1 - lh) * value(near[0], far[1])
               + (1 - lw) * lh * value(far[0], near[1]) + lw * lh * value(far[0], far[1]))
        inside = seen[0].unsqueeze(2) & seen[1].unsqueeze(1) & (length > 0).all(1).view(-1, 1, 1)
        return out.masked_fill(~inside.unsqueeze(3), 0).permute(0, 3, 1, 2).contiguous()
