"""Bilinear interpolation to another blob's size. Source: bilinear_layer.cpp of ctensmeyer/caffe@19fcdb2."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("BilinearInterpolation", form="")
class BilinearInterpolation(Layer):
    """(N, C, H, W) and a blob of height h and width w -> (N, C, h, w); corners are kept.

    Differs: h and w must be above 1, since the published code divides by h - 1 and w - 1.
    """

    bottoms = 2
    unforced = (1,)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 for shape in bottom) or min(bottom[1][2:]) < 2 or 0 in bottom[0][2:]:
            raise self.spec.error("needs two blobs (N, C, H, W) with values, the second with height and width above 1; "
                                  "its bottoms are " + ", ".join(map(shape_text, bottom)))
        self.size = tuple(bottom[1][2:])
        return [(*bottom[0][:2], *self.size)]

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, self.size, mode="bilinear", align_corners=True)
