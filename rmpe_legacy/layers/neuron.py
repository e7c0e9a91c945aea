"""Layers that work value by value: top and bottom have one shape, and may be one blob.

Sources: {relu,prelu,elu,sigmoid,tanh,absval,bnll,power,exp,log,threshold,dropout}_layer.cpp of RMPE@5188c23;
Clip and Swish of BVLC/caffe@9b89154.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape
from .registry import register


@register("ReLU")
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0)."""

    def setup(self, *bottom: Shape) -> None:
        self.slope = self.spec.get("relu_param").negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


@register("PReLU")
class PReLU(Layer):
    """ReLU whose negative slope is learnt, per channel or shared. (N, C, ...) -> the same."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("prelu_param")
        if len(bottom[0]) < 2:
            raise self.spec.error("needs a bottom with at least 2 axes")
        shape = () if param.channel_shared else (bottom[0][1],)
        self.declare("slope", shape, param.filler if param.has("filler") else 0.25)

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.blobs()[0].view(-1))


@register("ELU")
class ELU(Layer):
    """x where positive, else alpha * (exp(x) - 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.spec.get("elu_param").alpha)


@register("Sigmoid")
class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)


@register("TanH")
class TanH(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


@register("AbsVal")
class AbsVal(Layer):
    """Absolute value; its gradient at 0 is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


@register("BNLL")
class BNLL(Layer):
    """log(1 + exp(x)), without overflow for large x."""

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, threshold=torch.inf)


@register("Power")
class Power(Layer):
    """(shift + scale * x) ^ power. Where power * scale is 0: shift ^ power everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("power_param")
        if param.power * param.scale == 0:
            value = 1.0 if param.power == 0 else param.shift**param.power
            return torch.full_like(x, value) + 0 * x.detach()
        base = x if param.scale == 1 else x * param.scale
        base = base if param.shift == 0 else base + param.shift
        return base if param.power == 1 else base**param.power


@register("Exp")
class Exp(Layer):
    """base ^ (shift + scale * x); base -1 stands for e."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("exp_param")
        if param.base != -1 and param.base <= 0:
            raise self.spec.error(f"base {param.base} is not positive; -1 stands for e")
        log_base = 1.0 if param.base == -1 else math.log(param.base)
        self.inner = log_base * param.scale
        self.outer = math.exp(param.shift) if param.base == -1 else param.base**param.shift

    def forward(self, x: Tensor) -> Tensor:
        y = torch.exp(x if self.inner == 1 else x * self.inner)
        return y if self.outer == 1 else y * self.outer


@register("Log")
class Log(Layer):
    """log of (shift + scale * x) in a base; base -1 stands for e."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("log_param")
        if param.base != -1 and (param.base <= 0 or param.base == 1):
            raise self.spec.error(f"base {param.base} is not positive, or is 1; -1 stands for e")
        self.factor = 1.0 if param.base == -1 else 1 / math.log(param.base)

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("log_param")
        y = x if param.scale == 1 else x * param.scale
        y = torch.log(y if param.shift == 0 else y + param.shift)
        return y if self.factor == 1 else y * self.factor


@register("Threshold")
class Threshold(Layer):
    """1 where x > threshold, else 0. No gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.spec.get("threshold_param").threshold).to(x.dtype)


@register("Dropout")
class Dropout(Layer):
    """In TRAIN, zeroes each value with probability dropout_ratio and scales the rest by 1 / (1 - ratio)."""

    def setup(self, *bottom: Shape) -> None:
        self.ratio = self.spec.get("dropout_param").dropout_ratio
        if not 0 < self.ratio < 1:
            raise self.spec.error(f"dropout_ratio {self.ratio} is not between 0 and 1")

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.ratio) if self.spec.phase == "TRAIN" else x


@register("Clip", dialects=("bvlc",))
class Clip(Layer):
    """Limits values to min..max; no gradient outside."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("clip_param")
        if not (param.has("min") and param.has("max")):
            raise self.spec.error("clip_param needs min and max")
        self.min, self.max = param.min, param.max

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.min, self.max)


@register("Swish", dialects=("bvlc",))
class Swish(Layer):
    """x * sigmoid(beta * x)."""

    def forward(self, x: Tensor) -> Tensor:
        beta = self.spec.get("swish_param").beta
        return x * torch.sigmoid(x if beta == 1 else x * beta)
