"""Random factors for channels. Source: scale_filter_layer.cpp of opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("ScaleFilter", form="")
class ScaleFilter(Layer):
    """In TRAIN, multiplies each channel of each image by a number between min_scale and max_scale: (N, C, H, W) -> the
    same. In TEST it changes nothing.

    torch's generator draws the numbers.
    """

    params = ("scale_filter_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("scale_filter_param")
        self.low, self.high = param.min_scale, param.max_scale
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        if not 0 < self.low < self.high:
            raise self.spec.error("needs min_scale above 0, and max_scale above min_scale")

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.phase != "TRAIN":
            return x.clone()
        return x * x.new_empty(*x.shape[:2], 1, 1).uniform_(self.low, self.high)
