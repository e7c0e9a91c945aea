"""Crops a blob to another blob's size. Source: crop_layer.cpp of RMPE@5188c23; CropCenter's:
crop_center_layer.cpp of lltcggie/caffe@98f9aea."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Crop")
class Crop(Layer):
    """Crops the first bottom to the second one's size, on `axis` and all later axes, starting at `offset`.

    A single offset applies to all axes; the default is 0.
    """

    params = ("crop_param",)
    exact = True
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("crop_param")
        self.start = self.axis(param.axis, len(bottom[0]))
        if len(param.offset) > 1 and self.start + len(param.offset) != len(bottom[0]):
            raise self.spec.error(f"offset is given {len(param.offset)} times for {len(bottom[0]) - self.start} axes; "
                                  "give it once, or once per axis")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, like = bottom
        if len(x) <= self.start:
            raise self.spec.error(f"crops from axis {self.start} on, but its bottom is {shape_text(x)}")
        axes = len(x) - self.start
        offset = list(self.spec.get("crop_param").offset) or [0]
        offset = offset * axes if len(offset) == 1 else offset
        if len(offset) != axes or len(like) < len(x):
            raise self.spec.error(f"a bottom of {shape_text(x)} cannot be cropped to {shape_text(like)}: the second "
                                  "bottom needs as many axes")
        sizes = like[self.start : len(x)]
        if any(size + o > have for size, o, have in zip(sizes, offset, x[self.start :], strict=True)):
            raise self.spec.error(f"a crop to {shape_text(like)} at offset {offset}, from axis {self.start} on, "
                                  f"reaches outside a bottom of {shape_text(x)}")
        self.parts = (slice(None),) * self.start + tuple(slice(o, o + s) for o, s in zip(offset, sizes, strict=True))
        return [(*x[: self.start], *sizes)]

    def forward(self, x: Tensor, _like: Tensor) -> Tensor:
        return x[self.parts].contiguous()


@register("CropCenter", form="")
class CropCenter(Layer):
    """Cuts crop_size values off both ends of each axis; crop_size is given once per axis, batch included."""

    params = ("crop_center_param",)
    exact = True
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.margins = list(self.spec.get("crop_center_param").crop_size)
        if len(self.margins) != len(bottom[0]) or any(size <= 2 * margin for size, margin in zip(
                bottom[0], self.margins, strict=True)):
            raise self.spec.error("needs a crop_size below half of its size for each axis of its bottom, "
                                  f"{shape_text(bottom[0])}; it is {self.margins}")
        return [tuple(size - 2 * margin for size, margin in zip(bottom[0], self.margins, strict=True))]

    def forward(self, x: Tensor) -> Tensor:
        return x[tuple(slice(margin, size - margin) for size, margin in zip(x.shape, self.margins, strict=True))
                 ].contiguous()
