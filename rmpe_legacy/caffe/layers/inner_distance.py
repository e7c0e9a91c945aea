"""Distances to the rows of a matrix. Source: inner_distance_layer.cpp of happynear/caffe-windows@967eedf."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .registry import register


@register("InnerDistance", form="")
class InnerDistance(Layer):
    """Squared distances (distance_type L2), or sums of absolute differences (L1), of each row to num_output stored
    rows, or to the rows of a second bottom: (..., K) -> (..., num_output).

    With normalize, Forward divides the stored rows by their length, for good. bias_term has no effect.

    Differs: the gradient of L1 is that of the absolute differences; the published one lacks parentheses.
    """

    params = ("inner_distance_param",)
    bottoms = (1, 2)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("inner_distance_param")
        self.at = self.axis(param.axis, len(bottom[0]))
        self.values = count(bottom[0][self.at :])
        if param.distance_type not in ("L1", "L2") or param.transpose or param.update_center_only:
            raise self.spec.error("distance_type must be L1 or L2; the fork's transpose and update_center_only are not "
                                  "supported")
        if len(bottom) == 1:
            if not param.num_output:
                raise self.spec.error("num_output must be given, and positive")
            self.declare("weight", (param.num_output, self.values), param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][self.at :]) != self.values or (len(bottom) > 1 and (
                not bottom[1] or count(bottom[1][1:]) != self.values)):
            raise self.spec.error(f"needs rows of {self.values} values; its bottoms are "
                                  f"{' and '.join(map(shape_text, bottom))}")
        out = bottom[1][0] if len(bottom) > 1 else self.declared[0].shape[0]
        return [(*bottom[0][: self.at], out)]

    def forward(self, x: Tensor, *centers: Tensor) -> Tensor:
        param = self.spec.get("inner_distance_param")
        weight = centers[0].reshape(len(centers[0]), -1) if centers else self.blobs()[0]
        if param.normalize and not centers:
            with torch.no_grad():
                weight.div_((weight.square().sum(1, keepdim=True) + 1e-6).sqrt())
        rows = x.reshape(-1, self.values)  # cdist does not hold a difference for each pair and value
        if param.distance_type == "L2":
            distance = torch.cdist(rows, weight, compute_mode="donot_use_mm_for_euclid_dist").square()
        else:
            distance = torch.cdist(rows, weight, p=1)
        return distance.view(*x.shape[: self.at], -1)
