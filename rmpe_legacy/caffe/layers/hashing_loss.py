"""The loss of deep supervised hashing. Source: hashing_loss_layer.cpp of liuheng0111/DSH_for_sketches@9afffe2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .loss import given
from .registry import register


@register("HashingLoss", form="")
class HashingLoss(Layer):
    """Pulls codes of one class together, pushes others apart by bi_margin, and each value to -1 or 1: codes (N, K) and
    labels (N), or several labels (N, L) of which pairs share one or more -> a scalar.

    Squared distances (or what they lack of bi_margin) over N (N - 1), plus tradeoff times | |x| - 1 | over N. As
    published, pairs count once and their gradient is half of what it would be.
    """

    params = ("hashing_loss_param",)
    bottoms = 2
    is_loss = True
    refuses = unforced = (1,)
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        codes, labels = map(self.nchw, bottom)
        if codes[2:] != (1, 1) or labels[2:] != (1, 1) or codes[0] != labels[0]:
            raise self.spec.error(f"needs codes (N, K) and labels (N); its bottoms are {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        self.labels = count(bottom[1]) // max(1, codes[0])
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        param = self.spec.get("hashing_loss_param")
        shape, codes = x.shape, x.detach().reshape(len(x), -1)
        labels = label.detach().reshape(len(x), -1)
        alike = labels @ labels.t() > 0 if self.labels > 1 else labels.long() == labels.long().t()
        apart = codes.unsqueeze(1) - codes.unsqueeze(0)
        distance = apart.square().sum(-1)
        lacks = param.bi_margin - distance
        pairs = torch.ones_like(distance).triu(1)
        pair_loss = (torch.where(alike, distance, lacks.clamp(min=0)) * pairs).sum()
        n = len(codes)
        spread = (codes.abs() - 1).abs().sum()
        loss = pair_loss / (n * (n - 1)) + param.tradeoff * spread / n
        pull = torch.where(alike, 1.0, -(lacks > 0).to(codes)).fill_diagonal_(0)
        gradient = (pull.unsqueeze(-1) * apart).sum(1) / (n * (n - 1))
        inward = (codes >= 1) | ((codes <= 0) & (codes >= -1))
        gradient = gradient + param.tradeoff / n * torch.where(inward, 1.0, -1.0)
        return given(loss, lambda: (gradient.view(shape), None), x, label)
