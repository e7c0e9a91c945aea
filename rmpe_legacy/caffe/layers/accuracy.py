"""Accuracy of class predictions. Sources: accuracy_layer.cpp of RMPE@5188c23, BVLC@9b89154 and, for min_is_better,
happynear/caffe-windows@967eedf."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .gradient import severed
from .registry import register


@register("Accuracy")
class Accuracy(Layer):
    """The fraction of labels among the top_k scores of their position; a second top gives it per class.

    Dialects rmpe and ssd rank the larger class first in a tie, count a label outside the classes as wrong (with a
    second top this raises: the published code writes outside its blob), and give nan if no label counts. Dialect
    bvlc counts ties against the label, and gives 0 if no label counts. With min_is_better (happynear), the least scores
    and the smaller class come first.
    """

    params = ("accuracy_param",)
    exact = True
    bottoms = 2
    tops = (1, 2)
    refuses = (0, 1)
    not_exportable = JUDGES
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("accuracy_param")
        self.top_k = param.top_k
        self.least = "min_is_better" in param.descriptor.fields and param.min_is_better
        self.ignore_label = param.ignore_label if param.has("ignore_label") else None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("accuracy_param").axis, len(bottom[0]))
        classes = bottom[0][self.along]
        if count(bottom[0][: self.along]) * count(bottom[0][self.along + 1 :]) != count(bottom[1]):
            raise self.spec.error(f"needs one label for each position on axis {self.along} of a bottom of "
                                  f"{shape_text(bottom[0])}; they are {shape_text(bottom[1])}")
        if self.top_k > classes:
            raise self.spec.error(f"top_k {self.top_k} is more than the {classes} classes")
        return [(), (classes,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        score = x.detach().movedim(self.along, -1).reshape(label.numel(), x.shape[self.along])  # (places, classes)
        index = label.detach().flatten().to(torch.int64)
        counted = torch.ones_like(index, dtype=torch.bool)
        if self.ignore_label is not None:
            counted = index != self.ignore_label
        right = self._right(score, index, counted)
        total = counted.sum()
        accuracy = right.sum().to(x.dtype) / total  # 0 / 0 is nan
        if self.spec.dialect == "bvlc":
            accuracy = torch.where(total > 0, accuracy, 0)
        tops = [accuracy]
        if self.top_count == 2:
            seen = score.new_zeros(score.shape[1]).index_add_(0, index[counted], score.new_ones(len(index))[counted])
            hits = torch.zeros_like(seen).index_add_(0, index[counted], right[counted].to(seen.dtype))
            tops.append(torch.where(seen > 0, hits / seen, 0))
        return tuple(severed(top, x, label) for top in tops)

    def _right(self, score: Tensor, index: Tensor, counted: Tensor) -> Tensor:
        """Return which positions have their label among the top_k scores."""
        classes = score.shape[1]
        inside = (index >= 0) & (index < classes)
        strict = self.top_count == 2 or self.spec.dialect == "bvlc"
        if strict and not bool((inside | ~counted).all()):
            raise self.spec.error(f"has labels outside its classes, 0 to {classes - 1}")
        safe = index.where(inside, 0).unsqueeze(1)
        own = score.gather(1, safe)
        better = score < own if self.least else score > own
        tied = score == own
        if self.spec.dialect == "bvlc":
            rank = better.sum(1) + tied.sum(1) - 1
        else:
            classes_in_order = torch.arange(classes, device=score.device)
            ahead = classes_in_order < safe if self.least else classes_in_order > safe
            rank = (better | (tied & ahead)).sum(1)
        return (rank < self.top_k) & inside & counted
