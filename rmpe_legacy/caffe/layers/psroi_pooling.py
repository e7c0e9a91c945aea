"""Position-sensitive average pooling inside boxes. Sources: psroi_pooling_layer.cpp of intel/caffe@44d5363,
psroi_pooling_layer.cu of Microsoft/caffe@ed05614."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape
from .registry import register
from .roi import RoiLayer, half_away


@register("PSROIPooling", form="")
class PSROIPooling(RoiLayer):
    """The mean of each bin, of the channel that belongs to the bin: (N, output_dim * group^2, H, W), (R, 5) ->
    (R, output_dim, group, group).

    Corners are rounded before spatial_scale; a region is at least 0.1 wide and high; an empty bin is 0.
    """

    params = ("psroi_pooling_param",)
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("psroi_pooling_param")
        self.scale, self.dim, self.group = param.spatial_scale, param.output_dim, param.group_size
        if self.dim < 1 or self.group < 1:
            raise self.spec.error("needs output_dim and group_size, both above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        if bottom[0][1] != self.dim * self.group**2:
            raise self.spec.error(f"needs output_dim * group_size^2 = {self.dim * self.group**2} channels; its bottom "
                                  f"has {bottom[0][1]}")
        return [(bottom[1][0], self.dim, self.group, self.group)]

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        corners = half_away(boxes)
        begin = corners[:, [1, 0]] * self.scale
        length = ((corners[:, [3, 2]] + 1) * self.scale - begin).clamp(min=0.1)
        spans = []
        k = torch.arange(self.group, dtype=x.dtype, device=x.device)
        for axis, extent in enumerate(x.shape[2:]):
            step = (length[:, axis] / self.group).unsqueeze(1)
            from_ = (k * step + begin[:, axis : axis + 1]).floor().clamp(0, extent).to(torch.int64)
            to = ((k + 1) * step + begin[:, axis : axis + 1]).ceil().clamp(0, extent).to(torch.int64)
            spans.append(list(zip(from_.tolist(), to.tolist(), strict=True)))
        maps = x.view(len(x), self.dim, self.group, self.group, *x.shape[2:])
        out = []
        for r, image in enumerate(images):
            for i, (top, bottom) in enumerate(zip(*spans[0][r], strict=True)):
                for j, (left, right) in enumerate(zip(*spans[1][r], strict=True)):
                    window = maps[image, :, i, j, top:bottom, left:right]
                    empty = bottom <= top or right <= left
                    out.append(x.new_zeros(self.dim) if empty else
                               window.sum((1, 2)) / ((bottom - top) * (right - left)))
        if not out:
            return x.new_zeros(0, self.dim, self.group, self.group)
        return torch.stack(out).view(len(images), self.group, self.group, self.dim).permute(0, 3, 1, 2).contiguous()
