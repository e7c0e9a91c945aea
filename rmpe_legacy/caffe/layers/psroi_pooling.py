"""Position-sensitive average pooling inside boxes. Sources: psroi_pooling_layer.cpp of intel/caffe@44d5363,
psroi_pooling_layer.cu of Microsoft/caffe@ed05614."""

from __future__ import annotations

import torch
from torch import Tensor

from .registry import register
from .roi import PositionSensitiveLayer, half_away, whole


@register("PSROIPooling", form="")
class PSROIPooling(PositionSensitiveLayer):
    """The mean of each bin, of the channel that belongs to the bin: (N, output_dim * group^2, H, W), (R, 5) ->
    (R, output_dim, group, group).

    Corners are rounded before spatial_scale; a region is at least 0.1 wide and high; an empty bin is 0.
    """

    params = ("psroi_pooling_param",)
    is_discontinuous = True

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        corners = half_away(boxes)
        begin = corners[:, [1, 0]] * self.scale
        length = ((corners[:, [3, 2]] + 1) * self.scale - begin).clamp(min=0.1)
        spans = []
        k = torch.arange(self.group, dtype=x.dtype, device=x.device)
        for axis, extent in enumerate(x.shape[2:]):
            step = (length[:, axis] / self.group).unsqueeze(1)
            from_ = whole((k * step + begin[:, axis : axis + 1]).floor().clamp(0, extent))
            to = whole(((k + 1) * step + begin[:, axis : axis + 1]).ceil().clamp(0, extent))
            spans.append(list(zip(from_.tolist(), to.tolist(), strict=True)))
        maps = x.view(len(x), self.dim, self.group, self.group, *x.shape[2:])
        out = []
        for r, image in enumerate(images):
            for i, (top, bottom) in enumerate(zip(*spans[0][r], strict=True)):
                for j, (left, right) in enumerate(zip(*spans[1][r], strict=True)):
                    if bottom <= top or right <= left:
                        out.append(x.new_zeros(self.dim))
                        continue
                    window = maps[image, :, i, j, top:bottom, left:right]
                    out.append(window.sum((1, 2)) / ((bottom - top) * (right - left)))
        if not out:
            return x.new_zeros(0, self.dim, self.group, self.group)
        return torch.stack(out).view(len(images), self.group, self.group, self.dim).permute(0, 3, 1, 2).contiguous()
