"""Accuracy of joint predictions. Source: accuracy_heatmap_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .gradient import severed
from .registry import register


@register("AccuracyHeatmap", dialects=("rmpe",))
class AccuracyHeatmap(Layer):
    """The fraction of joints within a distance of their label: (N * C * 3), (N, C, H, W) -> a scalar.

    A prediction is (x, y, score), truncated to whole pixels; the label is its heatmap's first maximum in row order.
    Joints whose label has x or y below 2 do not count; if none counts, the top is nan. The distance is divided by
    H / 10, an integer division (inf or nan for a height below 10), and must be less than the threshold. The fork has
    one threshold per process (accuracy_heatmap_layer.hpp:49): the layer set up last sets it for all.
    """

    params = ("accuracy_heatmap_param",)
    bottoms = 2
    refuses = (0, 1)
    not_exportable = JUDGES
    works_in_place = False
    threshold = 0.5

    def setup(self, *bottom: Shape) -> None:
        AccuracyHeatmap.threshold = self.spec.get("accuracy_heatmap_param").threshold

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.label_shape = self.nchw(bottom[1])
        if count(bottom[0]) != n * c * 3:
            raise self.spec.error(f"needs 3 values for each of {n} x {c} joints; its predictions are "
                                  f"{shape_text(bottom[0])}")
        if n * c and not h * w:
            raise self.spec.error(f"a map without a cell has no peak; its labels are {shape_text(bottom[1])}")
        return [()]

    def forward(self, predicted: Tensor, label: Tensor) -> Tensor:
        n, c, height, width = self.label_shape
        place = label.detach().reshape(n * c, max(height * width, 1)).argmax(1)
        x, y = place % width, place // width
        cut = predicted.detach().reshape(n * c, 3)[:, :2].to(torch.int64)
        distance = ((x - cut[:, 0]) ** 2 + (y - cut[:, 1]) ** 2).double().sqrt() / (height // 10)
        counted = (x > 1) & (y > 1)
        right = (distance < AccuracyHeatmap.threshold) & counted
        return severed((right.sum().double() / counted.sum()).to(predicted.dtype), predicted, label)
