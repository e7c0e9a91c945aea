"""Accuracy of a segmentation's places. Source: eltwise_accuracy_layer.cpp of HyeonwooNoh/caffe@d9e8494."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .registry import register


@register("EltwiseAccuracy", form="")
class EltwiseAccuracy(Layer):
    """Scores (N, C, H, W) and labels (N, 1, H, W) -> (1, 1, 1, 1): the share of places whose label is among the top_k
    scores; places with ignore_label do not count. Of equal scores the larger class goes first; without places, nan.
    """

    params = ("eltwise_accuracy_param",)
    exact = True
    bottoms = 2
    refuses = (0, 1)
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        self.param = self.spec.get("eltwise_accuracy_param")
        if self.nchw(bottom[1]) != (n, 1, h, w):
            raise self.spec.error("needs scores (N, C, H, W) and labels (N, 1, H, W); its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        if self.param.top_k > c:
            raise self.spec.error(f"top_k {self.param.top_k} is more than the {c} classes")
        return [(1, 1, 1, 1)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        score = x.detach().reshape(n, c, h, w).movedim(1, -1).reshape(-1, c)
        truth = label.detach().flatten().to(torch.int64)
        if self.param.has("ignore_label"):
            counted = truth != self.param.ignore_label
            score, truth = score[counted], truth[counted]
        best = c - 1 - score.flip(1).sort(dim=1, descending=True, stable=True).indices[:, : self.param.top_k]
        right = (best == truth.unsqueeze(1)).any(1)
        return (right.sum().to(x.dtype) / len(truth)).view(1, 1, 1, 1)
