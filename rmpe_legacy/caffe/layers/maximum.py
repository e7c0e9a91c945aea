"""The place of the maximum. Source: maximum_layer.cpp of CMU-Perceptual-Computing-Lab/caffe_rtpose@a4778bb."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Maximum", form="")
class Maximum(Layer):
    """x, y and value of the largest value of each plane: (N, C, H, W) -> (N, C, 1, 3). It must be above the smallest
    positive number, else x and y are 0 and the value is that number, as published."""

    refuses = (0,)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return [(*bottom[0][:2], 1, 3)]

    def forward(self, x: Tensor) -> Tensor:
        least = torch.finfo(torch.float32).tiny
        value, at = x.detach().flatten(2).max(2)
        found = value > least
        at, value = torch.where(found, at, 0), torch.where(found, value, least)
        w = x.shape[3]
        top = torch.stack([(at % w).to(x), (at // w).to(x), value], 2).unsqueeze(2)
        return top if not x.requires_grad else top.requires_grad_()
