"""Accuracies of a segmentation. Source: seg_accuracy_layer.cpp and confusion_matrix.cpp of hszhao/PSPNet@798bdc9."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .registry import register


@register("SegAccuracy", form="")
class SegAccuracy(Layer):
    """Scores (N, C, H, W) and labels (N, 1, H, W) -> (1, 1, 1, 3): the share of pixels that are right, its mean over
    the classes that occur, and the mean intersection over union of all classes.

    With reset: false it goes on counting. Of equal scores the later class is taken, as published.
    """

    params = ("seg_accuracy_param",)
    bottoms = 2
    not_exportable = JUDGES
    refuses = unforced = (0, 1)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("seg_accuracy_param")
        self.counts: Tensor | None = None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or self.nchw(bottom[1]) != (bottom[0][0], 1, *bottom[0][2:]):
            raise self.spec.error("needs scores (N, C, H, W) and labels (N, 1, H, W); its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [(1, 1, 1, 3)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        classes = x.shape[1]
        truth = label.detach().flatten().long()
        best = (classes - 1 - x.detach().flip(1).argmax(1)).flatten()
        counted = torch.ones_like(truth, dtype=torch.bool)
        for ignored in self.param.ignore_label:
            counted &= truth != ignored
        truth, best = truth[counted], best[counted]
        self.check_classes(truth, classes)
        found = torch.bincount(truth * classes + best, minlength=classes**2).view(classes, classes).double()
        if self.counts is not None and not self.param.reset:
            found = found + self.counts.to(found)
        self.counts = found
        right, rows, columns = found.diag(), found.sum(1), found.sum(0)
        occurs = rows > 0
        union = rows + columns - right
        shares = [right.sum() / found.sum().clamp(min=1),
                  (right[occurs] / rows[occurs]).mean() if occurs.any() else right.new_zeros(()),
                  torch.where(union == right, 1, right / union.clamp(min=1)).mean()]
        return torch.stack(shares).to(x).view(1, 1, 1, 3)
