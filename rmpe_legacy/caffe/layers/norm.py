"""The channels of each place, divided by their length. Source: norm_layer.cpp of
xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .gradient import pointwise
from .registry import register

LEAST = 1e-6  # added to a length, and in Backward to its cube


@register("Norm", form="")
class Norm(Layer):
    """x / (|x| + 1e-6), with |x| over the channels: (N, C, H, W) -> the same."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x.reshape(self.nchw(tuple(x.shape))), self._value, self._back, self.in_place)

    def _value(self, x: Tensor) -> Tensor:
        return x / (x.square().sum(1, keepdim=True).sqrt() + LEAST)

    def _back(self, x: Tensor, _y: Tensor, dy: Tensor) -> Tensor:
        energy = x.square().sum(1, keepdim=True)
        return (energy * dy - x * (x * dy).sum(1, keepdim=True)) / (energy * energy.sqrt() + LEAST)
