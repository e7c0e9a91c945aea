"""Cross entropy of scores with signed labels. Source: multi_label_loss_layer.cpp of
WilsonWangTHU/clothesDetection@c5224e0."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, count, shape_text
from .loss import Loss, given
from .registry import register


@register("MultiLabelLoss", form="")
class MultiLabelLoss(Loss):
    """Scores (N, ...) and labels of as many values, above 0 for yes, below for no and 0 for unknown -> the sum of the
    sigmoid cross entropies of the known ones, divided by N."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        if count(bottom[0]) != count(bottom[1]):
            raise self.spec.error("needs as many labels as scores; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        score, label_of = x.detach(), label.detach().reshape(x.shape)
        known, target = label_of != 0, (label_of > 0).to(x)
        terms = score.clamp(min=0) - score * target + torch.log(1 + torch.exp(-score.abs()))
        slope = torch.where(known, torch.sigmoid(score) - target, 0) / len(x)
        return given((terms * known).sum() / len(x), lambda: (slope, None), x, label)
