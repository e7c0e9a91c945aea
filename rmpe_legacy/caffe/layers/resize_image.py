"""TensorFlow's resizing of images, by the nearest pixel and bilinear.

Sources: resize_nearest_neighbor_layer.cpp and resize_bilinear_layer.cpp of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import MAX_COUNT, Layer, Shape, count, shape_text
from .registry import register

HALF = np.float32(0.5)


class _Resize(Layer):
    """Base: (N, H, W, C), or with data_format NCHW (N, C, H, W), -> the same with other sizes: output_height and
    output_width, or else the bottom's times scale_height and scale_width, rounded down."""

    works_in_place = False
    flags: tuple[str, ...] = ()  # the ways to place pixels beside the default, of which a layer may set one

    def setup(self, *bottom: Shape) -> None:
        param = self.param = self.spec.get(self.params[0])
        self.first = 1 if param.data_format == "NHWC" else 2  # the axis of the rows
        set_flags = [name for name in self.flags if getattr(param, name)]
        if len(set_flags) > 1:
            raise self.spec.error(f"{' and '.join(set_flags)} exclude each other")
        self.how = set_flags[0] if set_flags else ""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = list(bottom[0])
        if len(shape) != 4:
            raise self.spec.error(f"needs a bottom with 4 axes, not {shape_text(bottom[0])}")
        self.size = []
        for axis, side in enumerate(("height", "width"), self.first):
            size = self.scaled(shape[axis], side)
            if not 1 <= size <= MAX_COUNT or shape[axis] < 1:
                raise self.spec.error(f"its top would have {side} {size:.10g}, from a bottom of "
                                      f"{shape_text(bottom[0])}")
            shape[axis] = int(size)
            self.size.append(shape[axis])
        if count(tuple(shape)) > MAX_COUNT:  # before anything is computed for each row or column
            raise self.spec.error(f"its top would be {shape_text(tuple(shape))}; Caffe's blobs have up to {MAX_COUNT} "
                                  "values")
        return [tuple(shape)]

    def scaled(self, size: int, side: str) -> float:
        """How many rows or columns the top has; NaN or infinite if the scale is, or is that large."""
        if self.param.has(f"output_{side}"):
            return getattr(self.param, f"output_{side}")
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.floor(np.float32(size) * np.float32(getattr(self.param, f"scale_{side}"))))

    def step(self, size: int, out: int) -> np.float32:
        """How many of the bottom's pixels a pixel of the top spans."""
        if self.how == "align_corners" and out > 1:
            return np.float32(size - 1) / np.float32(out - 1)
        return np.float32(size) / np.float32(out)


@register("ResizeNearestNeighbor", form="")
class ResizeNearestNeighbor(_Resize):
    """The bottom's pixel that each pixel of the top lies on: (N, H, W, C) or (N, C, H, W) -> the same with other
    sizes."""

    params = ("resize_nearest_neighbor_param",)
    exact = True
    flags = ("align_corners", "half_pixel_centers", "half_pixel_onnx")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shapes = super().reshape(*bottom)
        self.places = [self.places_of(bottom[0][self.first + i], out) for i, out in enumerate(self.size)]
        return shapes

    def places_of(self, size: int, out: int) -> Tensor:
        """The index of the bottom's pixel for each of `out` pixels."""
        step, at = self.step(size, out), np.arange(out, dtype=np.float32)
        if self.how == "half_pixel_onnx":
            place = np.floor(((at + HALF) * step).astype(np.float64) - 0.5)
        elif self.how == "half_pixel_centers":
            place = np.floor((at + HALF) * step)
        else:
            place = at * step
            place = np.floor(place.astype(np.float64) + 0.5) if self.how == "align_corners" else np.floor(place)
        return torch.from_numpy(place.astype(np.int64).clip(0, size - 1))

    def forward(self, x: Tensor) -> Tensor:
        for axis, places in enumerate(self.places, self.first):
            x = x.index_select(axis, places.to(x.device))
        return x


@register("ResizeBilinear", form="")
class ResizeBilinear(_Resize):
    """Between the four pixels of the bottom around each pixel of the top: (N, H, W, C) or (N, C, H, W) -> the same with
    other sizes."""

    params = ("resize_bilinear_param",)
    flags = ("align_corners", "half_pixel_centers", "pytorch_half_pixel")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if self.param.data_format not in ("NHWC", "NCHW"):
            raise self.spec.error(f"data_format {self.param.data_format} is not supported; it may be NHWC or NCHW")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shapes = super().reshape(*bottom)
        self.at = [self.places_of(bottom[0][self.first + i], out) for i, out in enumerate(self.size)]
        return shapes

    def places_of(self, size: int, out: int) -> Tensor:
        """Where each of `out` pixels lies on the bottom, in its pixels, float32."""
        step, at = self.step(size, out), np.arange(out, dtype=np.float32)
        place = at * step if self.how in ("", "align_corners") else (at + HALF) * step - HALF
        if self.how == "pytorch_half_pixel" and out == 1:
            place = np.array([-0.5], np.float32)
        return torch.from_numpy(place)

    def forward(self, x: Tensor) -> Tensor:
        for axis in (self.first + 1, self.first):  # between columns first, as published
            x = between(x, axis, self.at[axis - self.first].to(x.device))
        return x


def around(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The indices of the two pixels around each place on an axis of `size` pixels, and the share of the second."""
    lower = place.floor()
    return lower.clamp(min=0).long(), place.ceil().clamp(0, size - 1).long(), place - lower


def between(x: Tensor, axis: int, place: Tensor) -> Tensor:
    """Interpolate along an axis at these places."""
    lower, upper, share = around(place, x.shape[axis])
    a, b = x.index_select(axis, lower), x.index_select(axis, upper)
    return a + (b - a) * share.to(x).view(-1, *[1] * (x.dim() - axis - 1))
