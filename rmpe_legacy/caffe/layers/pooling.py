"""Max, average and stochastic pooling. Source: pooling_layer.cpp:79-228 of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import FLT_MAX, Layer, Shape, shape_text
from .registry import register

Pair = tuple[int, ...]  # (h, w)


@dataclass(frozen=True)
class Windows:
    """The window positions of a pooling on a plane; their number is rounded up, or down with `floor`."""

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    floor: bool = False
    are_torchs: bool = field(init=False)  # torch's max_pool2d places the same ones, if it rounds sizes alike

    def __post_init__(self) -> None:
        are_torchs = all(s <= k and 2 * p <= k for k, s, p in zip(self.kernel, self.stride, self.pad, strict=True))
        object.__setattr__(self, "are_torchs", are_torchs)

    def grid(self, size: Sequence[int]) -> Pair:
        """Return the number of windows (h, w) on a plane. With padding, a last one that starts outside is dropped."""
        out = []
        for extent, k, s, p in zip(size, self.kernel, self.stride, self.pad, strict=True):
            n = (extent + 2 * p - k) // s + 1 if self.floor else math.ceil((extent + 2 * p - k) / s) + 1
            out.append(n - 1 if any(self.pad) and (n - 1) * s >= extent + p else n)
        return out[0], out[1]

    def margin(self, size: Sequence[int]) -> list[int]:
        """Return F.pad's argument that makes the windows fit exactly; negative where pixels belong to no window."""
        margin: list[int] = []
        for extent, n, k, s, p in zip(size, self.grid(size), self.kernel, self.stride, self.pad, strict=True):
            margin = [p, (n - 1) * s + k - extent - p, *margin]  # F.pad lists the last axis first
        return margin

    def areas(self, x: Tensor) -> Tensor:
        """Return AVE's divisor for each window, (h, w): padding counts, up to `pad` beyond the plane."""
        spans = []
        size = x.shape[2:]
        for extent, n, k, s, p in zip(size, self.grid(size), self.kernel, self.stride, self.pad, strict=True):
            start = torch.arange(n, device=x.device) * s - p
            spans.append(((start + k).clamp(max=extent + p) - start).to(x.dtype))
        return torch.outer(*spans)


def nothing(x: Tensor, windows: Windows) -> Tensor:
    """Return the empty result for a bottom without channels, which torch's poolings reject."""
    return x.new_zeros(*x.shape[:2], *windows.grid(x.shape[2:]))


def average(x: Tensor, windows: Windows) -> Tensor:
    """Return the mean of each window: (N, C, H, W) -> (N, C, h, w)."""
    padded = _padded(x, windows.margin(x.shape[2:]), 0)
    total = F.avg_pool2d(padded, windows.kernel, windows.stride, divisor_override=1)
    return total / windows.areas(x)


def maximum(x: Tensor, windows: Windows) -> Tensor:
    """Return the maximum of each window, (N, C, H, W) -> (N, C, h, w); -FLT_MAX for a window that lies outside."""
    if windows.are_torchs and x.numel():  # torch's own function: F's takes time to look for arguments not given
        return torch.max_pool2d(x, windows.kernel, windows.stride, windows.pad, ceil_mode=not windows.floor)
    return F.max_pool2d(_padded(x, windows.margin(x.shape[2:]), -FLT_MAX), windows.kernel, windows.stride)


def maximum_with_mask(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, (N, C, h, w), and its index in the H x W plane as a float.

    The index is -1 for a window that lies outside.
    """
    left, right, upper, lower = windows.margin(x.shape[2:])
    padded = _padded(x, [left, right, upper, lower], -FLT_MAX)
    y, index = F.max_pool2d(padded, windows.kernel, windows.stride, return_indices=True)
    row, column = index // padded.shape[3] - upper, index % padded.shape[3] - left
    inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
    return y, torch.where(inside, row * x.shape[3] + column, -1).to(x.dtype)


def stochastic(x: Tensor, windows: Windows, train: bool) -> Tensor:
    """Pool (N, C, H, W) -> (N, C, h, w): in TRAIN, draw a value with probability proportional to it; in TEST, take the
    mean weighted by the values.
    """
    x = F.pad(x, windows.margin(x.shape[2:]))
    cells = x.unfold(2, windows.kernel[0], windows.stride[0]).unfold(3, windows.kernel[1], windows.stride[1]).flatten(4)
    if not train:
        return (cells * cells).sum(4) / (cells.sum(4) + torch.finfo(torch.float32).tiny)
    reach = cells.detach().cumsum(4)
    drawn = (1 - torch.rand_like(reach[..., :1])) * reach[..., -1:]
    first = (reach >= drawn).to(torch.uint8).argmax(4, keepdim=True)
    return cells.gather(4, first).squeeze(4)


def _padded(x: Tensor, margin: list[int], value: float) -> Tensor:
    return F.pad(x, margin, value=value) if any(margin) else x


@register("Pooling")
class Pooling(Layer):
    """Maximum or average over windows: (N, C, H, W) -> (N, C, out_h, out_w); sizes are rounded up.

    torch's ceil_mode differs if stride > kernel, and rejects pad > kernel / 2. A second top of MAX is the mask: each
    maximum's index in its H x W plane, as a float. Differs: nan counts as the maximum here; the published comparison
    skips it. Without a mask, -inf stays -inf where a window holds nothing else; the published top is -FLT_MAX.
    """

    params = ("pooling_param",)
    tops = (1, 2)
    works_in_place = False
    methods: tuple[str, ...] = ("MAX", "AVE", "STOCHASTIC")

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.method = param.pool
        self.is_discontinuous = len(self.spec.top) > 1  # the mask
        if self.method not in self.methods:
            raise self.spec.error(f"pool {self.method} is not supported; Caffe has {', '.join(self.methods[:-1])} and "
                                  f"{self.methods[-1]}")
        if len(self.spec.top) > 1 and self.method != "MAX":
            raise self.spec.error(f"pool {self.method} has one top; only MAX gives a second one, the mask")
        self.kernel = self._kernel(param)  # None: the bottom's size
        self.stride, self.pad = self._pair(param, "stride"), self._pair(param, "pad")
        self.floor = (param.round_mode == "FLOOR" if param.has("round_mode") else
                      param.has("ceil_mode") and not param.ceil_mode)
        if 0 in self.stride or 0 in (self.kernel or ()):
            raise self.spec.error("kernel_size and stride must not be 0")
        if self.kernel is None and (self.stride != (1, 1) or self.pad != (0, 0)):
            raise self.spec.error("global_pooling needs stride 1 and pad 0")
        if any(self.pad) and self.method in ("STOCHASTIC", "SUM"):
            raise self.spec.error(f"pad is not supported with pool {self.method}; Caffe pads MAX and AVE only")
        if self.kernel is not None and any(self.pad) and any(
                p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.spec.error(f"pad {self.pad} must be smaller than the kernel {self.kernel}")

    def _kernel(self, param: Message) -> Pair | None:
        """Return (h, w) from kernel_size, or from kernel_h and kernel_w; None for global_pooling."""
        if param.global_pooling:
            if any(map(param.has, ("kernel_size", "kernel_h", "kernel_w"))):
                raise self.spec.error("global_pooling takes the bottom's size; remove kernel_size")
            return None
        apart = param.has("kernel_h") and param.has("kernel_w")
        if param.has("kernel_size") == apart:
            raise self.spec.error("give kernel_size, or kernel_h and kernel_w; not both")
        if not apart and (param.has("kernel_h") or param.has("kernel_w")):
            raise self.spec.error("kernel_size makes Caffe ignore kernel_h and kernel_w; give one kind")
        return (param.kernel_h, param.kernel_w) if apart else (param.kernel_size, param.kernel_size)

    def _pair(self, param: Message, name: str) -> Pair:
        """Return (h, w) from `name`, or from its _h and _w fields."""
        h, w = f"{name}_h", f"{name}_w"
        apart = param.has(h) and param.has(w) and not param.has(name)
        if not apart and (param.has(h) or param.has(w)):
            raise self.spec.error(f"give {name}, or {h} and {w}; not both")
        return (getattr(param, h), getattr(param, w)) if apart else (getattr(param, name),) * 2

    def four_axes(self, bottom: Shape) -> Shape:
        """Return the bottom's shape. Raises LayerError unless it has four axes, and pixels for global_pooling."""
        if len(bottom) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom)}")
        if self.kernel is None and 0 in bottom[2:]:
            raise self.spec.error(f"global_pooling needs a bottom that is not empty, not {shape_text(bottom)}")
        return bottom

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        size = self.four_axes(bottom[0])[2:]
        self.windows = Windows(self.kernel or size, self.stride, self.pad, self.floor)
        out = self.windows.grid(size)
        if any(n < 1 for n in out):
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        self.check_windows(bottom[0], out, self.windows.kernel, self.windows.stride)
        return [(*bottom[0][:2], *out)] * self.top_count

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not x.shape[1]:
            return (nothing(x, self.windows),) * self.top_count
        if self.method == "MAX":
            has_mask = len(self.spec.top) > 1
            return maximum_with_mask(x, self.windows) if has_mask else maximum(x, self.windows)
        if self.method == "STOCHASTIC":
            return stochastic(x, self.windows, self.spec.phase == "TRAIN")
        return average(x, self.windows)
