"""Convolution and pooling over time and space: (N, C, L, H, W).

Sources: {convolution3d,pool3d,deconvolution3d}_layer.cpp of facebookarchive/C3D@71336a2, v1.1; v1.0 has the fields in
convolution_param and pooling_param.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register


class _Volume(Layer):
    """Common options of the layers: kernel, stride and pad as (time, height, width)."""

    works_in_place = False

    def volume(self, bottom: Shape) -> Message:
        if len(bottom) != 5:
            raise self.spec.error(f"needs a bottom (N, C, L, H, W), not {shape_text(bottom)}")
        param = self.spec.get(self.params[0])

        def one(name: str) -> int:
            value = getattr(param, name)
            given = list(value) if isinstance(value, list | tuple) else [value]
            if len(given) > 1:
                raise self.spec.error(f"{name} is given {len(given)} times; give it once")
            return given[0] if given else {"stride": 1, "pad": 0}.get(name, 0)

        self.kernel = (param.kernel_depth, one("kernel_size"), one("kernel_size"))
        self.stride = (param.temporal_stride, one("stride"), one("stride"))
        self.pad = (param.temporal_pad if "temporal_pad" in param.descriptor.fields else 0, one("pad"), one("pad"))
        if min(*self.kernel, *self.stride) < 1:
            raise self.spec.error("needs kernel_size and kernel_depth, and strides above 0")
        return param


class _Convolved(_Volume):
    transposed = False

    def setup(self, *bottom: Shape) -> None:
        param = self.volume(bottom[0])
        self.num_output, self.channels = param.num_output, bottom[0][1]
        if self.num_output < 1 or param.filter_group < 1 or self.num_output % param.filter_group:
            raise self.spec.error("num_output must be above 0, and a multiple of filter_group")
        inner = (self.channels, self.num_output) if self.transposed else (self.num_output, self.channels)
        self.declare("weight", (*inner, *self.kernel), param.weight_filler)
        if self.has_bias(param):
            self.declare("bias", (1, 1, 1, 1, self.num_output), param.bias_filler)

    def has_bias(self, param: Message) -> bool:
        """Return whether the layer has a bias."""
        return param.bias_term

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 5 or bottom[0][1] != self.channels:
            raise self.spec.error(f"was set up for {self.channels} channels; its bottom is {shape_text(bottom[0])}")
        windows = list(zip(bottom[0][2:], self.kernel, self.stride, self.pad, strict=True))
        size = [(n - 1) * s + k - 2 * p if self.transposed else (n + 2 * p - k) // s + 1 for n, k, s, p in windows]
        if min(size) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        return [(bottom[0][0], self.num_output, *size)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        convolve = F.conv_transpose3d if self.transposed else F.conv3d
        return convolve(x, weight, bias[0].flatten() if bias else None, self.stride, self.pad)


@register("Convolution3D", form="")
class Convolution3D(_Convolved):
    """(N, C, L, H, W) -> (N, num_output, L', H', W'), weights (num_output, C, depth, size, size).

    pad and stride are of space, temporal_pad and temporal_stride of time. filter_group splits the computation and
    changes no number.
    """

    params = ("convolution3d_param",)


@register("Convolution3d", form="")
class Convolution3d(_Convolved):
    """The same in C3D v1.0, with its fields in convolution_param."""

    params = ("convolution_param",)


@register("Deconvolution3d", form="")
class Deconvolution3d(_Convolved):
    """The transposed convolution of C3D v1.0, weights (C, num_output, depth, size, size)."""

    params = ("convolution_param",)
    transposed = True


@register("Deconvolution3D", form="")
class Deconvolution3D(_Convolved):
    """The transposed convolution of C3D v1.1, weights (C, num_output, depth, size, size).

    As published, convolution_param says whether there is a bias; bias_term of convolution3d_param does nothing.
    """

    params = ("convolution3d_param", "convolution_param")
    transposed = True

    def has_bias(self, param: Message) -> bool:
        return self.spec.get("convolution_param").bias_term


class _Maximum(torch.autograd.Function):
    """The maximum of each window; in Backward every cell that equals it gets the whole diff."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
        y = _windows(x, kernel, stride).amax((-3, -2, -1))
        ctx.save_for_backward(x, y)
        ctx.kernel, ctx.stride = kernel, stride
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            windows = _windows(x, ctx.kernel, ctx.stride)
        share = (windows.detach() == y[..., None, None, None]) * dy[..., None, None, None]
        return torch.autograd.grad(windows, x, share)[0], None, None


def _windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True)):
        x = x.unfold(2 + axis, k, s)
    return x


def margins(grid: Sequence[int], sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
            pad: Sequence[int]) -> list[int]:
    """Return how far windows reach beyond a blob before and after each axis, the last axis first, as F.pad takes it."""
    found: list[int] = []
    for n, size, k, s, p in zip(grid, sizes, kernel, stride, pad, strict=True):
        found = [p, (n - 1) * s + k - size - p, *found]
    return found


def areas(x: Tensor, grid: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> Tensor:
    """Return the size of each window of x (N, C, ...), as far as the padding goes, in the shape of the grid."""
    found = x.new_ones(())
    for n, size, k, s, p in zip(grid, x.shape[2:], kernel, stride, pad, strict=True):
        begin = torch.arange(n, device=x.device) * s - p
        found = found.unsqueeze(-1) * ((begin + k).clamp(max=size + p) - begin)
    return found


@register("Pooling3D", form="")
class Pooling3D(_Volume):
    """Maximum or mean over windows: (N, C, L, H, W) -> (N, C, L', H', W'), sizes rounded up.

    AVE may be padded, in space, and divides by the window's size as far as the padding goes. Of equal maxima all get
    the gradient.
    """

    params = ("pooling3d_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.volume(bottom[0])
        self.method = param.pool
        if self.method == "STOCHASTIC":
            raise self.spec.error("pool STOCHASTIC is not implemented in C3D either; use MAX or AVE")
        if self.method == "MAX" and any(self.pad):
            raise self.spec.error("pad is for pool AVE only")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 5:
            raise self.spec.error(f"needs a bottom (N, C, L, H, W), not {shape_text(bottom[0])}")
        self.grid = [math.ceil((n + 2 * p - k) / s) + 1 for n, k, s, p in
                     zip(bottom[0][2:], self.kernel, self.stride, self.pad, strict=True)]
        if min(self.grid) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        self.check_windows(bottom[0], self.grid, self.kernel, self.stride)
        return [(*bottom[0][:2], *self.grid)]

    def forward(self, x: Tensor) -> Tensor:
        margin = margins(self.grid, x.shape[2:], self.kernel, self.stride, self.pad)
        if self.method == "MAX":
            return _Maximum.apply(F.pad(x, margin, value=-torch.finfo(torch.float32).max), self.kernel, self.stride)
        sums = _windows(F.pad(x, margin), self.kernel, self.stride).sum((-3, -2, -1))
        return sums / areas(x, self.grid, self.kernel, self.stride, self.pad)


@register("Pooling3d", form="")
class Pooling3d(Pooling3D):
    """The same in C3D v1.0, with its fields in pooling_param."""

    params = ("pooling_param",)
