"""Element-wise sum, product or maximum. Source: eltwise_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import FLT_MAX, Layer, Shape, shape_text
from .gradient import Memory
from .registry import Choice, chooses, register


@register("Eltwise")
class Eltwise(Layer):
    """Bottoms of one shape -> a top of that shape. At a tie of MAX, bottom 1 wins over 0, else the earlier one.

    In place, the published code clears the top, which is bottom 0, before it reads it: SUM and MAX only use the other
    bottoms. Backward writes the diffs in the bottoms' order, and bottom 0's over the top's.
    MAX takes no notice of coeff.
    """

    params = ("eltwise_param",)
    bottoms = (2, None)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("eltwise_param")
        self.operation, self.stable = param.operation, param.stable_prod_grad
        self.coeff = tuple(param.coeff) or (1.0,) * len(bottom)
        if len(self.coeff) != len(bottom):
            raise self.spec.error(f"has {len(self.coeff)} coefficients for {len(bottom)} bottoms; give one per bottom")
        if param.coeff and self.operation == "PROD":
            raise self.spec.error("coeff goes with operation SUM, not PROD; remove it")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(shape != bottom[0] for shape in bottom):
            raise self.spec.error("its bottoms differ in shape: " + ", ".join(map(shape_text, bottom)))
        return [bottom[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.operation == "SUM":
            return self._sum(bottoms)
        if self.operation == "PROD":
            return self._product(bottoms)
        return _MaxInPlace.apply(*bottoms) if self.in_place else _maximum(bottoms)

    def _sum(self, bottoms: Sequence[Tensor]) -> Tensor:
        if self.in_place:
            return _SumInPlace.apply(self.coeff, *bottoms)
        return _fold(torch.add, [x if c == 1 else x * c for x, c in zip(bottoms, self.coeff, strict=True)])

    def _product(self, bottoms: Sequence[Tensor]) -> Tensor:
        if self.stable and not self.in_place:
            return _fold(torch.mul, bottoms)
        memory = Memory()
        return memory.belongs_to(_Product.apply(self.stable, self.in_place, memory, *bottoms))


@register("Eltwise", form="flownet")
class EltwiseOfFlowNet(Eltwise):
    """FlowNet's: SUM also takes a single bottom, which it multiplies by its coeff. Source: eltwise_layer.{hpp,cpp} of
    lmb-freiburg/flownet2@b92e198 and twhui/LiteFlowNet@e7d6c43."""

    bottoms = (1, None)

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if len(bottom) == 1 and (self.operation != "SUM" or self.in_place):
            raise self.spec.error("takes a single bottom only with operation SUM, and not in place")


def _fold(op, terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = op(total, term)
    return total


def _maximum(bottoms: Sequence[Tensor]) -> Tensor:
    first = torch.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
    return _fold(lambda a, b: torch.where(b > a, b, a), (first, *bottoms[2:]))


class _SumInPlace(torch.autograd.Function):
    """SUM whose bottom 0 is cleared before it is added, and whose top diff is scaled by bottom 0's coefficient."""

    @staticmethod
    def forward(ctx: Any, coeff: Sequence[float], *bottoms: Tensor) -> Tensor:
        ctx.coeff = coeff
        return _fold(torch.add, [x * c for x, c in zip(bottoms[1:], coeff[1:], strict=True)])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.needs_input_grad[1]:
            dy = dy * ctx.coeff[0]
        return None, dy, *(dy * c for c in ctx.coeff[1:])


class _MaxInPlace(torch.autograd.Function):
    """MAX whose bottom 0 is -FLT_MAX by the time it is compared, and whose own diff clears the top's."""

    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        best = torch.full_like(bottoms[0], -FLT_MAX)
        index = torch.zeros_like(best, dtype=torch.int64)
        for i, x in enumerate(bottoms[1:], 1):
            wins = ~(best > x) if i == 1 else x > best
            best, index = torch.where(wins, x, best), index.masked_fill(wins, i)
        ctx.save_for_backward(index)
        ctx.count = len(bottoms)
        return best

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        index, = ctx.saved_tensors
        if ctx.needs_input_grad[0]:
            dy = dy * (index == 0)
        return dy, *(dy * (index == i) for i in range(1, ctx.count))


class _Product(torch.autograd.Function):
    """PROD with its published Backward: the others' product (stable), or top / bottom: nan where a bottom is 0."""

    @staticmethod
    def forward(ctx: Any, stable: bool, in_place: bool, memory: Memory, *bottoms: Tensor) -> Tensor:
        top = _fold(torch.mul, bottoms)
        ctx.stable, ctx.in_place, ctx.memory = stable, in_place, memory
        ctx.save_for_backward(top, *bottoms)
        return top

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        top, *bottoms = ctx.saved_tensors
        top = ctx.memory.read(top)
        if ctx.in_place:
            bottoms[0] = top
        diffs = []
        for i, x in enumerate(bottoms):
            others = bottoms[:i] + bottoms[i + 1 :]
            factor = _fold(torch.mul, others) if ctx.stable else top / x
            if i == 0 and ctx.in_place and ctx.needs_input_grad[3]:
                dy = factor * factor  # bottom 0's diff is the top's: the factor is written over it, and then times it
                diffs.append(dy)
            else:
                diffs.append(factor * dy)
        return None, None, None, *diffs


@register("Eltwise", form="lrcn")
class WeightedSum(Layer):
    """The sum of the bottoms but the last, times coeff and times what the last one holds: bottoms of one shape, and
    coefficients (bottoms - 1, ...), whose further axes are the bottoms' first ones -> a top of that shape.

    The coefficients get no gradient. Differs: on a CPU the published Backward reads beyond its top for every bottom but
    the first; here each has its gradient, as on a GPU. Source: eltwise_layer.cpp of LisaAnne/lisa-caffe-public@49b8643.
    """

    params = ("eltwise_param",)
    bottoms = (2, None)
    works_in_place = False

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return cls if spec.get("eltwise_param").coeff_blob else Eltwise.for_spec(spec)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("eltwise_param")
        self.coeff = tuple(param.coeff) or (1.0,) * (len(bottom) - 1)
        if param.operation != "SUM":
            raise self.spec.error(f"coeff_blob goes with operation SUM, not {param.operation}")
        if len(self.coeff) != len(bottom) - 1:
            raise self.spec.error(f"has {len(self.coeff)} coefficients for {len(bottom) - 1} bottoms; give one per "
                                  "bottom except the last")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        *terms, factors = bottom
        if any(shape != terms[0] for shape in terms):
            raise self.spec.error("its bottoms differ in shape: " + ", ".join(map(shape_text, terms)))
        if not factors or factors[0] != len(terms) or factors[1:] != terms[0][: len(factors) - 1]:
            raise self.spec.error(f"its last bottom needs a coefficient for each of {len(terms)} bottoms, and further "
                                  f"axes like the first ones of {shape_text(terms[0])}, but is {shape_text(factors)}")
        return [terms[0]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        *terms, factors = bottoms
        spread = (1,) * (terms[0].dim() - factors.dim() + 1)
        factors = factors.detach().reshape(*factors.shape, *spread)
        return _fold(torch.add, [x * (factor * c) for x, factor, c in zip(terms, factors, self.coeff, strict=True)])


@register("Eltwise", form="difference")
class EltwiseDifference(Eltwise):
    """The same with SUBTRACT: bottom 0 minus bottom 1. Source: eltwise_layer.cpp of RojunLin/R-3CNN@bc13b36."""

    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if self.operation == "SUBTRACT" and len(bottom) != 2:
            raise self.spec.error(f"SUBTRACT takes two bottoms, but is given {len(bottom)}")

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] - bottoms[1] if self.operation == "SUBTRACT" else super().forward(*bottoms)


@chooses("Eltwise")
def _choose(spec: LayerSpec) -> Choice:
    """Coefficients as the last bottom are LRCN's; otherwise, a single bottom can only be FlowNet's."""
    if spec.get("eltwise_param").operation == "SUBTRACT":
        return Choice("difference")
    if spec.get("eltwise_param").fields.get("coeff_blob"):
        return Choice("lrcn")
    return Choice("flownet") if len(spec.bottom) == 1 else Choice("", ("flownet", "lrcn", "difference"))
