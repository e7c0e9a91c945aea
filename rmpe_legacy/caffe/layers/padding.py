"""DeepLab's border. Source: padding_layer.cpp of TheLegendAli/DeepLab-Context@fb04e9e."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Padding", form="")
class Padding(Layer):
    """Adds pad_beg zeros before and pad_end after each row and column, or cuts as many off where they are negative:
    (N, C, H, W) -> (N, C, H + pad_beg + pad_end, W + pad_beg + pad_end)."""

    params = ("padding_param",)
    works_in_place = False
    exact = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("padding_param")
        self.begin, self.end = param.pad_beg, param.pad_end
        if self.begin * self.end < 0:
            raise self.spec.error("pad_beg and pad_end must not differ in sign")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        h, w = h + self.begin + self.end, w + self.begin + self.end
        if min(h, w) < 1:
            raise self.spec.error(f"cuts more off than its bottom has, {shape_text(bottom[0])}")
        return [(n, c, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x.reshape(self.nchw(tuple(x.shape))), (self.begin, self.end) * 2)
