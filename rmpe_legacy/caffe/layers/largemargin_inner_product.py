"""The angular margin of L-Softmax. Source: largemargin_inner_product_layer.cpp of
wy1iu/LargeMargin_Softmax_Loss@c3e9f20."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .margin_inner_product import ANGLES, Angle, MarginInnerProduct
from .registry import register

LEAST = 1e-9  # added to products of lengths


class _Margin(torch.autograd.Function):
    """Backward is the published derivative, which takes the sides of the angle as constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, label: Tensor, angle: Angle, ease: float) -> Tensor:
        plain = x @ weight.t()
        x_length, w_length = x.square().sum(1).sqrt(), weight[label].square().sum(1).sqrt()
        lengths = x_length * w_length + LEAST
        value, along_other, along_own = angle(plain.gather(1, label.unsqueeze(1))[:, 0] / lengths)
        ctx.save_for_backward(x, weight, label, along_other, along_own * x_length / (w_length + LEAST),
                              along_own * w_length / (x_length + LEAST))
        ctx.ease = ease
        return (plain.scatter(1, label.unsqueeze(1), (lengths * value).unsqueeze(1)) + ease * plain) / (1 + ease)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, label, along_other, along_weight, along_x = ctx.saved_tensors
        own = dy.gather(1, label.unsqueeze(1))
        others = dy.scatter(1, label.unsqueeze(1), 0)
        along_other, along_weight, along_x = (v.unsqueeze(1) for v in (along_other, along_weight, along_x))
        dx = others @ weight + own * (along_other * weight[label] - along_x * x) + ctx.ease * (dy @ weight)
        dw = others.t() @ x + ctx.ease * (dy.t() @ x)
        dw = dw.index_add(0, label, own * (along_other * x - along_weight * weight[label]))
        return dx / (1 + ctx.ease), dw / (1 + ctx.ease), None, None, None


@register("LargeMarginInnerProduct", form="")
class LargeMarginInnerProduct(MarginInnerProduct):
    """|w| |x| psi(angle) for the class of the label, the inner product for the others: (N, ...) and labels (N) ->
    (N, num_output), and lambda (1).

    psi falls with m times the angle, m by `type` from 1 (SINGLE, a plain inner product) to 4. Unless `type` is SINGLE
    the top is (margin + lambda * plain) / (1 + lambda), where lambda falls with each forward from `base`:
    max(lambda_min, base * (1 + gamma * forwards)^-power).
    """

    params = ("largemargin_inner_product_param",)
    tops = 2

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        ease, (weight,) = self.ease(), self.blobs()
        index = label.detach().flatten().long()
        self.check_classes(index, self.param.num_output)
        rows = x.reshape(len(index), self.inputs)
        angle = ANGLES.get(self.param.type)
        y = rows @ weight.t() if angle is None else _Margin.apply(rows, weight, index, angle, ease)
        return y.view(*x.shape[: self.lead], self.param.num_output), x.new_tensor([ease])
