"""Rearranges the windows of a convolution into channels. Source: im2col_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .base import Shape, shape_text
from .base_conv import Windowed
from .registry import register


@register("Im2col")
class Im2col(Windowed):
    """Rearranges the windows of a convolution into channels: (..., C, spatial) -> (..., C * kernel, grid)."""

    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if not self.kernel:
            raise self.spec.error(f"needs an axis after the channels; its bottom is {shape_text(bottom[0])}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != self.channel_axis + 1 + len(self.kernel):
            raise self.spec.error(f"was set up for {len(self.kernel)} spatial axes; its bottom is "
                                  f"{shape_text(bottom[0])}")
        lead, channels = bottom[0][: self.channel_axis], bottom[0][self.channel_axis]
        return [(*lead, channels * math.prod(self.kernel), *self.spatial(bottom[0]))]

    def forward(self, x: Tensor) -> Tensor:
        lead, dims = x.shape[: self.channel_axis], len(self.kernel)
        windows = self.windows(x.reshape(math.prod(lead), *x.shape[self.channel_axis :]))
        grid = range(2, 2 + dims)
        y = windows.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *grid)
        return y.reshape(*lead, math.prod(y.shape[1 : 2 + dims]), *y.shape[2 + dims :])
