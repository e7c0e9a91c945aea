"""Compact bilinear pooling by tensor sketches. Source: compact_bilinear_layer.cpp of
gy20073/compact_bilinear_pooling@1b7c58a, caffe-20160312/src/caffe/layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register

_HISTORY = 34  # numbers of glibc's generator that its seed gives
_SKIPPED = 310  # numbers that srand draws and drops


def c_random(count: int) -> list[int]:
    """The first numbers that C's rand() gives after srand(1), in glibc."""
    state = [1]
    for _ in range(30):
        state.append(16807 * state[-1] % 2147483647)
    state += state[:3]
    for i in range(_HISTORY, _HISTORY + _SKIPPED + count):
        state.append((state[i - 31] + state[i - 3]) & 0xFFFFFFFF)
    return [value >> 1 for value in state[_HISTORY + _SKIPPED :]]


@register("CompactBilinear", form="")
class CompactBilinear(Layer):
    """Two maps (N, C, H, W) -> (N, num_output, H, W), or with sum_pool (N, num_output, 1, 1): at each place
    num_output times the circular convolution of both count sketches.

    A sketch adds each channel, with a sign, to one of num_output cells; cells and signs are C's rand() from seed 1, as
    glibc has it. num_output must be even, as for the published code on a CPU.
    """

    params = ("compact_bilinear_param",)
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("compact_bilinear_param")
        self.size, self.sum_pool = param.num_output, param.sum_pool
        if self.size < 2 or self.size % 2:
            raise self.spec.error(f"num_output must be given, positive and even, not {self.size}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        a, b = bottom
        if len(a) != 4 or len(b) != 4 or (a[0], *a[2:]) != (b[0], *b[2:]):
            raise self.spec.error(f"needs two maps of the same N, H and W; its bottoms are {shape_text(a)} and "
                                  f"{shape_text(b)}")
        drawn = iter(c_random(2 * (a[1] + b[1])))
        self.sketches = []
        for channels in (a[1], b[1]):
            cells = torch.tensor([next(drawn) % self.size for _ in range(channels)], dtype=torch.int64)
            signs = torch.tensor([2.0 * (next(drawn) % 2) - 1 for _ in range(channels)])
            self.sketches.append((cells, signs))
        return [(a[0], self.size, *((1, 1) if self.sum_pool else a[2:]))]

    def _transformed(self, x: Tensor, cells: Tensor, signs: Tensor) -> Tensor:
        values = x.movedim(1, -1) * signs.to(x)
        sketch = x.new_zeros(*values.shape[:-1], self.size).index_add(-1, cells.to(x.device), values)
        return torch.fft.rfft(sketch)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        (one, other) = (self._transformed(x, *sketch) for x, sketch in zip((a, b), self.sketches, strict=True))
        y = torch.fft.irfft(one * other, self.size, norm="forward").movedim(-1, 1)
        return y.sum((2, 3), keepdim=True) if self.sum_pool else y
