"""Maps as sequences. Source: convert_layer.cpp of Yuliang-Liu/Curve-Text-Detector@2126a66."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Convert", form="")
class Convert(Layer):
    """(N, C, ..., T), whose other axes are 1, -> steps (T, N, C), and whether each continues the sequence (T, N): 0 at
    step 0, else 1."""

    tops = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, *rest = bottom[0] if len(bottom[0]) > 1 else (0, 0)
        if not rest or any(size != 1 for size in rest[:-1]):
            raise self.spec.error(f"needs a bottom (N, C, 1, T), not {shape_text(bottom[0])}")
        return [(rest[-1], n, c), (rest[-1], n)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steps = x.reshape(*x.shape[:2], x.shape[-1]).permute(2, 0, 1).contiguous()
        goes_on = torch.ones_like(steps[..., 0]).detach()
        goes_on[:1] = 0
        return steps, goes_on
