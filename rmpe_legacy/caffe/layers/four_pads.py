"""Convolution, deconvolution and pooling whose padding differs from side to side, as networks of TensorFlow need it.

Sources: base_conv_layer.cpp, conv_layer.cpp, deconv_layer.cpp, util/im2col.cpp and pooling_layer.cpp of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .conv import Convolution
from .deconv import Deconvolution
from .pooling import Pair, Pooling, Windows, maximum, maximum_with_mask
from .registry import Choice, chooses, register

SIDES = ("pad_t", "pad_l", "pad_b", "pad_r")
Sides = tuple[int, int, int, int]  # before the rows, before the columns, behind the rows, behind the columns


def has_sides(param: Message) -> bool:
    """Whether a layer pads each side by itself, or as pad_type says."""
    return any(name in param.fields and getattr(param, name) for name in ("pad_type", *SIDES))


def sides_of(spec: LayerSpec, param: Message, axes: int) -> Sides | None:
    """Return the four pads of a layer that `has_sides`; None for pad_type 1, of which they follow from the bottom.

    Raises:
        LayerError: pad is given too, or pad_type is neither 0 nor 1, or there are not two spatial axes.
    """
    given = (param.pad_t, param.pad_l, param.pad_b, param.pad_r)
    if param.pad_type > 1:
        raise spec.error(f"pad_type {param.pad_type} is not known; it may be 0 or 1")
    if any(map(param.has, ("pad", "pad_h", "pad_w"))) or (param.pad_type and any(given)):
        raise spec.error("give pad, or pad_l, pad_r, pad_t and pad_b, or pad_type; only one kind")
    if axes != 2:
        raise spec.error(f"pad_l, pad_r, pad_t, pad_b and pad_type need a bottom (N, C, H, W); it has {axes} spatial "
                         "axes")
    return None if param.pad_type else given


def before_and_total(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of an axis: the pad before it, and that of both ends."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total


@register("Convolution", form="synopsys")
class ConvolutionOfFourPads(Convolution):
    """Cross-correlation with the pads pad_t, pad_b, pad_l and pad_r, of which negative ones cut the bottom:
    (N, C, H, W) -> (N, num_output, H', W').

    With pad_type 1, H' is H / stride, rounded up; the pads are those of the kernel without its dilation.
    """

    caffe_source = ""
    is_plain = False

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return cls if has_sides(spec.get("convolution_param")) else Convolution

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.sides = sides_of(self.spec, self.spec.get("convolution_param"), len(self.kernel))

    def sides_on(self, size: Sequence[int]) -> Sides:
        """Return the four pads on a plane of this size, (h, w)."""
        if self.sides is not None:
            return self.sides
        pads = []
        for extent, k, s, d in zip(size, self.kernel, self.stride, self.dilation, strict=True):
            before, _ = before_and_total(extent, k, s)
            pads.append((before, (math.ceil(extent / s) - 1) * s + d * (k - 1) + 1 - extent - before))
        (top, below), (left, right) = pads
        return top, left, below, right

    def padded(self, bottom: Shape) -> Shape:
        """The bottom's shape with its padding."""
        top, left, below, right = self.sides_on(bottom[2:])
        h, w = bottom[2] + top + below, bottom[3] + left + right
        if min(h, w) < 1:
            raise self.spec.error(f"its pads cut away the whole bottom, {shape_text(bottom)}")
        self.check_padded(bottom, (h, w))
        return (*bottom[:2], h, w)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return super().reshape(*bottom)

    def spatial(self, bottom: Shape) -> tuple[int, ...]:
        return super().spatial(self.padded(bottom))

    def sticking_out(self, size: Sequence[int]) -> list[int]:
        top, left, below, right = self.sides_on(size)
        return super().sticking_out([size[0] + top + below, size[1] + left + right])

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        top, left, below, right = self.sides_on(x.shape[2:])
        return super().apply_one(F.pad(x, (left, right, top, below)), weight, bias)


@register("Deconvolution", form="synopsys")
class DeconvolutionOfFourPads(Deconvolution):
    """Deconvolution that cuts pad_t, pad_b, pad_l and pad_r off its top; negative ones add rows and columns of the
    bias: (N, C, H, W) -> (N, num_output, stride * (H - 1) + kernel - pad_t - pad_b, W')."""

    caffe_source = ""

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return cls if has_sides(spec.get("convolution_param")) else Deconvolution

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        sides = sides_of(self.spec, self.spec.get("convolution_param"), len(self.kernel))
        if sides is None:
            raise self.spec.error("pad_type is not supported; give pad_l, pad_r, pad_t and pad_b")
        self.sides = sides

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        top, left, below, right = self.sides
        h, w = super().out_spatial(bottom)
        if min(h - top - below, w - left - right) < 1:
            raise self.spec.error(f"pad removes the whole top for a bottom of {shape_text(bottom)}")
        return h - top - below, w - left - right

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        top, left, below, right = self.sides
        y = F.pad(super().apply_one(x, weight, None), (-left, -right, -top, -below))
        return y if bias is None else y + bias.view(-1, 1, 1)


@chooses("Deconvolution")
def _choose(spec: LayerSpec) -> Choice:
    """Pads of each side are synopsys's."""
    return Choice("synopsys") if has_sides(spec.get("convolution_param")) else Choice("", ("synopsys",))


@dataclass(frozen=True)
class WindowsOfFourPads(Windows):
    """Window positions with `end` rows and columns of padding behind the plane, beside `pad` before it."""

    end: Pair = (0, 0)
    drops: bool = True  # a last window that starts outside

    def __post_init__(self) -> None:
        object.__setattr__(self, "are_torchs", False)

    def grid(self, size: Sequence[int]) -> Pair:
        out = []
        for extent, k, s, p, e in zip(size, self.kernel, self.stride, self.pad, self.end, strict=True):
            steps = (extent + p + e - k) / s
            n = (math.floor(steps) if self.floor else math.ceil(steps)) + 1
            out.append(n - 1 if self.drops and (n - 1) * s >= extent + p else n)
        return out[0], out[1]

    def all_touch(self, size: Sequence[int]) -> bool:
        """Whether each window has a pixel of the plane: the first and the last of each axis do."""
        axes = zip(size, self.grid(size), self.kernel, self.stride, self.pad, strict=True)
        return all(p < k and (n - 1) * s - p < extent for extent, n, k, s, p in axes)

    def spans(self, size: Sequence[int], inside: bool) -> list[Tensor]:
        """Return, for each axis, by how many rows or columns a window counts: those on the plane, or padding too."""
        spans = []
        for extent, n, k, s, p, e in zip(size, self.grid(size), self.kernel, self.stride, self.pad, self.end,
                                         strict=True):
            start = torch.arange(n) * s - p
            last = (start + k).clamp(max=extent if inside else extent + e)
            spans.append(last - start.clamp(min=0) if inside else last - start)
        return spans

    def areas(self, x: Tensor) -> Tensor:
        return torch.outer(*self.spans(x.shape[2:], inside=False)).to(x)


@register("Pooling", form="synopsys")
class PoolingOfFourPads(Pooling):
    """Pooling with the pads pad_t, pad_b, pad_l and pad_r, or as pad_type says: (N, C, H, W) -> (N, C, H', W').

    AVE_EXC_PAD, or by its old name AVE_TF, is the mean of what lies on the plane; AVE's divisor counts padding. With
    pad_type 1, H' is H / stride, rounded up. With pads, a last window that starts outside the plane is dropped.
    Differs: Backward of the means moves windows by pad_l; the published loops on a CPU move them by pad_b.
    """

    methods = ("MAX", "AVE", "AVE_EXC_PAD", "AVE_TF")
    windows: WindowsOfFourPads

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        param = spec.get("pooling_param")
        return cls if has_sides(param) or param.pool in ("AVE_EXC_PAD", "AVE_TF") else Pooling

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get("pooling_param")
        h, w = self.pad
        self.sides = sides_of(self.spec, param, 2) if has_sides(param) else (h, w, h, w)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, *size = self.four_axes(bottom[0])
        self.windows = self.windows_on(size)
        out = self.windows.grid(size)
        if min(out) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        if self.counts_inside and not self.windows.all_touch(size):
            raise self.spec.error(f"a window of pool {self.method} lies in the padding of a bottom of "
                                  f"{shape_text(bottom[0])}; give pads below the kernel")
        self.check_windows(bottom[0], out, self.windows.kernel, self.windows.stride)
        return [(n, c, *out)] * self.top_count

    def windows_on(self, size: Sequence[int]) -> WindowsOfFourPads:
        """The windows on a plane of this size, (h, w)."""
        kernel = self.kernel or (size[0], size[1])
        if self.sides is not None:
            return WindowsOfFourPads(kernel, self.stride, self.sides[:2], self.floor, self.sides[2:], any(self.sides))
        pads = [before_and_total(*each) for each in zip(size, kernel, self.stride, strict=True)]
        before, end = tuple(b for b, _ in pads), tuple(total - b for b, total in pads)
        return WindowsOfFourPads(kernel, self.stride, before, True, end, drops=False)

    @property
    def counts_inside(self) -> bool:
        """Whether it is the mean of what lies on the plane."""
        return self.method in ("AVE_EXC_PAD", "AVE_TF")

    def divisors(self, size: Sequence[int]) -> Tensor:
        """What the sum of each window is divided by, (h, w)."""
        return torch.outer(*self.windows.spans(size, self.counts_inside))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.method == "MAX" and x.shape[1]:
            return maximum_with_mask(x, self.windows) if len(self.spec.top) > 1 else maximum(x, self.windows)
        if not x.shape[1]:
            return super().forward(x)
        padded = F.pad(x, self.windows.margin(x.shape[2:]))
        total = F.avg_pool2d(padded, self.windows.kernel, self.windows.stride, divisor_override=1)
        return total / self.divisors(x.shape[2:]).to(x)
