"""The pairwise loss of HashNet. Source: pairwise_loss_layer.cu of thuml/HashNet@85387b8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .loss import given
from .registry import register


@register("PairwiseLoss", form="")
class PairwiseLoss(Layer):
    """The logistic loss of whether two codes are alike: codes (N, K), labels (N, L), codes and labels -> a scalar.

    Codes are alike if their labels have something in common; those with a negative label, or of which all L values are
    common, do not count. Alike pairs weigh class_num. As published, the gradient is twice that of the loss whatever the
    loss_weight, and sigmoid_param scales the gradient of the first N values alone.
    """

    params = ("pairwise_param",)
    bottoms = 4
    is_loss = True
    refuses = unforced = (1, 3)
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != bottom[2] or bottom[1] != bottom[3] or bottom[0][:1] != bottom[1][:1] or (
                self.axis(self.spec.get("pairwise_param").axis, len(bottom[0])) != 1):
            raise self.spec.error("needs two pairs of codes (N, K) and labels (N, L); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, a: Tensor, label_a: Tensor, b: Tensor, label_b: Tensor) -> Tensor:
        param, shape, n = self.spec.get("pairwise_param"), a.shape, len(a)
        rows, others, labels, labels_b = (x.detach().reshape(n, -1) for x in (a, b, label_a, label_b))
        alike, common = labels @ labels_b.t(), None
        if param.continous_similarity:
            own = [(x @ x.t()).diagonal() for x in (labels, labels_b)]
            own = [torch.where(x == 0, 1, x) for x in own]
            common = alike * alike / (own[0].unsqueeze(1) * own[1])
            common = torch.where(common == 0, 0.25, common)
        known = (alike >= 0) & (alike < count(label_a.shape[1:]))
        alike = known & (alike > 0)
        product = param.sigmoid_param * (rows @ others.t())
        grown = product.exp()
        loss = (1 + grown).log() - alike * product
        if param.l_threshold >= 0:
            loss = torch.where(product >= param.l_threshold, product * ~alike, loss)
        weight = torch.where(alike, param.class_num, 1.0) * known
        total = weight.abs().sum()
        total = total if total > 0 else torch.ones_like(total)
        value = (loss * weight).abs().sum() / total * (param.l_lambda > 0)
        slope = 2 * (1 / (1 + 1 / grown) - alike.to(grown)) * weight
        slope = slope * param.l_lambda / total if common is None else slope * common * 4 * param.l_lambda / total

        to_a, to_b = (slope @ others).flatten(), (slope.t() @ rows).flatten()
        for each in (to_a, to_b):
            each[:n] *= param.sigmoid_param
        return given(value, lambda: (to_a.view(shape), to_b.view(shape)), a, b, weighted=False)
