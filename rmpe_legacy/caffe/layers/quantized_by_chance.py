"""Convolutions and matrices with binary and ternary weights.

Sources: conv_layer_{binary,ternary}.cu, inner_product_layer_{binary,ternary}.cu and lowbit_functions.cu of
dongyp13/Stochastic-Quantization@fa384c1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Layer, Shape
from .conv import Convolution
from .inner_product import InnerProduct
from .registry import register


class QuantizedByChance(Layer):
    """Base: computes with quantised weights. With sq and a ratio below 100, that share in percent of the outputs is
    quantised, and of the others each forward draws which: by how much quantising changes them, in TEST too.

    The weights' gradient is the quantised ones'. This is the GPU's code: the published CPU code does not quantise.
    """

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get(self.params[0])
        self.real = 1 - param.ratio / 100 if param.sq else 0.0

    @property
    def drawn(self) -> int:
        """How many outputs each forward draws."""
        return int(self.real * self.num_output)

    def quantized(self, rows: Tensor) -> Tensor:
        """Return weights (outputs, inputs) rounded."""
        raise NotImplementedError

    def blobs(self) -> list[Tensor]:
        """Return the weights as they are used, and the bias."""
        weight, *bias = super().blobs()
        rows = weight.detach().reshape(self.num_output, -1)
        used = self.quantized(rows)
        if self.drawn > 0:
            total = rows.abs().sum(1)
            error = torch.where(total > 0, (rows - used).abs().sum(1) / total, 0)
            drawn = min(self.drawn, int((error > 0).sum()))
            if drawn > 0:
                kept = torch.multinomial(error, drawn)
                used[kept] = rows[kept]
        used = used.view(weight.shape)
        return [weight - weight.detach() + used if weight.requires_grad else used, *bias]


class _Binary(QuantizedByChance):
    """Base: the sign times the mean absolute weight of an output."""

    def quantized(self, rows: Tensor) -> Tensor:
        return torch.where(rows >= 0, 1.0, -1.0) * rows.abs().mean(1, keepdim=True)


class _Ternary(QuantizedByChance):
    """Base: the sign of weights beyond 0.7 times the mean deviation from the mean of all, times the mean absolute
    weight of these; 0 for the others."""

    def quantized(self, rows: Tensor) -> Tensor:
        large = rows.abs() > (rows - rows.mean()).abs().mean() * 0.7
        size = torch.where(large, rows.abs(), 0).sum(1, keepdim=True) / large.sum(1, keepdim=True).clamp(min=1)
        return torch.where(large, rows.sign(), 0) * size


@register("BinaryConvolution", form="")
class BinaryConvolution(_Binary, Convolution):
    """Convolution by signs times a number for each output."""

    params = ("convolution_param",)


@register("TernaryConvolution", form="")
class TernaryConvolution(_Ternary, Convolution):
    """Convolution by -1, 0 and 1 times a number for each output."""

    params = ("convolution_param",)


@register("BinaryInnerProduct", form="")
class BinaryInnerProduct(_Binary, InnerProduct):
    """InnerProduct by signs times a number for each output."""

    params = ("inner_product_param",)


@register("TernaryInnerProduct", form="")
class TernaryInnerProduct(_Ternary, InnerProduct):
    """InnerProduct by -1, 0 and 1 times a number for each output."""

    params = ("inner_product_param",)
