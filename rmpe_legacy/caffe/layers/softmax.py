"""Softmax along an axis. Sources: softmax_layer.cpp of RMPE@5188c23 and peteanderson80/caffe@eeafa98,
multi_softmax_layer.cpp of xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Count, Layer, Shape, count, shape_text
from .gradient import pointwise
from .registry import Choice, chooses, register


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
    bottoms: Count = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.axis(self.spec.get("softmax_param").axis, len(bottom[0]))
        return [bottom[0]]


@register("Softmax", form="up-down")
class SoftmaxOfFirst(Softmax):
    """The same, where a second bottom says for each softmax how many values count, from the first on; the others give
    0."""

    bottoms = (1, 2)
    unforced = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        tops = super().reshape(*bottom)
        if len(bottom) > 1:
            self.widths = (*bottom[0][: self.along], 1, *bottom[0][self.along + 1 :])
            if count(bottom[1]) != count(self.widths):
                raise self.spec.error(f"needs a number for each of {count(self.widths)} softmaxes; its second bottom "
                                      f"is {shape_text(bottom[1])}")
        return tops

    def forward(self, x: Tensor, widths: Tensor | None = None) -> Tensor:
        if widths is None:
            return super().forward(x)
        place = torch.arange(x.shape[self.along], device=x.device).view(-1, *[1] * (x.dim() - self.along - 1))
        hidden = place >= widths.detach().reshape(self.widths)
        return pointwise(x, lambda x: x.masked_fill(hidden, -torch.inf).softmax(self.along), self._back, self.in_place)


@chooses("Softmax")
def _choose(spec: LayerSpec) -> Choice:
    """Numbers as a second bottom are the captioner's."""
    return Choice("up-down") if len(spec.bottom) > 1 else Choice("", ("up-down",))


@register("MultiSoftmax", form="")
class MultiSoftmax(_Softmax):
    """The same over the channels of each place: (N, C, H, W) -> the same."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(self.nchw(tuple(x.shape))))
