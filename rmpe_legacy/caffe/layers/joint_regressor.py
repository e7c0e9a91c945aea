"""Losses of poses in two frames. Sources: {manhattan,consistency}_loss_layer.cpp of qxcv/caffe@7e9eb52."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, shape_text
from .loss import EuclideanLoss, Loss, given
from .registry import register


@register("ManhattanLoss", form="")
class ManhattanLoss(EuclideanLoss):
    """The mean over rows of the bottoms' absolute differences."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        apart = a.detach() - b.detach().reshape(a.shape)
        shapes, n = (a.shape, b.shape), len(a)

        def gradients() -> tuple[Tensor, Tensor]:
            slope = apart.sign() / n
            return slope.view(shapes[0]), -slope.view(shapes[1])

        return given(apart.abs().sum() / n, gradients, a, b)


@register("ConsistencyLoss", form="")
class ConsistencyLoss(Loss):
    """How far joints (N, 4J), each x and y in the first and in the second frame, are from where a flow (N, 2, H, W)
    moves them: the mean over rows of |difference|. The flow is the mean of that at both ends, cut at the image's edge;
    as published, the row of its second y is the first end's."""

    refuses = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        joints, flow = bottom
        if self.nchw(joints)[2:] != (1, 1) or self.nchw(joints)[1] % 4 or len(flow) != 4 or flow[1] != 2:
            raise self.spec.error(f"needs joints (N, 4J) and a flow (N, 2, H, W); its bottoms are {shape_text(joints)} "
                                  f"and {shape_text(flow)}")
        return super().reshape(*bottom)

    def forward(self, joints: Tensor, flow: Tensor) -> Tensor:
        (h, w), n = flow.shape[2:], len(joints)
        x1, y1, x2, y2 = joints.detach().reshape(n, -1, 4).unbind(2)
        c1, c2 = (x.clamp(0, w - 1).long() for x in (x1, x2))
        r1, r2 = (y.clamp(0, h - 1).long() for y in (y1, y2))
        image, flow = torch.arange(n, device=flow.device).unsqueeze(1), flow.detach()
        move_x = 0.5 * flow[image, 0, r1, c1] + 0.5 * flow[image, 0, r2, c2]
        move_y = 0.5 * flow[image, 1, r1, c1] + 0.5 * flow[image, 1, r1, c2]
        apart = torch.stack([x1 + move_x - x2, y1 + move_y - y2], 2)
        slope, shape = apart.sign() / n, joints.shape
        return given(apart.abs().sum() / n, lambda: (torch.cat([slope, -slope], 2).view(shape), None), joints, flow)
