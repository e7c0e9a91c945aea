"""Sequences of labels. Sources: {continuation_indicator,labelsequence_accuracy}_layer.cpp of dlunion/CC4.0@6fb51e4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .registry import register


@register("ContinuationIndicator", form="")
class ContinuationIndicator(Layer):
    """Which steps continue a sequence, for LSTM: (time_step, batch), 0 in the first row and 1 in the others. The batch
    is batch_size, or that of a bottom (of DeepDetect, its size along `axis`)."""

    params = ("continuation_indicator_param",)
    bottoms = (0, 1)
    is_constant = True
    exact = True
    refuses = unforced = (0,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("continuation_indicator_param")
        axis = param.axis if "axis" in param.descriptor.fields else 0
        batch = (bottom[0][self.axis(axis, len(bottom[0]))] if bottom and axis else self.nchw(bottom[0])[0] if bottom
                 else param.batch_size if "batch_size" in param.descriptor.fields else 0)
        if not batch or not param.time_step:
            raise self.spec.error("needs time_step, and batch_size or a bottom")
        self.shape = (param.time_step, batch)
        return [self.shape]

    def forward(self, *bottoms: Tensor) -> Tensor:
        top = torch.ones(self.shape, device=bottoms[0].device if bottoms else None)
        top[0] = 0
        return top


@register("LabelsequenceAccuracy", form="")
class LabelsequenceAccuracy(Layer):
    """The share of sequences that are read without a mistake: scores (N, T, C) and labels (N, L) -> a scalar.

    Of the best labels of the steps, repeated ones count once, and blanks not at all.
    """

    params = ("labelsequence_accuracy_param",)
    bottoms = 2
    refuses = unforced = (0, 1)
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 3 or len(bottom[1]) < 2 or bottom[0][0] != bottom[1][0]:
            raise self.spec.error("needs scores (N, T, C) and labels (N, L); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        blank = self.spec.get("labelsequence_accuracy_param").blank_label
        best = x.detach().argmax(2).tolist()
        right = 0
        for read, wanted in zip(best, label.detach().flatten(1).long().tolist(), strict=True):
            before = [blank, *read]
            found = [k for i, k in enumerate(read) if k not in (before[i], blank)]
            right += found == [k for k in wanted if k != blank]
        return x.new_tensor(right / max(1, len(best)))
