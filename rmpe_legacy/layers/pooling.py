"""Max, average and stochastic pooling. Source: pooling_layer.cpp:79-228 of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register

FLT_MAX = torch.finfo(torch.float32).max


@register("Pooling")
class Pooling(Layer):
    """Max or average over windows: (N, C, H, W) -> (N, C, out_h, out_w); sizes are rounded up.

    Torch's ceil_mode differs where stride > kernel, and refuses pad > kernel / 2. A second top of MAX is the mask:
    each maximum's place in its H x W plane, as a number.
    """

    tops = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("pooling_param")
        self.method = param.pool
        self.global_pooling = param.global_pooling
        if self.method not in ("MAX", "AVE", "STOCHASTIC"):
            raise self.spec.error(f"pool {self.method} is not supported; Caffe has MAX, AVE and STOCHASTIC")
        if len(self.spec.top) > 1 and self.method != "MAX":
            raise self.spec.error(f"pool {self.method} has one top; only MAX gives a second one, the mask")
        if self.global_pooling:
            if any(map(param.has, ("kernel_size", "kernel_h", "kernel_w"))):
                raise self.spec.error("global_pooling takes the bottom's size; remove kernel_size")
            self.stride, self.pad = self._pair("stride", 1), self._pair("pad", 0)
            if self.stride != (1, 1) or self.pad != (0, 0):
                raise self.spec.error("global_pooling needs stride 1 and pad 0")
            return
        self.kernel = self._pair("kernel_size", None, "kernel_h", "kernel_w")
        self.stride, self.pad = self._pair("stride", 1), self._pair("pad", 0)
        if 0 in self.kernel or 0 in self.stride:
            raise self.spec.error("kernel_size and stride must not be 0")
        if any(self.pad) and self.method == "STOCHASTIC":
            raise self.spec.error("pad is not supported with pool STOCHASTIC; Caffe pads MAX and AVE only")
        if any(p >= k for p, k in zip(self.pad, self.kernel, strict=True)):
            raise self.spec.error(f"pad {self.pad} must be smaller than the kernel {self.kernel}")

    def _pair(self, name: str, default: int | None, h: str | None = None, w: str | None = None) -> tuple[int, int]:
        """(h, w) from `name`, or from its _h and _w; not both."""
        param = self.spec.get("pooling_param")
        h, w = h or f"{name}_h", w or f"{name}_w"
        apart = param.has(h) or param.has(w)
        if apart and (param.has(name) or not ((param.has(h) and param.has(w)) or default == 0)):
            raise self.spec.error(f"give {name}, or {h} and {w}; not both")
        if apart:
            return getattr(param, h), getattr(param, w)
        if not param.has(name) and default is None:
            raise self.spec.error(f"give {name}, or {h} and {w}")
        value = getattr(param, name) if param.has(name) else default
        return value, value

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        if self.global_pooling:
            self.kernel = bottom[0][2:]
        out = tuple(
            self._grid(size, k, s, p)
            for size, k, s, p in zip(bottom[0][2:], self.kernel, self.stride, self.pad, strict=True)
        )
        if any(n < 1 for n in out):
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        self.out = out
        return [(*bottom[0][:2], *out)] * self.top_count

    def _grid(self, size: int, k: int, s: int, p: int) -> int:
        """How many windows: rounded up; with padding, the last one must start inside the image."""
        param = self.spec.get("pooling_param")
        floor = self.spec.dialect == "bvlc" and param.round_mode == "FLOOR"
        n = (size + 2 * p - k) // s + 1 if floor else math.ceil((size + 2 * p - k) / s) + 1
        return n - 1 if any(self.pad) and (n - 1) * s >= size + p else n

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        margin = []  # what makes the windows fit exactly; negative where some cells belong to none
        for size, k, s, p, n in zip(x.shape[2:], self.kernel, self.stride, self.pad, self.out, strict=True):
            margin = [p, (n - 1) * s + k - size - p, *margin]  # F.pad lists the last axis first
        if self.method == "MAX":
            return self._max(x, margin)
        if self.method == "STOCHASTIC":
            return self._stochastic(F.pad(x, margin))
        total = F.avg_pool2d(F.pad(x, margin), self.kernel, self.stride, divisor_override=1)
        return total / torch.outer(*self._spans(x))

    def _spans(self, x: Tensor) -> list[Tensor]:
        """Per axis, the cells that AVE divides by: padding counts, up to pad beyond the image."""
        spans = []
        for size, k, s, p, n in zip(x.shape[2:], self.kernel, self.stride, self.pad, self.out, strict=True):
            start = torch.arange(n, device=x.device) * s - p
            spans.append(((start + k).clamp(max=size + p) - start).to(x.dtype))
        return spans

    def _max(self, x: Tensor, margin: list[int]) -> Tensor | tuple[Tensor, ...]:
        padded = F.pad(x, margin, value=-FLT_MAX) if any(margin) else x
        if self.top_count == 1:
            return F.max_pool2d(padded, self.kernel, self.stride)
        y, index = F.max_pool2d(padded, self.kernel, self.stride, return_indices=True)
        width = padded.shape[3]
        row, column = index // width - margin[2], index % width - margin[0]
        inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
        return y, torch.where(inside, row * x.shape[3] + column, -1).to(x.dtype)

    def _stochastic(self, x: Tensor) -> Tensor:
        """TRAIN: a value drawn with a probability in proportion to it. TEST: the mean weighted by the values."""
        windows = x.unfold(2, self.kernel[0], self.stride[0]).unfold(3, self.kernel[1], self.stride[1]).flatten(4)
        total = windows.sum(4)
        if self.spec.phase == "TEST":
            return (windows * windows).sum(4) / (total + torch.finfo(torch.float32).tiny)
        reach = windows.detach().cumsum(4)
        drawn = torch.rand_like(total).unsqueeze(4) * reach[..., -1:]
        index = (reach < drawn).sum(4, keepdim=True).clamp(max=windows.shape[4] - 1)
        return windows.gather(4, index).squeeze(4)
