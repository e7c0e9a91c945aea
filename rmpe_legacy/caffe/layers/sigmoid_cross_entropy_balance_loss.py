"""Cross entropy with the rarer kind of label weighted up. Source: sigmoid_cross_entropy_balance_loss_layer.cpp of
kmaninis/OSVOS-caffe@79a99b4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, count, shape_text
from .loss import Loss, given
from .registry import register


@register("SigmoidCrossEntropyBalanceLoss", form="")
class SigmoidCrossEntropyBalanceLoss(Loss):
    """Scores and labels of one size, (N, ...) -> a scalar: in each image, terms at label 1 weigh as much as there are
    labels 0, and terms at 0 as there are 1; the sum is divided by N.

    Other labels do not count; in Backward they do, unweighted, as published.
    """

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0]) != count(bottom[1]) or bottom[0][:1] != bottom[1][:1]:
            raise self.spec.error(f"needs bottoms of the same size, not {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        score, target = (b.detach().reshape(len(x), -1) for b in (x, label))
        positive, negative = target == 1, target == 0
        some = torch.stack([positive.sum(1, keepdim=True), negative.sum(1, keepdim=True)]).to(score)
        to_positive, to_negative = some[1] / some.sum(0), some[0] / some.sum(0)
        weight = torch.where(positive, to_positive, torch.where(negative, to_negative, 1))
        terms = score.clamp(min=0) - score * target + torch.log(1 + torch.exp(-score.abs()))
        loss = (terms * weight * (positive | negative)).sum() / len(x)
        slope = ((torch.sigmoid(score) - target) * weight / len(x)).view(x.shape)
        return given(loss, lambda: (slope, None), x, label)
