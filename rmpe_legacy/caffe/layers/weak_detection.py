"""Losses of detectors that learn from labels of whole images.

Sources: {global_sum_pooling,multi_class_cross_entropy_loss,weighted_softmax_loss}_layer.{cpp,cu} of
ppengtang/caffe@6a3cbbf.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import Layer, Shape, count, shape_text
from .loss import LabelledLoss, Loss, given, in_turn
from .registry import register

LEAST = 1e-10  # what a smaller probability counts as


@register("GlobalSumPooling", form="")
class GlobalSumPooling(Layer):
    """The sum over the first axis: (R, C, ...) -> (1, C, ...)."""

    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 2 or not bottom[0][0]:
            raise self.spec.error(f"needs a bottom (R, C, ...), not {shape_text(bottom[0])}")
        return [(1, *bottom[0][1:])]

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(0, keepdim=True)


@register("MulticlassCrossEntropyLoss", form="")
class MulticlassCrossEntropyLoss(Loss):
    """-log p of labels that are set and -log(1 - p) of others, over the rows: probabilities and labels (N, C).

    This is the GPU code's arithmetic, for which a label is set unless it is 0 when cut to a whole number. As published,
    the gradient is that of the loss divided by C.
    """

    refuses = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 2 or count(bottom[0][2:]) != 1 or count(bottom[0]) != count(bottom[1]):
            raise self.spec.error(f"needs probabilities and labels (N, C); its bottoms are {shape_text(bottom[0])} "
                                  f"and {shape_text(bottom[1])}")
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        p, on = x.detach().clamp(min=LEAST), (label.detach().trunc() != 0).view(x.shape)
        own = p.where(on, 1 - p)
        slope = (1 / own).where(~on, -1 / own) / (x.shape[1] * len(x))
        return given(-own.log().sum() / len(x), lambda: (slope, None), x, label)


@register("WeightedSoftmaxWithLoss", form="")
class WeightedSoftmaxWithLoss(LabelledLoss):
    """SoftmaxWithLoss with a weight for each row, the third bottom; labels whose row weighs more than 1e-12 count as
    valid."""

    params = ("loss_param", "softmax_param")
    bottoms = 3
    refuses = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        self.label_per_place(bottom[0], bottom[1], self.along)
        outer = count(bottom[0][: self.along])
        if count(bottom[2]) != outer:
            raise self.spec.error(f"needs {outer} weights, one for each row; they are {shape_text(bottom[2])}")
        return super().reshape(*bottom)

    def forward(self, x: Tensor, label: Tensor, weight: Tensor) -> Tensor:
        outer, inner = count(x.shape[: self.along]), count(x.shape[self.along + 1 :])
        label, weight = label.reshape(outer, 1, inner), weight.detach().reshape(outer, 1, 1)
        ignored = self.ignored(label)
        index = self.index(label, x.shape[self.along], ignored)
        prob = x.detach().reshape(outer, x.shape[self.along], inner).softmax(1)
        terms = -weight * prob.gather(1, index).clamp(min=FLT_MIN).log()
        unused = (weight <= 1e-12).expand(terms.shape)
        if ignored is not None:
            terms, unused = terms.masked_fill(ignored, 0), unused | ignored
        normalizer, shape = self.normalizer(outer, inner, unused), x.shape

        def gradients() -> tuple[Tensor, None, None]:
            diff = prob.scatter_add(1, index, prob.new_full((), -1).expand(index.shape)) * weight
            if ignored is not None:
                diff = diff.masked_fill(ignored, 0)
            return (diff / normalizer).view(shape), None, None

        return given(in_turn(terms) / normalizer, gradients, x, label, weight)
