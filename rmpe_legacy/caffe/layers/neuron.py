"""Element-wise layers: top and bottom have the same shape, and may be the same blob (Caffe's NeuronLayer).

Sources: {relu,prelu,elu,sigmoid,tanh,absval,bnll,power,exp,log,threshold,dropout}_layer.cpp of RMPE@5188c23;
Clip, Swish and Sigmoid of BVLC/caffe@9b89154.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape
from .gradient import pointwise, severed
from .registry import Choice, chooses, register


class _Neuron(Layer):
    """Base class: top = value(bottom), bottom's diff = slope(bottom, top) * top's diff.

    In place, slope gets the overwritten bottom. With `slope_squared`, the published in-place Backward overwrites the
    top's diff with the slope before it multiplies the two, so the result is the slope's square whatever the diff was.
    """

    slope_squared = False

    def value(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, self.value, self._back, self.in_place)

    def _back(self, x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
        slope = self.slope(x, y)
        return slope * slope if self.slope_squared and self.in_place else dy * slope


@register("ReLU")
class ReLU(_Neuron):
    """max(x, 0) + negative_slope * min(x, 0). In place, the gradient depends on the top's sign instead of the bottom's.

    Differs: without a negative slope, -inf gives 0; the published 0 * -inf is nan.
    """

    params = ("relu_param",)

    def setup(self, *bottom: Shape) -> None:
        self.negative_slope = self.spec.get("relu_param").negative_slope

    def value(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope) if self.negative_slope else F.relu(x)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, 1, x.new_tensor(self.negative_slope))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.in_place else self.value(x)  # torch's own gradient is equal and faster


@register("ReLU", form="deconvnet")
class ReLUWithMask(ReLU):
    """ReLU, and as a second top 1 where the bottom is above 0, else 0. Source: relu_layer.cpp of
    HyeonwooNoh/caffe@d9e8494."""

    tops = (1, 2)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        mask = (x.detach() > 0).to(x)
        return (super().forward(x), mask)[: self.top_count]


@chooses("ReLU")
def _choose(spec: LayerSpec) -> Choice:
    """A second top, the mask, is DeconvNet's; limits, or a second bottom that is one, are synopsys's."""
    if len(spec.bottom) > 1 or any(name in spec.get("relu_param").fields for name in ("relu6", "maximum", "minimum")):
        return Choice("capped")
    return Choice("deconvnet") if len(spec.top) > 1 else Choice("", ("deconvnet", "capped"))


@register("ReLURecover", form="")
class ReLURecover(ReLU):
    """ReLU; the published one keeps what it overwrites in place, for the Backward of a BNConv before it. Source:
    relu_recover_layer.cu of GuanshuoXu/caffe_deep_learning_for_steganalysis@2139f17."""


@register("Trunc", form="")
class Trunc(_Neuron):
    """Values between -scale and scale; beyond, and at the ends themselves, without a gradient. Source: trunc_layer.cpp
    of yedmed/steganalysis_with_CNN_Yedroudj-Net@43ef244; scale is 3 by default, as in the paper."""

    params = ("trunc_param",)
    exact = True

    def setup(self, *bottom: Shape) -> None:
        self.max = self.spec.get("trunc_param").scale
        self.min = -self.max
        if not self.max >= 0:
            raise self.spec.error(f"scale {self.max:g} is not 0 or above")

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(self.min, self.max)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.abs() < self.max).to(x)


@register("Cos", form="")
class Cos(_Neuron):
    """The cosine. Source: cos_layer.cpp of aleksispi/pose-drl@2e16678. In place, the gradient is taken at the top."""

    def value(self, x: Tensor) -> Tensor:
        return torch.cos(x)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return -torch.sin(x)


@register("PReLU")
class PReLU(Layer):
    """ReLU with a learnt negative slope, per channel or shared: (N, C, ...) -> the same shape."""

    params = ("prelu_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("prelu_param")
        self._check(bottom[0])
        shape = () if param.channel_shared else (bottom[0][1],)
        self.declare("slope", shape, param.filler if param.has("filler") else 0.25)

    def reshape(self, *bottom: Shape) -> list[Shape]:
        self._check(bottom[0])
        slopes = self.declared[0].shape
        if slopes and bottom[0][1] != slopes[0]:
            raise self.spec.error(f"was set up for {slopes[0]} channels; its bottom has {bottom[0][1]}")
        return [bottom[0]]

    def _check(self, bottom: Shape) -> None:
        if len(bottom) < 2:
            raise self.spec.error("needs a bottom with at least 2 axes")

    def forward(self, x: Tensor) -> Tensor:
        (slope,) = self.blobs()
        return F.prelu(x, slope if slope.dim() else slope.view(1))


@register("ELU")
class ELU(_Neuron):
    """x if positive, else alpha * (exp(x) - 1)."""

    params = ("elu_param",)

    def setup(self, *bottom: Shape) -> None:
        self.alpha = self.spec.get("elu_param").alpha

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + self.alpha * (x.clamp(max=0).exp() - 1)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(x > 0, 1, self.alpha + y)


@register("Sigmoid")
class Sigmoid(_Neuron):
    """1 / (1 + exp(-x)); in dialect bvlc 0.5 * tanh(0.5 * x) + 0.5, which is 0 for x below about -17."""

    range01 = True

    def __init__(self, spec: LayerSpec):
        super().__init__(spec)
        self.is_coarse = spec.dialect == "bvlc"

    def value(self, x: Tensor) -> Tensor:
        return sigmoid(x, self.spec.dialect)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return y * (1 - y)


def sigmoid(x: Tensor, dialect: str) -> Tensor:
    """Return the sigmoid by the dialect's formula: any shape -> the same."""
    return 0.5 * torch.tanh(0.5 * x) + 0.5 if dialect == "bvlc" else torch.sigmoid(x)


@register("TanH")
class TanH(_Neuron):
    """Hyperbolic tangent."""

    def value(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return 1 - y * y


@register("AbsVal")
class AbsVal(Layer):
    """Absolute value; its gradient at 0 is 0."""

    exact = True
    works_in_place = False

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


@register("BNLL")
class BNLL(_Neuron):
    """log(1 + exp(x)), without overflow for large x."""

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        e = x.clamp(max=50).exp()
        return e / (e + 1)


@register("Power")
class Power(_Neuron):
    """(shift + scale * x) ^ power; if power * scale is 0, shift ^ power whatever the bottom.

    The gradient contains the quotient top / (shift + scale * x), so it is nan where that is 0 / 0.
    """

    params = ("power_param",)
    slope_squared = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("power_param")
        self.power, self.scale, self.shift = param.power, param.scale, param.shift
        with np.errstate(over="ignore", invalid="ignore"):
            self.diff_scale = float(np.float32(param.power) * np.float32(param.scale))

    def value(self, x: Tensor) -> Tensor:
        if self.diff_scale == 0:
            return torch.ones_like(x) if self.power == 0 else torch.full_like(x, self.shift) ** self.power
        base = self._base(x)
        return base if self.power == 1 else base**self.power

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        if self.diff_scale == 0 or self.power == 1:
            return torch.full_like(x, self.diff_scale)
        if self.power == 2:
            return self.diff_scale * self.scale * x + self.diff_scale * self.shift
        if self.shift == 0:
            return y / x * self.power
        return y / self._base(x) * self.diff_scale

    def _base(self, x: Tensor) -> Tensor:
        x = x if self.scale == 1 else x * self.scale
        return x if self.shift == 0 else x + self.shift


@register("Exp")
class Exp(_Neuron):
    """base ^ (shift + scale * x); base -1 stands for e."""

    params = ("exp_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("exp_param")
        log_base, base = _log_base(self, param.base), np.float32(param.base)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.inner = float(log_base * np.float32(param.scale))
            self.outer = 1.0 if param.shift == 0 else float(np.exp(np.float32(param.shift)) if param.base == -1
                                                            else base ** np.float32(param.shift))

    def value(self, x: Tensor) -> Tensor:
        y = torch.exp(x if self.inner == 1 else x * self.inner)
        return y if self.outer == 1 else y * self.outer

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.inner


@register("Log")
class Log(_Neuron):
    """log(shift + scale * x) to a base; base -1 stands for e."""

    params = ("log_param",)
    slope_squared = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("log_param")
        log_base = _log_base(self, param.base)
        if log_base == 0:
            raise self.spec.error("base 1 has no logarithm; give another")
        self.scale, self.shift = param.scale, param.shift
        self.factor = float(np.float32(1) / log_base)
        with np.errstate(over="ignore", invalid="ignore"):
            self.numerator = float(np.float32(param.scale) / log_base)

    def value(self, x: Tensor) -> Tensor:
        y = torch.log(self._inner(x))
        return y if self.factor == 1 else y * self.factor

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return self.numerator / self._inner(x)

    def _inner(self, x: Tensor) -> Tensor:
        x = x if self.scale == 1 else x * self.scale
        return x if self.shift == 0 else x + self.shift


def _log_base(layer: Layer, base: float) -> np.float32:
    """log(base) in single precision; 1 for base -1."""
    if base == -1:
        return np.float32(1)
    if not 0 < base < np.inf:
        raise layer.spec.error(f"base {base} is not positive and finite; -1 stands for e")
    return np.log(np.float32(base))


@register("Threshold")
class Threshold(Layer):
    """1 if x > threshold, else 0. There is no Backward."""

    params = ("threshold_param",)
    exact = True
    is_discontinuous = True
    refuses = (0,)

    def forward(self, x: Tensor) -> Tensor:
        return severed((x > self.spec.get("threshold_param").threshold).to(x.dtype), x)


@register("Dropout")
class Dropout(Layer):
    """In TRAIN, zeroes each value with probability dropout_ratio and scales the rest by 1 / (1 - ratio). With SegNet's
    sample_weights_test, in TEST too. With Fast R-CNN's `scale_train: false`, TRAIN does not scale, and TEST multiplies
    by 1 - ratio (dropout_layer.cpp:40-56 of rbgirshick/caffe-fast-rcnn@4115385).

    torch's generator picks them, so torch.manual_seed makes it repeatable. Differs: a ratio of 1 is refused in TRAIN;
    the published code computes 0 * inf, so every value is nan.
    """

    params = ("dropout_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("dropout_param")
        self.ratio = param.dropout_ratio
        self.drops = self.spec.phase == "TRAIN" or (param.has("sample_weights_test") and param.sample_weights_test)
        self.drops_at_random = self.drops
        scale_train = not param.has("scale_train") or param.scale_train
        if (self.drops or not scale_train) and not 0 <= self.ratio < 1:
            raise self.spec.error(f"dropout_ratio is {self.ratio}; it must be at least 0 and less than 1")
        self.scale = 1.0
        if self.drops and scale_train:
            self.scale = float(np.float32(1 / (1 - self.ratio)))
        elif not self.drops and not scale_train:
            self.scale = float(np.float32(1 / float(np.float32(1 / (1 - self.ratio)))))

    def forward(self, x: Tensor) -> Tensor:
        if self.drops:
            return x * torch.empty_like(x).bernoulli_(1 - self.ratio).mul_(self.scale)
        if self.scale != 1:
            return x * self.scale
        return x if self.in_place else x.view_as(x)  # a separate blob, because later layers may work on it in place


@register("Clip", dialects=("bvlc",))
class Clip(_Neuron):
    """Limits values to min..max. The gradient is 0 outside; in place, the clipped values are all inside."""

    params = ("clip_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("clip_param")
        if not (param.has("min") and param.has("max")):
            raise self.spec.error("clip_param needs min and max")
        self.min, self.max = param.min, param.max

    def value(self, x: Tensor) -> Tensor:
        return x.clamp(max=self.max).clamp(min=self.min)  # in this order: min wins if they cross

    def slope(self, x: Tensor, y: Tensor) -> Tensor:
        return (x >= self.min) & (x <= self.max)


@register("Swish", dialects=("bvlc",))
class Swish(Layer):
    """x * sigmoid(beta * x)."""

    params = ("swish_param",)

    def setup(self, *bottom: Shape) -> None:
        self.beta = self.spec.get("swish_param").beta

    def forward(self, x: Tensor) -> Tensor:
        gate = sigmoid(x.detach() * self.beta, "bvlc")  # Caffe keeps it in a separate blob too

        def back(_x: Tensor, y: Tensor, dy: Tensor) -> Tensor:
            return dy * (self.beta * y + gate * (1 - self.beta * y))

        return pointwise(x, lambda x: x * gate, back, self.in_place)
