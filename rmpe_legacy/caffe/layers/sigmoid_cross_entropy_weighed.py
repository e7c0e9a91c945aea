"""The sigmoid's cross entropy with weights, or with targets that do not count.

Sources: sigmoid_cross_entropy_loss_layer.cpp of daijifeng001/caffe-mnc@b7bdfee,
sigmoid_cross_entropy_weighted_loss_layer.cpp of gkioxari/caffe-fast-rcnn@7048851,
sigmoid_cross_entropy_loss_weighted_layer.cpp of gidariss/caffe_LocNet@0083b42.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.ops.losses import sigmoid_loss_terms

from .base import Shape, count, shape_text
from .loss import Loss, given, in_turn
from .neuron import sigmoid
from .registry import Choice, chooses, register

IGNORED = -1  # a target that does not count


class _CrossEntropy(Loss):
    """Base: scores, targets and perhaps weights, with one number of values -> a scalar."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        if any(count(shape) != count(bottom[0]) for shape in bottom):
            raise self.spec.error("its bottoms must have the same number of values, but are "
                                  + ", ".join(map(shape_text, bottom)))
        return top


@register("SigmoidCrossEntropyLoss", form="mnc")
class MncSigmoidCrossEntropyLoss(_CrossEntropy):
    """-sum of w * (t * log(p) + (1 - t) * log(1 - p)), p = sigmoid(x), over the sum of the weights w; without a third
    bottom, w is 1, and the sum is divided by the number of rows.

    Differs: the loss is 0 where the weights' sum is not above 0; the published code leaves the last one.
    """

    bottoms = (2, 3)
    unforced = (1, 2)

    def forward(self, x: Tensor, target: Tensor, *weights: Tensor) -> Tensor:
        score, goal = x.detach(), target.detach().reshape(x.shape)
        loss, diff = sigmoid_loss_terms(score, goal), sigmoid(score, self.spec.dialect) - goal
        by: Tensor | float = len(x)
        if weights:
            weight = weights[0].detach().reshape(x.shape)
            total = in_turn(weight)
            loss, diff, by = loss * weight, diff * weight, torch.where(total > 0, total, torch.inf)
        rest = [None] * (1 + len(weights))
        return given(in_turn(loss) / by, lambda: (diff / by, *rest), x, target, *weights)


@chooses("SigmoidCrossEntropyLoss")
def _choose(spec: LayerSpec) -> Choice:
    """Weights as the third bottom are those of network cascades."""
    return Choice("mnc") if len(spec.bottom) > 2 else Choice("", ("mnc",))


@register("SigmoidCrossEntropyWeightedLoss", form="")
class SigmoidCrossEntropyWeightedLoss(_CrossEntropy):
    """-sum of t * log(p) + (1 - t) * log(1 - p), p = sigmoid(x), of the targets that are not -1, over the number of
    rows."""

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        score, goal = x.detach(), target.detach().reshape(x.shape)
        ignored = goal == IGNORED
        loss = sigmoid_loss_terms(score, goal).masked_fill(ignored, 0)
        diff = (sigmoid(score, self.spec.dialect) - goal).masked_fill(ignored, 0) / len(x)
        return given(in_turn(loss) / len(x), lambda: (diff, None), x, target)


@register("SigmoidCrossEntropyLossWeighted", form="")
class SigmoidCrossEntropyLossWeighted(_CrossEntropy):
    """-sum of w * (t * log(p) + (1 - t) * log(1 - p)), p = sigmoid(x), over the number of rows."""

    bottoms = 3
    refuses = unforced = (1, 2)

    def forward(self, x: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        score, goal, weight = (blob.detach().reshape(x.shape) for blob in (x, target, weight))
        loss = (sigmoid_loss_terms(score, goal) * weight).masked_fill(weight == 0, 0)
        diff = (sigmoid(score, self.spec.dialect) - goal) * weight / len(x)
        return given(in_turn(loss) / len(x), lambda: (diff, None, None), x, target, weight)
