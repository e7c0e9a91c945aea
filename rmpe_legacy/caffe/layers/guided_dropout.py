"""Dropout that a guidance steers. Source: guided_dropout_layer.cpp of minhpvo/Caffe@a87c1be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("GuidedDropout", form="")
class GuidedDropout(Layer):
    """x (N, C, ...) and a guidance (N, C): keeps some channels, times the channels per kept one.

    With type "deterministic", those whose guidance exceeds guidance_threshold, in TRAIN and TEST; an image without any
    is 0. With "stochastic", in TRAIN each with the probability sigmoid(sigmoid_scaler * guidance), whose sum counts as
    the number of those kept; in TEST it keeps all. torch's generator picks them.
    """

    params = ("guided_dropout_param",)
    bottoms = 2

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("guided_dropout_param")
        if param.type not in ("deterministic", "stochastic"):
            raise self.spec.error(f'type is "deterministic" or "stochastic", not "{param.type}"')
        self.threshold, self.scaler = param.guidance_threshold, param.sigmoid_scaler
        self.draws = param.type == "stochastic"
        self.drops = not self.draws or self.spec.phase == "TRAIN"
        self.not_exportable = "drops channels" if self.drops else ""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, guidance = bottom
        if len(x) < 2 or guidance[:2] != x[:2] or any(size != 1 for size in guidance[2:]):
            raise self.spec.error("needs a bottom (N, C, ...) and a guidance (N, C); its bottoms are "
                                  f"{shape_text(x)} and {shape_text(guidance)}")
        return [x]

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        if not self.drops:
            return x if self.in_place else x.view_as(x)
        guidance = guidance.detach().reshape(*x.shape[:2], *[1] * (x.dim() - 2))
        if self.draws:
            share = torch.sigmoid(guidance * self.scaler)
            kept = share.bernoulli()
        else:
            kept = share = (guidance > self.threshold).to(x)
        total = share.sum(1, keepdim=True)
        return x * kept * torch.where(total > 0, x.shape[1] / total, 1)
