"""A loss of triplets. Source: triplet_loss_layer.cpp of lferrer/iccv2017@7acb7b2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .loss import given
from .registry import register


@register("TripletLoss", form="")
class TripletLoss(Layer):
    """Half the mean of max(0, threshold + |a - p|^2 - |a - n|^2), of which the published gradient leaves out the
    margin between p and n: anchors, positives and negatives (N, ...) -> a scalar."""

    params = ("threshold_param",)
    bottoms = 3
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(set(bottom)) != 1:
            raise self.spec.error("needs three bottoms of the same shape; they are "
                                  + ", ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        near, far = ((anchor - other).detach() for other in (positive, negative))
        margin = self.spec.get("threshold_param").threshold
        each = margin + near.flatten(1).square().sum(1) - far.flatten(1).square().sum(1)
        active = (each > 0).view(-1, *[1] * (anchor.dim() - 1))
        near, far = (torch.where(active, d, 0) / len(d) for d in (near, far))
        return given(each.clamp(min=0).sum() / (2 * len(each)), lambda: (near - far, -near, far),
                     anchor, positive, negative)
