"""Deconvolution over any number of spatial axes. Source: deconv_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .base import Shape, shape_text
from .base_conv import BaseConvolution
from .registry import register

_DECONV = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@register("Deconvolution")
class Deconvolution(BaseConvolution):
    """The transpose of Convolution: (..., C, spatial) -> (..., num_output, stride * (spatial - 1) + kernel - 2 pad)."""

    caffe_source = "deconv_layer.cpp"

    def weight_shape(self) -> Shape:
        return (self.channels, self.num_output // self.group, *self.kernel)

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        sizes = tuple(
            s * (size - 1) + d * (k - 1) + 1 - 2 * p
            for size, k, s, p, d in zip(bottom[self.channel_axis + 1 :], self.kernel, self.stride, self.pad,
                                        self.dilation, strict=True)
        )
        if any(size < 1 for size in sizes):
            raise self.spec.error(f"pad removes the whole top for a bottom of {shape_text(bottom)}")
        return sizes

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if len(self.kernel) in _DECONV and all(self.dilation):
            deconv = _DECONV[len(self.kernel)]
            return deconv(x, weight, bias, self.stride, self.pad, 0, self.group, self.dilation)
        return self._by_taps(x, weight, bias)

    def _by_taps(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Deconvolve tap by tap, for cases torch lacks: each kernel position adds to a strided part of the top."""
        n, g, grid = len(x), self.group, x.shape[2:]
        columns = x.reshape(n, g, self.channels // g, -1)
        padded = [s * (size - 1) + d * (k - 1) + 1
                  for size, s, d, k in zip(grid, self.stride, self.dilation, self.kernel, strict=True)]
        y = x.new_zeros(n, self.num_output, *padded)
        for tap in product(*map(range, self.kernel)):
            at: tuple[Any, ...] = (..., *tap)
            w = weight[at].reshape(g, self.channels // g, -1).transpose(1, 2)
            part: tuple[Any, ...] = (..., *(slice(t * d, t * d + s * (size - 1) + 1, s) for t, d, s, size in
                                            zip(tap, self.dilation, self.stride, grid, strict=True)))
            y[part] += (w @ columns).reshape(n, self.num_output, *grid)
        inside: tuple[Any, ...] = (..., *(slice(p, size - p) for p, size in zip(self.pad, padded, strict=True)))
        y = y[inside]
        return y if bias is None else y + bias.view(-1, *[1] * len(grid))
