"""Normalization of groups of channels. Source: layers/group_norm_layer.{cpp,cu} of
dongyf43/Spatio-Temporal-3D-CNN-for-lock-in-INDT@dd88f46."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("GroupNorm", form="")
class GroupNorm(Layer):
    """(x - mean) / sqrt(variance + eps), of each image's groups of channels: (N, C, ...) -> the same.

    The batch's own values in TRAIN and in TEST; there is no scale and no bias.
    """

    params = ("group_norm_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("group_norm_param")
        self.groups, self.eps = param.group_num, param.eps

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 2 or self.groups < 1 or bottom[0][1] % self.groups:
            raise self.spec.error(f"needs channels that {self.groups} groups share evenly; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        values = x.reshape(len(x) * self.groups, -1)
        centred = values - values.mean(1, keepdim=True)
        return (centred / (centred.square().mean(1, keepdim=True) + self.eps).sqrt()).view(x.shape)
