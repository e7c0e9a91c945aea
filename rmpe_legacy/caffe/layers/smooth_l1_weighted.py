"""SmoothL1Loss with weights, as Fast R-CNN and the forks after it have it.

Sources: smooth_L1_loss_layer.{cpp,cu} of rbgirshick/caffe-fast-rcnn@4115385 and intel/caffe@44d5363.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import JUDGES, Layer, Shape, shape_text
from .loss import given
from .registry import Choice, chooses, register


@register("SmoothL1Loss", form="rcnn")
class WeightedSmoothL1Loss(Layer):
    """Sum of outside * f(inside * (a - b)) over N, f square below 1 / sigma^2 and linear beyond: (N, ...) -> a scalar.

    Bottoms: prediction, target, and perhaps the weights inside and outside. The loss_weight is 0 unless given, as
    published: its set-up does not call the one that makes it 1.
    """

    params: tuple[str, ...] = ("smooth_l1_loss_param",)
    bottoms = (2, 4)
    not_exportable = JUDGES
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        if len(bottom) == 3:
            raise self.spec.error("takes two bottoms or four, prediction, target, and both kinds of weights; not three")
        sigma = self.spec.get("smooth_l1_loss_param").sigma
        self.sigma2 = sigma * sigma

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(self.nchw(shape) != self.nchw(bottom[0]) for shape in bottom):
            raise self.spec.error("needs bottoms of the same size; they are " + ", ".join(map(shape_text, bottom)))
        return [()]

    def terms(self, a: Tensor, b: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each value and its derivative by the prediction, both in the prediction's shape.
        """
        inside, outside = [w.detach().reshape(a.shape) for w in weights] or [torch.ones_like(a)] * 2
        d = (a.detach() - b.detach().reshape(a.shape)) * inside
        near = d.abs() < 1 / self.sigma2
        value = torch.where(near, 0.5 * d * d * self.sigma2, d.abs() - 0.5 / self.sigma2)
        slope = torch.where(near, d * self.sigma2, d.sign())
        return value * outside, slope * inside * outside

    def normalizer(self, n: int) -> float:
        return n

    def forward(self, *bottoms: Tensor) -> Tensor:
        value, slope = self.terms(*bottoms)
        n, shape = self.normalizer(len(bottoms[0])), bottoms[1].shape
        rest = [None] * (len(bottoms) - 2)
        return given(value.sum() / n, lambda: (slope / n, -(slope / n).view(shape), *rest), *bottoms)


@register("SmoothL1Loss", form="fast-rcnn")
class FirstSmoothL1Loss(WeightedSmoothL1Loss):
    """The first form: with a third bottom, f(weight * (a - b)), with a Backward that omits the weight, as published."""

    bottoms = (2, 3)

    def setup(self, *bottom: Shape) -> None:
        self.sigma2 = 1.0

    def terms(self, a: Tensor, b: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        d = a.detach() - b.detach().reshape(a.shape)
        if weights:
            d = d * weights[0].detach().reshape(a.shape)
        return torch.where(d.abs() < 1, 0.5 * d * d, d.abs() - 0.5), torch.where(d.abs() < 1, d, d.sign())


@register("SmoothL1Loss", form="intel")
class IntelSmoothL1Loss(WeightedSmoothL1Loss):
    """The same; with loss_param { normalization: NONE } the sum is not divided."""

    params = ("loss_param", "smooth_l1_loss_param")

    def normalizer(self, n: int) -> float:
        return 1.0 if self.spec.get("loss_param").normalization == "NONE" else n


@chooses("SmoothL1Loss")
def _choose(spec: LayerSpec) -> Choice:
    """Two bottoms and no field: the form of RMPE and SSD; loss_weight defaults to 1. A second top is R-FCN's."""
    if len(spec.top) > 1:
        return Choice("rfcn")
    if len(spec.bottom) == 3:
        return Choice("rfcn", ("fast-rcnn",)) if spec.has("loss_param") else Choice("fast-rcnn", ("rfcn",))
    if len(spec.bottom) == 2 and not spec.has("smooth_l1_loss_param"):
        return Choice("", ("rcnn", "intel", "rfcn"))
    return Choice("intel", ("rcnn",)) if spec.has("loss_param") else Choice("rcnn", ("intel",))
