"""The focal loss. Sources: focal_loss_layer.cpp of chuanqi305/FocalLoss@33fda56 and of
zimenglan-sysu-512/Focal-Loss@d767cb9."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import Shape, count
from .loss import LabelledLoss, given, in_turn
from .registry import register

SMALLEST = 1e-10  # of 1 - p, where the gradient divides by it


@register("FocalLoss", form="")
class FocalLoss(LabelledLoss):
    """-alpha (1 - p)^gamma log(p), p the softmax at the label, summed over all positions and divided as
    `normalization` says.

    The softmax is along softmax_param.axis; the class axis is focal_loss_param.axis where the dialect has it, else the
    same. As published, type and beta have no effect.
    """

    params = ("focal_loss_param", "softmax_param", "loss_param")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        axes, param = len(bottom[0]), self.spec.get("focal_loss_param")
        self.normalised = self.axis(self.spec.get("softmax_param").axis, axes)
        self.along = self.axis(param.axis, axes) if "axis" in param.descriptor.fields else self.normalised
        self.label_per_place(bottom[0], bottom[1], self.along)
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        param, shape = self.spec.get("focal_loss_param"), x.shape
        outer, inner = count(shape[: self.along]), count(shape[self.along + 1 :])
        label = label.reshape(outer, 1, inner)
        ignored = self.ignored(label)
        index = self.index(label, shape[self.along], ignored)
        prob = x.detach().softmax(self.normalised).reshape(outer, shape[self.along], inner)
        own = prob.gather(1, index)
        log, weight = own.clamp(min=FLT_MIN).log(), param.alpha * (1 - own) ** param.gamma
        loss = -weight * log
        loss = in_turn(loss if ignored is None else loss.masked_fill(ignored, 0))
        normalizer = self.normalizer(outer, inner, ignored)

        def gradients() -> tuple[Tensor, None]:
            slope = weight - param.gamma * weight / (1 - own).clamp(min=SMALLEST) * log * own
            diff = slope * prob.scatter_add(1, index, prob.new_full((), -1).expand(index.shape))
            if ignored is not None:
                diff = diff.masked_fill(ignored, 0)
            return (diff / normalizer).view(shape), None

        return given(loss / normalizer, gradients, x, label)
