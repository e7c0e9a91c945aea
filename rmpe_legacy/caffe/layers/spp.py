"""Spatial pyramid pooling. Sources: spp_layer.cpp of RMPE@5188c23 and of
HouyuZhang1007/Pedestrian-Attribute-Recognition@8e82b80 (overlapping)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .pooling import Windows, average, maximum, nothing
from .registry import Choice, chooses, register

MAX_LEVELS = 64  # with a fineness of 1, all levels fit

@register("SPP")
class SPP(Layer):
    """Pools into 1, 2 x 2, 4 x 4 ... bins and concatenates them: (N, C, H, W) -> (N, C * bins).

    With a pyramid_height of 1 the top keeps the pooling's shape, (N, C, 1, 1). A level may have fewer bins: windows
    that would start in the padding are dropped.
    """

    params = ("spp_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("spp_param")
        self.height, self.method = param.pyramid_height, param.pool
        if self.height < 1:
            raise self.spec.error("pyramid_height must be given, and at least 1")
        if self.method not in ("MAX", "AVE"):
            raise self.spec.error(f"pool {self.method} is not supported; Caffe pads MAX and AVE only")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or 0 in bottom[0][2:]:
            raise self.spec.error(f"needs a bottom (N, C, H, W) that is not empty, not {shape_text(bottom[0])}")
        n, c, *size = bottom[0]
        self.levels = [self._level(i, size) for i in range(self.height)]
        grids = [windows.grid(size) for windows in self.levels]
        return [(n, c, *grids[0])] if self.height == 1 else [(n, sum(c * h * w for h, w in grids))]

    def _level(self, level: int, size: Sequence[int]) -> Windows:
        """Return 2^level x 2^level windows that cover the plane, with the excess split between both sides."""
        bins = 2**level
        kernel = tuple(-(-extent // bins) for extent in size)
        pad = tuple((k * bins - extent + 1) // 2 for k, extent in zip(kernel, size, strict=True))
        if any(pad) and any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise self.spec.error(f"{bins} x {bins} bins are too many for a bottom of {shape_text(tuple(size))}: they "
                                  f"need a padding of {shape_text(pad)}, which must be less than the window, "
                                  f"{shape_text(kernel)}; lower pyramid_height")
        return Windows(kernel, kernel, pad)

    def forward(self, x: Tensor) -> Tensor:
        pool = nothing if not x.shape[1] else maximum if self.method == "MAX" else average
        if self.height == 1:
            return pool(x, self.levels[0])
        return torch.cat([pool(x, windows).flatten(1) for windows in self.levels], 1)


@register("SPP", form="overlapping")
class OverlappingSPP(SPP):
    """Pools into base_bin * fineness^level bins of each axis; overlap_ratio is how much of the plane neighbours share.

    Their stride is shortened until less than a window is padded. Differs: has at most 64 levels.
    """

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if self.height > MAX_LEVELS:
            raise self.spec.error(f"pyramid_height {self.height} is above {MAX_LEVELS}")

    def _level(self, level: int, size: Sequence[int]) -> Windows:
        windows = [self._along(level, axis, extent) for axis, extent in zip("hw", size, strict=True)]
        kernel, stride, pad = zip(*windows, strict=True)
        return Windows(kernel, stride, pad)

    def _along(self, level: int, axis: str, extent: int) -> tuple[int, int, int]:
        """The length, stride and padding of the windows along one axis."""
        param = self.spec.get("spp_param")
        base, fineness, ratio = (getattr(param, f"{name}_{axis}") for name in ("base_bin", "fineness", "overlap_ratio"))
        if not base or not fineness or not 0 <= ratio <= 1:
            raise self.spec.error(f"base_bin_{axis} and fineness_{axis} must be above 0, and overlap_ratio_{axis} "
                                  "between 0 and 1")
        bins = base * fineness**level
        if bins <= extent:
            shared = int(np.float32(extent) * np.float32(ratio))
            for stride in range(max(1, -(-extent // bins) - shared), 0, -1):
                kernel = max(stride, extent - (bins - 1) * stride)
                pad = (kernel + stride * (bins - 1) - extent + 1) // 2
                if pad < kernel:
                    return kernel, stride, pad
        raise self.spec.error(f"level {level} has too many bins for a bottom whose {axis} is {extent}; lower "
                              "pyramid_height")


@chooses("SPP")
def _choose(spec: LayerSpec) -> Choice:
    """Bins by base and fineness, and windows that overlap, are of one fork."""
    own = any(name.startswith(("base_bin", "fineness", "overlap_ratio")) for name in spec.get("spp_param").fields)
    return Choice("overlapping" if own else "")
