"""Softmax along an axis. Sources: softmax_layer.cpp of RMPE@5188c23, multi_softmax_layer.cpp of
xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape
from .gradient import pointwise
from .registry import register


class _Softmax(Layer):
    """Base: exp(x - max) divided by its sum, along the axis `along`."""

    range01 = True
    along = 1

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, lambda x: x.softmax(self.along), self._back, self.in_place)

    def _back(self, _x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        return (dy - (dy * y).sum(self.along, keepdim=True)) * y


@register("Softmax")
class Softmax(_Softmax):
    """exp(x - max) divided by its sum, along `axis`."""

    params = ("softmax_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        return [bottom[0]]


@register("MultiSoftmax", form="")
class MultiSoftmax(_Softmax):
    """The same over the channels of each place: (N, C, H, W) -> the same."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(self.nchw(tuple(x.shape))))
