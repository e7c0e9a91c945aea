"""Image compression by context. Sources: const_scale_layer.cpp, dynamic_mask_data_layer.cpp, split_channel_layer.cpp,
mtranspose_layer.cpp and conv_layer.cpp of limuhit/CCN@bf0b27b."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count
from .conv import Convolution
from .registry import register


@register("ConstScale", form="")
class ConstScale(Layer):
    """x * scale + bias, two numbers: any shape -> the same."""

    params = ("const_scale_param",)

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("const_scale_param")
        return x * param.scale + param.bias


@register("DynamicMaskData", form="")
class DynamicMaskData(Layer):
    """(N, C, H, W) -> the same: 1 in the first channels, 0 in the others. How many is a parameter, one number, which
    starts with all."""

    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        self.declare("channels", (1, 1, 1, 1), float(self.nchw(bottom[0])[1]), learns=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.nchw(tuple(x.shape))
        (number,) = self.blobs()
        kept = torch.arange(c, device=x.device) < int(number.detach().item() + 1e-6)
        return kept.to(x).view(1, c, 1, 1).expand(n, c, h, w)


@register("SplitChannel", form="")
class SplitChannel(Layer):
    """(N, C, H, W) -> its first memory_data_param.channels channels."""

    params = ("memory_data_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        self.kept = self.spec.get("memory_data_param").channels
        if not 0 < self.kept <= c:
            raise self.spec.error(f"memory_data_param.channels {self.kept} must be from 1 to the bottom's {c}")
        return [(n, self.kept, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.nchw(tuple(x.shape)))[:, : self.kept]


class _Detached(torch.autograd.Function):
    """A value whose Backward does nothing: the bottom's diff stays 0."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        return torch.zeros_like(dy)


@register("MTranspose", form="")
class MTranspose(Layer):
    """(N, C, H, W) -> (N * C / groups * H * W, groups): the values of `groups` neighbouring channels side by side. With
    inverse the way back, to (N, channel, height, width), whose Backward is empty, as published.
    """

    params = ("mtranspose_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("mtranspose_param")
        self.groups, self.inverse = param.groups, param.inverse
        if not self.inverse:
            self.size = self.nchw(bottom[0])
        else:
            one = param.channel * param.height * param.width
            if not one or count(bottom[0]) % one:
                raise self.spec.error(f"channel, height and width, {param.channel} x {param.height} x {param.width}, "
                                      f"do not divide its bottom of {count(bottom[0])} values")
            self.size = count(bottom[0]) // one, param.channel, param.height, param.width
        n, c, h, w = self.size
        if not self.groups or c % self.groups:
            raise self.spec.error(f"groups {self.groups} does not divide {c} channels")
        return [self.size if self.inverse else (n * c // self.groups * h * w, self.groups)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = self.size
        if self.inverse:
            parts = x.reshape(n, c // self.groups, h, w, self.groups)
            return _Detached.apply(parts.movedim(-1, 2).reshape(n, c, h, w))
        return x.reshape(n, c // self.groups, self.groups, h, w).movedim(2, -1).reshape(-1, self.groups)


@register("Convolution", form="ccn")
class ConstrainedConvolution(Convolution):
    """Convolution whose weights count as 0 where they would see what is not decoded yet.

    With constrain 5, a weight counts where row + column + input group < output group + kernel size - 1; with 6, also
    where they are equal. An input's group is its channel / group_in, an output's / group_out. The weights' gradient is
    that of all weights, as published.
    """

    caffe_source = ""

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get("convolution_param")
        if param.constrain not in (0, 5, 6):
            raise self.spec.error(f"constrain {param.constrain} is not supported; it may be 0, 5 or 6")
        if param.constrain and (len(self.kernel) != 2 or self.kernel[0] != self.kernel[1] or not param.group_in
                                or not param.group_out):
            raise self.spec.error("with constrain it needs a square kernel, and group_in and group_out above 0")
        self.constrain = param.constrain, param.group_in, param.group_out

    def blobs(self) -> list[Tensor]:
        """Return the weights as they count, and the bias."""
        weight, *bias = super().blobs()
        kind, group_in, group_out = self.constrain
        if not kind:
            return [weight, *bias]
        out, inner, size, _ = (torch.arange(length, device=weight.device) for length in weight.shape)
        seen = size[:, None] + size + (inner // group_in)[:, None, None]
        limit = (out // group_out)[:, None, None, None] + len(size) - (1 if kind == 6 else 2)
        return [weight - torch.where(seen <= limit, 0, weight).detach(), *bias]
