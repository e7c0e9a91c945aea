"""Softmax over the channels of clips, and its loss.

Sources: voxel_wise_softmax_layer.cpp and voxel_wise_softmax_loss_layer.cpp of facebookarchive/C3D@71336a2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import JUDGES, Layer, Shape, count, shape_text
from .gradient import pointwise
from .loss import given
from .registry import register


@register("VoxelSoftmax", form="")
class VoxelSoftmax(Layer):
    """exp(x - max) divided by its sum, over the channels: (N, C, L, H, W) -> the same."""

    range01 = True
    along = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 5:
            raise self.spec.error(f"needs a bottom (N, C, L, H, W), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        def back(_x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return (dy - (dy * y).sum(1, keepdim=True)) * y

        return pointwise(x, lambda x: x.softmax(1), back, self.in_place)


@register("VoxelSoftmaxLoss", form="")
class VoxelSoftmaxLoss(Layer):
    """Mean of -log(softmax) at the labels: (N, C, L, H, W) and labels (N, 1, L, H, W) -> a scalar.

    A label of C or more adds nothing, but counts. Differs: a negative label is refused; the published code reads
    outside its memory.
    """

    bottoms = 2
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, label = bottom
        if len(x) != 5 or label != (x[0], 1, *x[2:]):
            raise self.spec.error("needs a bottom (N, C, L, H, W) and labels (N, 1, L, H, W), not "
                                  + " and ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        index = label.detach().long()
        if index.numel() and int(index.min()) < 0:
            raise self.spec.error(f"label {int(index.min())} is negative")
        prob = x.detach().softmax(1)
        known = index < x.shape[1]
        index = index.where(known, torch.zeros_like(index))
        places = count((len(x), *x.shape[2:]))
        loss = torch.where(known, -prob.gather(1, index).clamp(min=FLT_MIN).log(), 0).sum() / places
        return given(loss, lambda: (prob.scatter_add(1, index, -known.to(prob)) / places, None), x, label)
