"""What AM-Softmax networks do with scores. Sources: channel_scale_layer.cpp and label_specific_add.cpp of
happynear/caffe-windows@967eedf."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .registry import register


@register("ChannelScale", form="")
class ChannelScale(Layer):
    """Each place of (N, C, H, W) times its factor of the second bottom, (N, 1, H, W); with global_scale, all times one
    number, a parameter that does not learn, held between min_global_scale and max_global_scale.

    do_forward, do_backward_feature and do_backward_scale switch parts of it off.
    """

    params = ("channel_scale_param",)
    bottoms, tops = 2, (1, 2)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("channel_scale_param")
        if self.param.global_scale:
            self.declare("scale", (1,), -1.0, learns=False)
        elif self.top_count > 1:
            raise self.spec.error("has a second top only with global_scale")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        if count(bottom[1]) != n * h * w:
            raise self.spec.error(f"needs a factor for each of {n * h * w} positions; its second bottom is "
                                  f"{shape_text(bottom[1])}")
        return [bottom[0], (1,)][: self.top_count]

    def forward(self, x: Tensor, scale: Tensor) -> Tensor | tuple[Tensor, ...]:
        n, c, h, w = self.nchw(tuple(x.shape))
        factor = scale.reshape(n, 1, h, w).expand(n, c, h, w).reshape(x.shape)
        value = x.detach()
        if self.param.do_forward and not self.param.global_scale:
            value = value * factor.detach()
        tops: tuple[Tensor, ...] = ()
        if self.param.global_scale:
            (number,) = self.blobs()
            with torch.no_grad():
                number.clamp_(self.param.min_global_scale, self.param.max_global_scale)
            value = value * number.detach() if self.param.do_forward else value
            tops = (number.detach().clone(),)
        way = x * (factor.detach() if self.param.do_backward_feature else 1)  # of the gradient alone
        if self.param.do_backward_scale:
            way = way + factor * x.detach()
        return ((way - way.detach() + value), *tops)[: self.top_count]


@register("LabelSpecificAdd", form="")
class LabelSpecificAdd(Layer):
    """Adds bias to each row's score at its label, where that is above -bias: (N, K), labels -> (N, K), and as a second
    top the bias. In TEST it does nothing, as published, transform_test or not.

    With bias_base the bias grows in each forward: bias_base + (1 + bias_gamma * iteration)^bias_power - 1, within
    bias_min and bias_max. In place its gradient is the top's too.
    """

    params = ("label_specific_add_param",)
    bottoms, tops = 2, (1, 2)
    unforced = (1,)
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("label_specific_add_param")
        self.iteration = self.param.iteration if "iteration" in self.param.descriptor.fields else 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or count(bottom[1]) != bottom[0][0]:
            raise self.spec.error("needs a label for each row; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [bottom[0], (1,)][: self.top_count]

    def forward(self, x: Tensor, label: Tensor) -> Tensor | tuple[Tensor, ...]:
        p, bias = self.param, self.param.bias
        flat = x.reshape(len(x), -1)
        top = flat
        if self.spec.phase == "TRAIN":
            if p.has("bias_base"):
                bias = min(max(p.bias_base + (1 + p.bias_gamma * self.iteration) ** p.bias_power - 1, p.bias_min),
                           p.bias_max)
                self.iteration += 1
            index = label.detach().reshape(-1, 1).long()
            if index.numel() and not 0 <= index.min() <= index.max() < flat.shape[1]:
                raise self.spec.error(f"its labels go from {index.min()} to {index.max()}; its scores are for "
                                      f"{flat.shape[1]} classes")
            added = torch.where(flat.detach().gather(1, index) > -bias, bias, 0.0).to(flat)
            top = flat + torch.zeros_like(flat).scatter(1, index, added)
        return (top.view(x.shape), x.new_full((1,), bias))[: self.top_count]
