"""Modules that work on each element, softmax and dropout.

Sources: the .lua of each class and lib/THNN/generic, nn@8726825; Pointwise.lua, SpatialSoftMax.lua of
cudnn.torch@008c49d. Their handling of NaN differs, and is reproduced.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Fields, Module, torch7_class


@torch7_class("nn.Threshold", "nn.ReLU")
class Threshold(Module):
    """x where x > threshold, else val. NaN becomes val; in place it stays NaN, because the loop then tests x <=
    threshold.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        relu = fields.class_name == "nn.ReLU"
        self.threshold = fields.number("threshold", 0.0 if relu else 1e-6)
        self.val = fields.number("val", 0.0)
        self.in_place = fields.flag("inplace")
        if self.in_place and self.val > self.threshold:
            raise fields.error(f"in place, its value {self.val:g} must not exceed its threshold {self.threshold:g}")

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            return F.threshold(x, self.threshold, self.val)
        return torch.where(x > self.threshold, x, self.val)


@torch7_class("cudnn.ReLU")
class CudnnReLU(Module):
    """max(x, 0); NaN stays NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return F.threshold(x, 0.0, 0.0)


@torch7_class("nn.HardTanh", "nn.Clamp", "nn.ReLU6", "cudnn.ClippedReLU")
class HardTanh(Module):
    """x between two bounds. NaN becomes the upper one; in place and with cudnn it stays NaN."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        if fields.class_name == "nn.ReLU6":
            self.low, self.high = 0.0, 6.0
        elif self.is_cudnn:
            self.low, self.high = 0.0, fields.number("ceiling")
        else:
            self.low, self.high = fields.number("min_val", -1.0), fields.number("max_val", 1.0)
        self.keeps_nan = fields.flag("inplace") or self.is_cudnn

    def forward(self, x: Tensor) -> Tensor:
        y = x.clamp(self.low, self.high)
        return y if self.keeps_nan else torch.where(x == x, y, self.high)


@torch7_class("nn.LeakyReLU")
class LeakyReLU(Module):
    """x where x > 0, else x * negval."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.slope = fields.number("negval", 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x * self.slope)


@torch7_class("nn.PReLU")
class PReLU(Module):
    """x where x > 0, else x times a learned slope, one per channel or one for all."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        planes = fields.integer("nOutputPlane", 0, least=0)
        self.weight = fields.required("weight", (planes or 1,))
        self.per_channel = planes > 0

    def forward(self, x: Tensor) -> Tensor:
        slope: Tensor = self.weight
        if self.per_channel:
            axis = 0 if x.dim() in (1, 3) else 1  # a single sample has its channels first
            slope = slope.view(-1, *[1] * (x.dim() - axis - 1))
        return torch.where(x > 0, x, x * slope)


@torch7_class("nn.ELU")
class ELU(Module):
    """x where x > 0, else alpha (e^x - 1)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.alpha = fields.number("alpha", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)


@torch7_class("nn.SoftPlus")
class SoftPlus(Module):
    """log(1 + e^(beta x)) / beta, and x beyond the threshold."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.beta, self.threshold = fields.number("beta", 1.0), fields.number("threshold", 20.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "nn.Sigmoid": torch.sigmoid,
    "cudnn.Sigmoid": torch.sigmoid,
    "nn.Tanh": torch.tanh,
    "cudnn.Tanh": torch.tanh,
    "nn.LogSigmoid": F.logsigmoid,
    "nn.SoftSign": F.softsign,
    "nn.TanhShrink": F.tanhshrink,
    "nn.Abs": torch.abs,
    "nn.Exp": torch.exp,
    "nn.Log": torch.log,
    "nn.Square": torch.square,
}


@torch7_class(*_FUNCTIONS)
class Function(Module):
    """A function of each element that has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return _FUNCTIONS[self.class_name](x)


@torch7_class("nn.Sqrt")
class Sqrt(Module):
    """The square root. Its gradient at 0 is 0."""

    def forward(self, x: Tensor) -> Tensor:
        zero = x == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


@torch7_class("nn.Power")
class Power(Module):
    """x to a fixed power."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.power = fields.number("pow")

    def forward(self, x: Tensor) -> Tensor:
        return x.pow(self.power)


@torch7_class("nn.MulConstant")
class MulConstant(Module):
    """x times a constant."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.constant = fields.number("constant_scalar")

    def forward(self, x: Tensor) -> Tensor:
        return x * self.constant


@torch7_class("nn.AddConstant")
class AddConstant(Module):
    """x plus a constant, or plus a constant vector."""

    vector: Tensor | None

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.constant, vector = 0.0, None
        if isinstance(fields.get("constant_scalar"), float):
            self.constant = fields.number("constant_scalar")
        elif (vector := fields.tensor("constant_scalar")) is None:
            raise fields.error("constant_scalar is missing")
        self.register_buffer("vector", vector)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.constant if self.vector is None else self.vector)


def _channel_axis(x: Tensor) -> int:
    """Return the axis of the classes: first in 1 or 3 dimensions, after the batch in 2 or 4."""
    return 0 if x.dim() in (1, 3) else 1


@torch7_class("nn.SoftMax", "nn.SpatialSoftMax", "cudnn.SpatialSoftMax")
class SoftMax(Module):
    """Softmax over the channels."""

    log = False

    def forward(self, x: Tensor) -> Tensor:
        return (F.log_softmax if self.log else F.softmax)(x, _channel_axis(x))


@torch7_class("nn.LogSoftMax", "nn.SpatialLogSoftMax", "cudnn.SpatialLogSoftMax")
class LogSoftMax(SoftMax):
    """Logarithm of the softmax over the channels."""

    log = True


@torch7_class("cudnn.SoftMax")
class CudnnSoftMax(SoftMax):
    """Softmax over all of a sample: channels and pixels together (CUDNN_SOFTMAX_MODE_INSTANCE)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(_channel_axis(x))
        return (F.log_softmax if self.log else F.softmax)(flat, -1).view(x.shape)


@torch7_class("cudnn.LogSoftMax")
class CudnnLogSoftMax(CudnnSoftMax):
    """Logarithm of the softmax over all of a sample: channels and pixels together."""

    log = True


@torch7_class("nn.Dropout")
class Dropout(Module):
    """In training, zeros values with probability p; scales the rest in training (v2) or in evaluation (older files)."""

    uses_train = True

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.p = fields.number("p", 0.5)
        if not 0 <= self.p < 1:
            raise fields.error(f"p is {self.p:g}; expected 0 <= p < 1")
        self.scales_in_training = fields.flag("v2")
        self.stochastic = fields.flag("stochastic_inference")

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.stochastic:
            y = F.dropout(x, self.p)
            return y if self.scales_in_training else y * (1 - self.p)
        return x if self.scales_in_training else x * (1 - self.p)


@torch7_class("nn.SpatialDropout")
class SpatialDropout(Module):
    """Whole channels become zero in training, unscaled; evaluation multiplies by 1 - p."""

    uses_train = True

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.p = fields.number("p", 0.5)
        self.stochastic = fields.flag("stochastic_inference")

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training or self.stochastic):
            return x * (1 - self.p)
        kept = torch.empty(*x.shape[:-2], 1, 1, dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * kept
