"""Channels moved into blocks of pixels. Source: periodic_shuffle_layer.cpp of Wangyupei/CED@a7ce091."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("PeriodicShuffle", form="")
class PeriodicShuffle(Layer):
    """(N, C * g^2, H, W) -> (N, C, H * g, W * g), C being num_output and g group_size: channel
    (row * g + column) * C + c has the places (row, column) of the blocks of channel c."""

    params = ("periodic_shuffle_param",)
    works_in_place = False
    exact = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("periodic_shuffle_param")
        self.block = param.group_size
        if param.num_output < 1 or self.block < 1:
            raise self.spec.error("needs num_output and group_size above 0")
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        made, block = self.spec.get("periodic_shuffle_param").num_output, self.block
        if c != made * block**2:
            raise self.spec.error(f"num_output {made} and group_size {block} need {made * block**2} channels; its "
                                  f"bottom is {shape_text(bottom[0])}")
        return [(n, made, h * block, w * block)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        block = self.block
        parts = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // block**2, h * block, w * block)
