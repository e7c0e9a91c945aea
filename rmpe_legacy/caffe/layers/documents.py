"""Binarization of documents: F-measures of ink.

Sources: {weighted_fmeasure_loss,precision_recall,doc_data}_layer.cpp of ctensmeyer/caffe@19fcdb2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.spec import LayerSpec

from .base import JUDGES, Layer, Shape, count, shape_text
from .fed import ASSUMED
from .registry import register
from .unknown_data import UnknownData


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0."""
    return torch.where(b != 0, a / b, 0)


class _FMeasureLoss(torch.autograd.Function):
    """Rows of x, targets and weights, (R, K), -> the mean loss, and F-measures (R).

    Backward is the published one: the recall's share is doubled, and not scaled by the loss's diff.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, target: Tensor, recall_weight: Tensor, precision_weight: Tensor,
                error_weight: float) -> tuple[Tensor, Tensor]:
        hits = x * target
        ink, found = (target * recall_weight).sum(1), (x * precision_weight).sum(1)
        right = (hits * precision_weight).sum(1)
        recall, precision = _quotient((hits * recall_weight).sum(1), ink), _quotient(right, found)
        defined = (recall != 0) & (precision != 0)
        measure = torch.where(defined, 2 * recall * precision / (recall + precision), 0)
        all_weights = precision_weight.abs().sum(1)
        error = error_weight * 0.5 * ((target - x) ** 2 * precision_weight).abs().sum(1) / all_weights
        ctx.save_for_backward(x, target, recall_weight, precision_weight, *(
            value.unsqueeze(1) for value in (recall, precision, ink, found, right, all_weights, defined)))
        ctx.error_weight = error_weight
        ctx.mark_non_differentiable(measure)
        return torch.where(defined, 1 - measure, error).mean(), measure

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, target, recall_weight, precision_weight, recall, precision, ink, found, right, weights, defined = (
            ctx.saved_tensors)
        both = (recall + precision) ** 2
        of_recall = -2 * (2 * precision**2 / both) / ink * target * recall_weight
        of_precision = -dy * (2 * recall**2 / both) / found**2 * (target * found - right) * precision_weight
        of_error = dy * ctx.error_weight / weights * (x - target) * precision_weight
        return torch.where(defined, of_recall + of_precision, of_error) / len(x), None, None, None, None


@register("WeightedFmeasureLoss", form="")
class WeightedFMeasureLoss(Layer):
    """1 - F of how much of a page is ink, with the page and weights of recall and precision of the same shape (N, ...):
    of all pages together, or with avg_fm the mean over pages, whose F a second top (N, 1) gives.

    Where F is not defined, half the weighted mean square error, times mse_lambda. With a margin below 0.5, values that
    are right by more than this count as perfect. Differs: the published layer overwrites its bottom with them. Its
    gradient is kept as it is: the recall's share is twice as large as it should be, whatever the loss weighs.
    """

    params = ("weighted_fmeasure_loss_param",)
    bottoms = 4
    tops = (1, 2)
    is_loss = True
    refuses = (1, 2, 3)
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, x = self.spec.get("weighted_fmeasure_loss_param"), bottom[0]
        if not x or any(count(shape) != count(x) or shape[:1] != x[:1] for shape in bottom):
            raise self.spec.error("needs four bottoms of one size, not " + ", ".join(map(shape_text, bottom)))
        self.each, self.margin, self.error_weight = param.avg_fm, param.margin, param.mse_lambda
        if self.top_count > 1 and not self.each:
            raise self.spec.error("has a second top only with avg_fm; remove it")
        if self.each and self.nchw(x)[1] != 1:
            raise self.spec.error(f"with avg_fm takes pages of one channel, not {shape_text(x)}")
        return [(), (x[0], 1)][: self.top_count]

    def forward(self, x: Tensor, target: Tensor, *weights: Tensor) -> Tensor | tuple[Tensor, ...]:
        pages = len(x) if self.each else 1
        given = [blob.reshape(pages, -1) for blob in (x, target, *weights)]
        if 0 < self.margin < 0.5:
            value = given[0].detach()
            right = torch.where(given[1] > 0.5, value >= 0.5 + self.margin, value <= 0.5 - self.margin)
            given[0] = given[0] + torch.where(right, given[1] - value, 0)
        loss, measure = _FMeasureLoss.apply(*given, self.error_weight)
        return (loss, measure.unsqueeze(1))[: self.top_count]


@register("PR", form="")
class PrecisionRecall(Layer):
    """Precision, recall, accuracy, the true negatives' share of the negatives, and F of values of at least `thresh`, as
    labels of the same size say, except those that are ignore_label."""

    params = ("precision_recall_param",)
    bottoms = 2
    tops = 5
    refuses = (0, 1)
    is_discontinuous = True
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0]) != count(bottom[1]):
            raise self.spec.error("needs a label for each value; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [()] * 5

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        param = self.spec.get("precision_recall_param")
        x, label = x.detach().flatten(), label.detach().flatten().trunc()
        if param.has("ignore_label"):
            x, label = x[label != param.ignore_label], label[label != param.ignore_label]
        found, ink = x >= param.thresh, label != 0
        hits, false, missed, rest = ((a & b).sum().to(x.dtype) for a, b in (
            (found, ink), (found, ~ink), (~found, ink), (~found, ~ink)))
        precision, recall = _quotient(hits, hits + false), _quotient(hits, hits + missed)
        return (precision, recall, (hits + rest) / (hits + false + missed + rest), rest / (false + rest),
                _quotient(2 * precision * recall, precision + recall))


@register("DocData", form="")
class DocData(UnknownData):
    """Pages as image_transform_param changes them, and what label_names lists, fed. Pages are as large as the layers
    that read them need, or gray and of 256 x 256 pixels."""

    params = ("doc_data_param",)

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        super().foresee(specs)
        if len(self.samples[0] or ()) < 3:
            self.samples = [(1, ASSUMED, ASSUMED), *self.samples[1:]]

    def setup(self, *bottom: Shape) -> None:
        self.batch = max(1, self.spec.get("doc_data_param").batch_size)
