"""Sum, product or maximum of bottoms, value by value. Source: eltwise_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Eltwise")
class Eltwise(Layer):
    """Bottoms of one shape -> a top of that shape. At a tie of MAX, bottom 1 wins over 0, else the earlier one."""

    bottoms = (2, None)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("eltwise_param")
        self.operation, self.coeff = param.operation, tuple(param.coeff)
        if self.operation not in ("PROD", "SUM", "MAX"):
            raise self.spec.error(f"operation {self.operation} is not supported; Caffe has PROD, SUM and MAX")
        if self.coeff and len(self.coeff) != len(bottom):
            raise self.spec.error(f"has {len(self.coeff)} coefficients for {len(bottom)} bottoms")
        if self.coeff and self.operation == "PROD":
            raise self.spec.error("coeff goes with operation SUM, not PROD")
        self.stable = param.stable_prod_grad

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(shape != bottom[0] for shape in bottom):
            raise self.spec.error("its bottoms differ in shape: " + ", ".join(map(shape_text, bottom)))
        return [bottom[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.operation == "SUM":
            terms = [x if c == 1 else x * c for x, c in zip(bottoms, self.coeff or [1] * len(bottoms), strict=True)]
            return _fold(torch.add, terms)
        if self.operation == "PROD":
            return _fold(torch.mul, bottoms) if self.stable else _QuotientProduct.apply(*bottoms)
        return _fold(lambda a, b: torch.where(b > a, b, a),
                     (torch.where(bottoms[0] > bottoms[1], *bottoms[:2]), *bottoms[2:]))


def _fold(op, terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = op(total, term)
    return total


class _QuotientProduct(torch.autograd.Function):
    """A product whose gradient is top / bottom (stable_prod_grad: false): not a number where a bottom is 0."""

    @staticmethod
    def forward(ctx, *bottoms: Tensor) -> Tensor:
        top = _fold(torch.mul, bottoms)
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, ...]:
        top, *bottoms = ctx.saved_tensors
        return tuple(top / x * grad for x in bottoms)
