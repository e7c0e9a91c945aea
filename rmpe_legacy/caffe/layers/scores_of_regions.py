"""R*CNN's scores. Sources: sum_layer.cpp and mil_layer.cpp of gkioxari/caffe-fast-rcnn@7048851."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Sum", form="")
class Sum(Layer):
    """The sum of bottoms of one shape."""

    bottoms = (1, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(self.nchw(shape) != self.nchw(bottom[0]) for shape in bottom):
            raise self.spec.error(f"needs bottoms of one shape; they are {', '.join(map(shape_text, bottom))}")
        return [bottom[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        total = bottoms[0]
        for x in bottoms[1:]:
            total = total + x.view(total.shape)
        return total.clone() if len(bottoms) == 1 else total


class _Largest(torch.autograd.Function):
    """The largest along axis 1; each that is as large gets the whole gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.amax(1)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        return torch.where(x == y.unsqueeze(1), dy.unsqueeze(1), 0)


@register("MIL", form="")
class MIL(Layer):
    """(R * context_per_roi, C) -> (R, C, 1, 1): each region's largest scores among its contexts. Equal scores all get
    the gradient."""

    params = ("mil_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.each = self.spec.get("mil_param").context_per_roi
        if not self.each or len(bottom[0]) < 2 or any(size != 1 for size in bottom[0][2:]):
            raise self.spec.error("needs context_per_roi above 0 and scores (R * context_per_roi, C); its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [(bottom[0][0] // self.each, bottom[0][1], 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        regions = len(x) // self.each
        scores = x[: regions * self.each].reshape(regions, self.each, x.shape[1])
        return _Largest.apply(scores).view(regions, x.shape[1], 1, 1)
