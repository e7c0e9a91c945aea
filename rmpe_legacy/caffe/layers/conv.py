"""Convolution over any number of spatial axes. Source: conv_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count
from .base_conv import BaseConvolution
from .registry import Choice, chooses, register

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
LARGE, BAND = 1 << 23, 1 << 20  # values of an image's top that is computed in bands, and about how many a band has


@register("Convolution")
class Convolution(BaseConvolution):
    """Cross-correlation: (..., C, spatial) -> (..., num_output, spatial'); sizes are rounded down."""

    caffe_source = "conv_layer.cpp"
    is_plain = True  # False: a subclass lays out its bottom in another way, which no engine's convolution does

    def weight_shape(self) -> Shape:
        return (self.num_output, self.channels // self.group, *self.kernel)

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        return self.spatial(bottom)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        tops = super().reshape(*bottom)
        outside = self.sticking_out(bottom[0][self.channel_axis + 1 :])
        self.torch_has_it = len(self.kernel) in _CONV and all(self.dilation) and not any(outside)
        self.band_rows = self._rows_of_bands(bottom[0][self.channel_axis + 1 :])
        return tops

    def _rows_of_bands(self, size: Sequence[int]) -> int:
        """Return how many rows to compute at a time; 0 for all at once. Bands give the same bits for VGG's windows and
        channels in blocks of 16, not for all others."""
        is_like_vgg = self.kernel == (3, 3) and self.stride == self.pad == self.dilation == (1, 1) and self.group == 1
        is_blocked = self.channels % 16 == self.num_output % 16 == 0
        if not (is_like_vgg and is_blocked) or count((self.num_output, *size)) <= LARGE:
            return 0
        return max(8, BAND // (self.num_output * size[1]))

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not self.torch_has_it:
            return self._by_windows(x, weight, bias)
        if self.band_rows and x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self._in_bands(x, weight, bias)
        conv = _CONV[len(self.kernel)]
        if x.dtype is torch.float64 and x.device.type == "cpu" and len(x) > 1:
            # In double precision torch unfolds a whole batch at once: 49 times its memory for a 7 x 7 kernel.
            return torch.cat([conv(image, weight, bias, self.stride, self.pad, self.dilation, self.group)
                              for image in x.split(1)])
        return conv(x, weight, bias, self.stride, self.pad, self.dilation, self.group)

    def _in_bands(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve a few rows of an image at a time, each with a row more above and below.

        torch copies bottom and top into another layout and back: for large blobs as much memory again as both take, and
        a quarter of the time.
        """
        height, rows = x.shape[2], self.band_rows
        top = x.new_empty(len(x), self.num_output, *x.shape[2:])
        for image, y in zip(x.split(1), top.split(1), strict=True):
            for first in range(0, height, rows):
                above, band = min(first, 1), y[:, :, first : first + rows]
                part = F.conv2d(image[:, :, first - above : first + rows + 1], weight, bias, self.stride, self.pad)
                band.copy_(part[:, :, above : above + band.shape[2]])
                del part  # or it would be in memory beside the next one
        return top

    def _by_windows(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve by one matrix product per group, for cases torch lacks: 0 or over 3 axes, or a dilation of 0."""
        windows = self.windows(x)
        out = windows.shape[2 : 2 + len(self.kernel)]
        n, g = len(x), self.group
        columns = windows.reshape(n, g, self.channels // g, math.prod(out), -1).transpose(3, 4)
        weight = weight.reshape(g, self.num_output // g, -1)
        y = (weight @ columns.reshape(n, g, weight.shape[2], -1)).reshape(n, self.num_output, *out)
        return y if bias is None else y + bias.view(-1, *[1] * len(out))


@chooses("Convolution")
def _choose(spec: LayerSpec) -> Choice:
    """constrain is CCN's, bottom_is_im2col segaware's, pads of each side synopsys's; a map of dilations beside its one
    bottom has SSAW14/LearnableDilationNetwork's."""
    param = spec.get("convolution_param")
    if param.has("constrain"):
        return Choice("ccn")
    if any(map(param.has, ("pad_type", "pad_l", "pad_r", "pad_t", "pad_b"))):
        return Choice("synopsys")
    if param.has("bottom_is_im2col"):
        return Choice("segaware")
    if len(spec.bottom) == 2 and len(spec.top) == 1:
        return Choice("trained-dilation")
    return Choice("", ("ccn", "segaware", "synopsys", "trained-dilation"))
