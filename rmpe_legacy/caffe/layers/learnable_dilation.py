"""Dilations that are learnt: cut to a range, and one for each place. Sources: {truncation,duplicate}_layer.cu of
SSAW14/LearnableDilationNetwork@4838c44, whose CPU code of the first exchanges both ends, and of the second is empty."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import MAX_COUNT, Layer, Shape, count, shape_text
from .conv import Convolution
from .gradient import pointwise
from .registry import register
from .uncomputed import Uncomputed


@register("Truncation", form="")
class Truncation(Layer):
    """Values cut to truncation_min to truncation_max, any shape. What lies above gets the gradient only where it is
    positive, what lies below only where it is negative: the step that leads back into the range."""

    params = ("truncation_param",)
    exact = True

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("truncation_param")
        low, high = param.truncation_min, param.truncation_max

        def back(x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return torch.where(x > high, dy.clamp(min=0), torch.where(x < low, dy.clamp(max=0), dy))

        return pointwise(x, lambda x: x.clamp(min=low).clamp(max=high), back, self.in_place)


@register("Duplicate", form="")
class Duplicate(Layer):
    """(N, C, 1, 1) -> (N, C, height, width), the same value at each place."""

    params = ("duplicate_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("duplicate_param")
        if not (1 <= param.height <= MAX_COUNT and 1 <= param.width <= MAX_COUNT):
            raise self.spec.error(f"needs height and width of at least 1, not {param.height:g} and {param.width:g}")
        if len(bottom[0]) < 2 or count(bottom[0][2:]) != 1:
            raise self.spec.error(f"needs a bottom (N, C, 1, 1), not {shape_text(bottom[0])}")
        return [(*bottom[0][:2], int(param.height), int(param.width))]

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("duplicate_param")
        return x.reshape(*x.shape[:2], 1, 1).repeat(1, 1, int(param.height), int(param.width))


@register("Convolution", form="trained-dilation")
class DilatedConvolution(Uncomputed):
    """Images (N, C, H, W) and a map of dilations -> (N, num_output, H', W'), as without the map. Source:
    conv_layer.cpp of the same repository."""

    params = ("convolution_param",)
    bottoms, tops = 2, 1

    def setup(self, *bottom: Shape) -> None:
        self.plain = Convolution(self.spec)
        self.plain.setup(*bottom)
        self.declared = self.plain.declared

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.plain.reshape(bottom[0])
