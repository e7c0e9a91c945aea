"""Mirrors along axes: Flip, Reverse. Sources: flip_layer.cpp of happynear/caffe-windows@967eedf, reverse_layer.cpp of
tianzhi0549/CTPN@f77ec9e and MhLiao/TextBoxes_plusplus@39d4898."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Flip", form="")
class Flip(Layer):
    """(N, C, H, W) mirrored: left and right unless flip_width is false, top and bottom if flip_height is true."""

    params = ("flip_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return bottom

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("flip_param")
        axes = [axis for axis, wanted in ((2, param.flip_height), (3, param.flip_width)) if wanted]
        return x.flip(axes)


@register("Reverse", form="")
class Reverse(Layer):
    """The blob with one axis reversed; the first axis unless reverse_param.axis is given."""

    params = ("reverse_param",)
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = self.spec.get("reverse_param").axis
        if not 0 <= self.along < len(bottom[0]):
            raise self.spec.error(f"axis {self.along} is outside a bottom of {shape_text(bottom[0])}")
        return bottom

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(self.along)
