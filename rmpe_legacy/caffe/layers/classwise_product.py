"""Hash codes weighed by class, and their losses. Sources: classwise_product_layer.cpp,
multilabel_softmax_loss_layer.cpp and triplet_loss_layer.cpp of PKU-ICST-MIPL/QaDWH_TMM2018@248bbc4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.ops.losses import FLT_MIN

from .base import JUDGES, Layer, Shape, count, rows, shape_text
from .loss import Loss, given
from .registry import Choice, chooses, register


class _Weighed(torch.autograd.Function):
    """x times the mean of its classes' weights; each class's weights get the same share of the gradient, if its label
    is above 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, label: Tensor, size: Tensor) -> Tensor:
        mean = label @ weight / size
        ctx.save_for_backward(x, label, size, mean)
        return x * mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, label, size, mean = ctx.saved_tensors
        return dy * mean, (label > 0).to(dy).t() @ (dy * x / size), None, None


@register("ClassWiseProduct", form="")
class ClassWiseProduct(Layer):
    """Features (N, K) times weights (num_class, K) of their class, or the mean of those of their classes: labels (N,)
    or (N, num_class), 0 or 1 each -> (N, K, 1, 1). num_output is K. The bias is declared and not added, as published.
    """

    params = ("classwise_product_param",)
    bottoms = 2
    works_in_place = False
    refuses = unforced = (1,)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("classwise_product_param")
        values = count(bottom[0][1:])
        if values != param.num_output or param.num_class < 1:
            raise self.spec.error(f"needs num_output {values}, the values in a row of its bottom, and num_class above "
                                  "0")
        self.declare("weight", (param.num_class, values, 1, 1), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (1, values, 1, 1), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes, values = self.declared[0].shape[:2]
        n = self.nchw(bottom[0])[0]
        if count(bottom[0][1:]) != values or count(bottom[1]) not in (n, n * classes) or self.nchw(bottom[1])[0] != n:
            raise self.spec.error(f"needs features (N, {values}) and labels (N,) or (N, {classes}); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(n, values, 1, 1)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        weight = self.blobs()[0].flatten(1)
        features, label = rows(x), rows(label).detach()
        if label.shape[1] == 1 or label.dim() == 1:
            index = label.flatten().to(torch.int64)
            self.check_classes(index, len(weight))
            return (features * weight[index]).view(*features.shape, 1, 1)
        size = (label * label).sum(1, keepdim=True)
        return _Weighed.apply(features, weight, label.to(features), size.to(features)).view(*features.shape, 1, 1)


@register("MultiLabelSoftmaxWithLoss", form="")
class MultiLabelSoftmaxWithLoss(Loss):
    """Scores (N, ...) and labels of as many values -> the sum of -log(sigmoid) where the label is above 0, over N.

    As published, its gradient is that of the cross entropy, also where the label is not above 0, and takes no notice
    of the loss weight. A second top is the probabilities.
    """

    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        if count(bottom[0]) != count(bottom[1]):
            raise self.spec.error("needs as many labels as scores; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [(), bottom[0]][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        score = x.detach()
        probability = 1 / (1 + torch.exp(-score))
        is_set = label.detach().reshape(x.shape) > 0
        loss = torch.where(is_set, -probability.clamp(min=FLT_MIN).log(), 0).sum() / len(x)
        slope = (probability - is_set.to(x)) / len(x)
        loss = given(loss, lambda: (slope, None), x, label, weighted=False)
        return (loss, probability) if self.top_count == 2 else loss


@register("TripletLoss", form="rows")
class TripletLossOfRows(Layer):
    """Rows (N, K, 1, 1) in groups of num_triplets, of which the first three are an anchor, its like and its unlike ->
    half the mean of max(0, margin + |a - p|^2 - |a - n|^2). Labels are not read.

    As published, the gradient leaves out the margin between like and unlike, and rows of a group after its third, and
    those of groups without a loss, keep the gradient that they had: 0 here.
    """

    params = ("triplet_loss_param",)
    bottoms = 2
    is_loss = True
    works_in_place = False
    unforced = (1,)
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        group = self.spec.get("triplet_loss_param").num_triplets
        if group < 3 or not bottom[0] or bottom[0][0] % group or not bottom[0][0] or count(bottom[0][2:]) != 1:
            raise self.spec.error("needs num_triplets of 3 or more, and a multiple of as many rows (N, K); its bottom "
                                  f"is {shape_text(bottom[0])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        param = self.spec.get("triplet_loss_param")
        groups = rows(x).detach().view(-1, param.num_triplets, count(x.shape[1:]))
        near, far = groups[:, 0] - groups[:, 1], groups[:, 0] - groups[:, 2]
        each = param.margin + near.square().sum(1) - far.square().sum(1)
        active = (each > 0).view(-1, 1).to(x) / len(each)
        slope = torch.zeros_like(groups)
        slope[:, 0], slope[:, 1], slope[:, 2] = (near - far) * active, -near * active, far * active
        return given(each.clamp(min=0).sum() / (2 * len(each)), lambda: (slope.view(x.shape), None), x, label)


@chooses("TripletLoss")
def _choose(spec: LayerSpec) -> Choice:
    """Anchors and the others are bottoms of their own, or rows of one."""
    return Choice("") if len(spec.bottom) == 3 else Choice("rows")
