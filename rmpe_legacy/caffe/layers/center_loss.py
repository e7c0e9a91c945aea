"""The center loss. Sources: center_loss_layer.cpp of ydwen/caffe-face@48ff38e and happynear/caffe-windows@967eedf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import JUDGES, Layer, Shape, count, shape_text
from .registry import Choice, chooses, register


class _Center(torch.autograd.Function):
    """sum |x - center|^2 / M / 2; the centers' diff does not depend on the top's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, centers: Tensor, label: Tensor, repeats: bool) -> Tensor:
        distance = x.reshape(len(x), -1) - centers[label]
        ctx.save_for_backward(distance, label)
        ctx.centers, ctx.shape, ctx.repeats = len(centers), x.shape, repeats
        return (distance * distance).sum() / len(x) / 2

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        distance, label = ctx.saved_tensors
        seen = torch.bincount(label, minlength=ctx.centers).to(distance.dtype).unsqueeze(1)
        pull = distance.new_zeros(ctx.centers, distance.shape[1]).index_add(0, label, -distance) / (seen + 1)
        if ctx.repeats:
            pull = pull * seen
        return (distance * (dy / len(distance))).view(ctx.shape), pull, None, None


@register("CenterLoss", form="caffe-face")
class CenterLoss(Layer):
    """Half the mean squared distance of each row from its class's center: (M, ...), labels -> a scalar.

    Blob: the centers, (num_output, K). A center's diff is sum (center - x) / (number of rows + 1), whatever the
    loss_weight, which is 0 unless given.
    """

    params = ("center_loss_param",)
    bottoms = 2
    refuses = unforced = (1,)
    works_in_place = False
    not_exportable = JUDGES
    repeats = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("center_loss_param")
        self.first = self.axis(param.axis, len(bottom[0]))
        if param.num_output < 1:
            raise self.spec.error("needs num_output, the number of classes")
        self.declare("centers", (param.num_output, count(bottom[0][self.first:])), param.center_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][self.first:]) != self.declared[0].shape[1] or count(bottom[1]) != bottom[0][0]:
            raise self.spec.error("needs rows of the same length as its centers, and a label for each; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        (centers,) = self.blobs()
        index = label.detach().flatten().long()
        self.check_classes(index, len(centers))
        return _Center.apply(x, centers, index, self.repeats)


@register("CenterLoss", form="happynear")
class HappynearCenterLoss(CenterLoss):
    """The same; a class that has k rows adds its center's diff k times."""

    repeats = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("center_loss_param")
        if param.has("distance_type") and param.distance_type != "L2":
            raise self.spec.error(f"distance_type {param.distance_type} is not supported; only L2 is")
        super().setup(*bottom)


@chooses("CenterLoss")
def _choose(spec: LayerSpec) -> Choice:
    """The file does not distinguish the two; they differ in the centers' diff."""
    if spec.get("center_loss_param").has("distance_type"):
        return Choice("happynear")
    return Choice("caffe-face", ("happynear",), "a center's diff is counted once per class; in dialect 'happynear', "
                                                "once for each row of the class", "happynear")
