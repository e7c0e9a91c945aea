"""Poolings undone. Sources: unpooling_layer.cpp of HyeonwooNoh/caffe@d9e8494, and of
ArcherFMY/caffe-sal-ensemble@ff8e040 (windows)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register
from .upsample import place


class _Spread(torch.autograd.Function):
    """Each value added to all cells of its window; Backward is the mean of the window's diff, also where Forward did
    not divide."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, columns: Tensor, divide: bool) -> Tensor:
        areas = torch.outer(rows.sum(0), columns.sum(0))
        ctx.save_for_backward(rows, columns, areas)
        return torch.einsum("ncij,hi,wj->nchw", x / areas if divide else x, rows, columns)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, areas = ctx.saved_tensors
        return torch.einsum("nchw,hi,wj->ncij", dy, rows, columns) / areas, None, None, None


@register("Unpooling", form="")
class Unpooling(Layer):
    """(N, C, H, W) and, with unpool MAX, perhaps a pooling's mask -> (N, C, unpool_h, unpool_w).

    MAX puts each value where the mask found it, or without one at the top left corner of its window; AVE adds
    value / area to the whole window, TILE the value. Windows lie stride apart and are kernel_size large.

    Differs: the published AVE and TILE do not clear their top, and add to the result of the previous forward.
    """

    params = ("unpooling_param",)
    bottoms = (1, 2)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("unpooling_param")
        self.method = param.unpool
        self.kernel = self._pair(param, "kernel_size", "kernel_h", "kernel_w")
        self.stride = self._pair(param, "stride", "stride_h", "stride_w")
        self.size = self._pair(param, "unpool_size", "unpool_h", "unpool_w")
        if any(param.has(name) and getattr(param, name) for name in ("pad", "pad_h", "pad_w")):
            raise self.spec.error("pad is not supported by the published layer either; remove it")
        if min(*self.kernel, *self.stride, *self.size) < 1:
            raise self.spec.error("needs kernel_size, stride and unpool_size, all above 0")

    def _pair(self, param: Any, one: str, h: str, w: str) -> tuple[int, int]:
        apart = param.has(h) and param.has(w)
        if apart and param.has(one):
            raise self.spec.error(f"give {one}, or {h} and {w}; not both")
        return (getattr(param, h), getattr(param, w)) if apart else (getattr(param, one),) * 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or any(shape != bottom[0] for shape in bottom):
            raise self.spec.error("needs a bottom (N, C, H, W), and a mask of the same shape, not "
                                  + " and ".join(map(shape_text, bottom)))
        return [(*bottom[0][:2], *self.size)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h, w = self.size
        if self.method != "MAX":
            rows, columns = (self.windows(axis, x.shape[2 + axis]).to(x) for axis in (0, 1))
            return _Spread.apply(x, rows, columns, self.method == "AVE")
        if mask is None:
            index = self.corners(*x.shape[2:]).to(x.device).expand(*x.shape[:2], -1)
            return place(x.flatten(2), index, h * w).view(*x.shape[:2], h, w)
        return self.placed(x, mask)

    def placed(self, x: Tensor, mask: Tensor) -> Tensor:
        """Each value where a pooling's mask found it."""
        h, w = self.size
        index = mask.detach().flatten(2).long()
        if index.numel() and not 0 <= index.min() <= index.max() < h * w:
            raise self.spec.error(f"its mask has indices {index.min()} to {index.max()}; a plane of its top has "
                                  f"{h * w} values; check its size")
        return place(x.flatten(2), index, h * w).view(*x.shape[:2], h, w)

    def corners(self, h: int, w: int) -> Tensor:
        """Where in a plane of the top each window of a bottom's plane begins: (h * w)."""
        row, column = ((torch.arange(n) * s).clamp(max=size - 1)
                       for n, s, size in zip((h, w), self.stride, self.size, strict=True))
        return (row.unsqueeze(1) * self.size[1] + column).flatten()

    def windows(self, axis: int, count: int) -> Tensor:
        """1 where a cell of the top lies in one of `count` windows: (cells, windows)."""
        cell = torch.arange(self.size[axis]).unsqueeze(1)
        begin = torch.arange(count) * self.stride[axis]
        return ((cell >= begin) & (cell < begin + self.kernel[axis])).float()


@register("Unpooling", form="windows")
class UnpoolingByWindows(Unpooling):
    """(N, C, H, W) -> as large as the windows of a bottom's values are together: (H - 1) * stride + kernel - 2 * pad.

    MAX takes a pooling's mask too, and puts each value where the mask found it; AVE adds value / area to the whole
    window.

    Differs: the published AVE does not clear its top, and adds to the result of the previous forward.
    """

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("unpooling_param")
        self.method = param.unpool
        self.kernel = self._pair(param, "kernel_size", "kernel_h", "kernel_w")
        self.stride = self._pair(param, "stride", "stride_h", "stride_w")
        self.pad = self._pair(param, "pad", "pad_h", "pad_w")
        if min(*self.kernel, *self.stride) < 1 or any(map(int.__ge__, self.pad, self.kernel)):
            raise self.spec.error("needs kernel_size and stride, above 0, and a pad below kernel_size")
        if self.method not in ("MAX", "AVE") or (self.method == "MAX" and len(bottom) < 2):
            raise self.spec.error("takes unpool MAX, with a mask as its second bottom, or AVE")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) == 4:  # else the base refuses it
            h, w = ((n - 1) * stride + kernel - 2 * pad for n, stride, kernel, pad in zip(
                bottom[0][2:], self.stride, self.kernel, self.pad, strict=True))
            self.size = h, w
            if min(h, w) < 0:
                raise self.spec.error(f"its pad leaves nothing of {shape_text(bottom[0])}")
        return super().reshape(*bottom)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None and self.method == "MAX":
            return self.placed(x, mask)
        share = x.new_full((x.shape[1], 1, *self.kernel), 1 / (self.kernel[0] * self.kernel[1]))
        return F.conv_transpose2d(x, share, stride=self.stride, padding=self.pad, groups=x.shape[1])


@chooses("Unpooling")
def _choose(spec: LayerSpec) -> Choice:
    """Only DeconvNet's has a size, which it needs."""
    param = spec.get("unpooling_param")
    if any(name in param.fields and param.has(name) for name in ("unpool_size", "unpool_h", "unpool_w")):
        return Choice("")
    return Choice("windows")
