"""ArcFace's margins on the cosine of a row's own class, and rows of length 1. Sources: cosin_add_m_layer.cpp,
combined_margin_layer.cpp, AdaCos/adacos_add_m_scale_layer.cpp and AdaCos/normL2_layer.cpp of
xialuxi/arcface-caffe@30ba26a."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .registry import register


@register("NormL2", form="")
class NormL2(Layer):
    """Each image by its length: (N, C, H, W), or with fewer axes -> x / sqrt(sum of x^2 + 1e-7), with four."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(self.nchw(tuple(x.shape)))
        return x / (x.square().sum((1, 2, 3), keepdim=True) + 1e-7).sqrt()


class _Margin(Layer):
    """A margin on the cosine of each row's own class: cosines (N, K) and labels (N) -> (N, K).

    A label below 0 leaves its row as it is, where `negative_labels` are allowed.
    """

    bottoms = 2
    negative_labels = True
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or count(bottom[1]) != bottom[0][0]:
            raise self.spec.error("needs a label for each row; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [bottom[0]]

    def forward(self, cosines: Tensor, label: Tensor) -> Tensor:
        flat, (rows, own) = cosines.reshape(len(cosines), -1), self._own(cosines, label)
        value, slope = self.margin(flat.detach()[rows, own])
        values, slopes = flat.detach().clone(), torch.ones_like(flat)
        values[rows, own], slopes[rows, own] = value, slope
        values, slopes = self.scaled(flat.detach(), values, slopes, (rows, own))
        way = flat * slopes  # of the gradient alone
        return (values + (way - way.detach())).view(cosines.shape)

    def _own(self, cosines: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The rows with a label, and their labels."""
        labels = label.detach().reshape(-1).long()
        rows = (labels >= 0 if self.negative_labels else torch.ones_like(labels)).nonzero()[:, 0]
        self.check_classes(labels[rows], count(tuple(cosines.shape[1:])))
        return rows, labels[rows]

    def margin(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        """What the cosines of own classes become, and the published derivatives."""
        raise NotImplementedError

    def scaled(self, cosines: Tensor, values: Tensor, slopes: Tensor, own: tuple[Tensor, Tensor]
               ) -> tuple[Tensor, Tensor]:
        """Values and slopes as the layer gives them."""
        return values, slopes


def _add_angle(cosine: Tensor, m: float) -> tuple[Tensor, Tensor]:
    """cos(angle + m) while that falls, else cos - m sin(m); and the published derivative, 1 where the sine is 0."""
    cosine_or_one = cosine.clamp(max=1)
    sine = (1 - cosine_or_one.square()).sqrt()
    beyond = cosine_or_one <= math.cos(math.pi - m)
    value = torch.where(beyond, cosine_or_one - math.sin(math.pi - m) * m,
                        cosine_or_one * math.cos(m) - sine * math.sin(m))
    slope = math.cos(m) + math.sin(m) * cosine_or_one / torch.where(sine == 0, 1, sine)
    return value, torch.where(beyond | (sine == 0), 1, slope)


@register("CosinAddm", form="")
class CosinAddm(_Margin):
    """ArcFace: the angle of the own class grows by m, in TEST too."""

    params = ("cosin_add_m_param",)
    negative_labels = False

    def margin(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        return _add_angle(cosine, self.spec.get("cosin_add_m_param").m)


@register("CombinedMargin", form="")
class CombinedMargin(_Margin):
    """cos(m1 * angle + m2) - m3 of the own class, in TEST too."""

    params = ("combined_margin_param",)

    def margin(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        param = self.spec.get("combined_margin_param")
        angle = param.m1 * cosine.acos() + param.m2
        return angle.cos() - param.m3, param.m1 * (1 - cosine.square()).rsqrt() * angle.sin()


@register("AdaCosAddmScale", form="")
class AdaCosAddmScale(_Margin):
    """AdaCos: the angle of the own class grows by m, then all is multiplied by a scale that each forward adapts.

    It starts at sqrt(2) log(num_classes - 1), and becomes log(sum of exp(scale * cosine) / N) / cos(mean angle), of
    which own classes count as exp(0) and the mean angle is of all classes, at most pi / 4.
    """

    params = ("adacos_add_m_scale_param",)

    def setup(self, *bottom: Shape) -> None:
        classes = self.spec.get("adacos_add_m_scale_param").num_classes
        if classes < 2:
            raise self.spec.error(f"needs num_classes of 2 or more, not {classes:g}")
        self.scale = math.sqrt(2) * math.log(classes - 1)

    def margin(self, cosine: Tensor) -> tuple[Tensor, Tensor]:
        return _add_angle(cosine, self.spec.get("adacos_add_m_scale_param").m)

    def scaled(self, cosines: Tensor, values: Tensor, slopes: Tensor, own: tuple[Tensor, Tensor]
               ) -> tuple[Tensor, Tensor]:
        angle = cosines.acos().mean().clamp(max=math.pi / 4)
        others = cosines.clone()
        others[own] = 0
        self.scale = float((others.mul(self.scale).exp().sum() / len(cosines)).log() / angle.cos())
        return values * self.scale, slopes * self.scale
