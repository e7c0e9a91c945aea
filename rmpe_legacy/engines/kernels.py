"""The kernels that the ``torch`` engine puts in place of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.ops.winograd import IS_FAST, winograd, winograd_weight

from .plan import Kernel


class Conv(Kernel):
    """A 2-d convolution, (N, C, H, W) -> (N, K, h, w), with what was fused into it: a term to add, and a ReLU.

    Called as forward(x) or, with `adds`, as forward(x, term).
    """

    def __init__(self, layer: Layer):
        super().__init__()
        weight, *bias = (nn.Parameter(value.detach(), requires_grad=False) for value in layer.blobs())
        self.weight, self.bias = weight, bias[0] if bias else None
        self.stride, self.pad, self.dilation, self.group = layer.stride, layer.pad, layer.dilation, layer.group
        self.relu = self.adds = self.channels_last = False

    @property
    def is_packable(self) -> bool:
        return self.weight.device.type == "cpu" and self.weight.dtype is torch.float32

    def with_channels_last(self) -> Conv:
        """Return a copy that computes in channels-last memory format, with its weights in that format too."""
        weight = self.weight.detach().contiguous(memory_format=torch.channels_last)
        return self.fused(channels_last=True, weight=nn.Parameter(weight, requires_grad=False))

    def forward(self, x: Tensor, term: Tensor | None = None) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.pad, self.dilation, self.group)
        if term is not None:
            y += term
        return y.relu_() if self.relu else y


class PackedConv(Kernel):
    """A `Conv` on the CPU as one oneDNN primitive, whose weights were reordered for it once.

    The operators are those that torch.compile uses for frozen weights; ``can_pack`` tests whether torch has them.
    """

    def __init__(self, conv: Conv, shape: Sequence[int]):
        """shape: of the input that the weights are reordered for; others work too."""
        super().__init__()
        self.stride, self.pad, self.dilation = list(conv.stride), list(conv.pad), list(conv.dilation)
        self.group, self.relu, self.channels_last = conv.group, conv.relu, conv.channels_last
        self.bias = conv.bias
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = reorder(conv.weight.detach().to_mkldnn(), self.pad, self.stride, self.dilation, self.group,
                              list(shape))

    def forward(self, x: Tensor, term: Tensor | None = None) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if term is None:
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, self.pad, self.stride, self.dilation, self.group,
                "relu" if self.relu else "none", [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, term, self.weight, self.bias, self.pad, self.stride, self.dilation, self.group, "add", 1.0,
            "relu" if self.relu else None, [], None)


class WinogradConv(Kernel):
    """A `Conv` on the CPU with 36 products for 4 x 4 outputs instead of 144, of the kind that ``fits`` accepts.

    direct: computes it instead for fewer images than `least`.
    """

    def __init__(self, conv: Conv, least: float):
        super().__init__()
        self.outputs, self.pad, self.dilation = conv.weight.shape[0], conv.pad, conv.dilation
        self.relu, self.bias, self.least = conv.relu, conv.bias, least
        self.direct: Kernel | None = conv if least > 1 else None
        self.weight = winograd_weight(conv.weight.detach())

    @staticmethod
    def fits(conv: Conv) -> bool:
        """Return whether the algorithm can compute this convolution."""
        return (IS_FAST and conv.is_packable and tuple(conv.weight.shape[2:]) == (3, 3) and conv.group == 1
                and set(conv.stride) == {1})

    def forward(self, x: Tensor, term: Tensor | None = None) -> Tensor:
        if self.direct is not None and len(x) < self.least:
            return self.direct(x, term)
        return winograd(x, self.weight, self.bias, term, self.outputs, self.pad, self.dilation, self.relu)


def can_pack() -> bool:
    """Return whether this torch has the operators of PackedConv."""
    return (torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
            and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise"))


class Relu(Kernel):
    """max(x, 0), for any shape; `in_place` overwrites x."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return x.relu_() if self.in_place else x.relu()


class Sum(Kernel):
    """The sum of bottoms of one shape, with a ReLU if one was fused into it."""

    def __init__(self, relu: bool = False):
        super().__init__()
        self.relu = relu

    def forward(self, *terms: Tensor) -> Tensor:
        y = terms[0] + terms[1]
        for term in terms[2:]:
            y += term
        return y.relu_() if self.relu else y


class Affine(Kernel):
    """scale * x + shift per channel, (N, C, ...) -> the same, with a ReLU if one was fused into it."""

    def __init__(self, scale: Tensor, shift: Tensor, dims: int, relu: bool = False):
        super().__init__()
        lead = (1, -1, *[1] * (dims - 2))
        self.scale = nn.Parameter(scale.view(lead), requires_grad=False)
        self.shift = nn.Parameter(shift.view(lead), requires_grad=False)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addcmul(self.shift, x, self.scale)
        return y.relu_() if self.relu else y


class Pool(Kernel):
    """Pooling by torch's own operator, (N, C, H, W) -> (N, C, h, w), for windows that both place alike (see ``fits``).
    """

    def __init__(self, layer: Layer):
        super().__init__()
        self.maximum = layer.method == "MAX"
        self.kernel, self.stride, self.pad = layer.windows.kernel, layer.windows.stride, layer.windows.pad

    @staticmethod
    def fits(layer: Layer, size: Sequence[int]) -> bool:
        """Return whether torch's operator computes what a Pooling layer does on a plane of this size, (h, w)."""
        windows = layer.windows
        if layer.top_count > 1 or layer.method not in ("MAX", "AVE") or layer.floor:
            return False
        return windows.are_torchs if layer.method == "MAX" else not any(windows.margin(size))

    def forward(self, x: Tensor) -> Tensor:
        if self.maximum:
            return F.max_pool2d(x, self.kernel, self.stride, self.pad, ceil_mode=True)
        return F.avg_pool2d(x, self.kernel, self.stride)


class Nearest(Kernel):
    """Repeats each value in a block of (h, w) values: (N, C, H, W) -> (N, C, H h, W w)."""

    def __init__(self, times: Sequence[int]):
        super().__init__()
        self.times = tuple(float(n) for n in times)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.times, mode="nearest")


def nearest_times(layer: Layer) -> tuple[int, ...] | None:
    """Return by how much a Deconvolution repeats each value, if that is all it does; None otherwise."""
    if len(layer.kernel) != 2 or layer.channel_axis != 1 or layer.kernel != layer.stride or any(layer.pad):
        return None
    weight, *bias = (value.detach() for value in layer.blobs())
    alone = layer.group == layer.channels == layer.num_output and set(layer.dilation) == {1}
    if not alone or math.prod(layer.kernel) == 1 or not bool((weight == 1).all()):
        return None
    return None if bias and bool(bias[0].any()) else tuple(layer.kernel)
