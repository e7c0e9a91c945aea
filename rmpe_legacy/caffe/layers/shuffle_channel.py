"""Channels of several groups, one of each in turn.

Source: shuffle_channel_layer.cpp of farmingyard/ShuffleNet@b962444.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("ShuffleChannel", form="")
class ShuffleChannel(Layer):
    """Channel i * (C / group) + j goes to j * group + i: (N, C, H, W) -> the same."""

    params = ("shuffle_channel_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.group = self.spec.get("shuffle_channel_param").group
        if len(bottom[0]) < 2 or self.group < 1 or bottom[0][1] % self.group:
            raise self.spec.error(f"group {self.group} does not divide the channels of a bottom of "
                                  f"{shape_text(bottom[0])}")
        return bottom

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        return x.view(n, self.group, c // self.group, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
