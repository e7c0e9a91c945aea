"""Maps of another size. Source: resize_layer.cpp and util_img.cpp of xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import MAX_COUNT, Layer, Shape, count, shape_text
from .registry import register
from .resize_image import between


@register("Resize", form="")
class Resize(Layer):
    """Between the four pixels around each place: (N, C, H, W) -> (N, C, height, width), or with is_pyramid_test the
    bottom's size times out_height_scale and out_width_scale, rounded down.

    Pixel i of the top lies at i * H / height. Beyond the last row and column there are zeros, so that the last pixels
    of a map that grows are too small.
    """

    params = ("resize_param",)
    works_in_place = False

    def wanted(self, size: Sequence[int]) -> Sequence[float]:
        """The height and width of the top, for a bottom of this size."""
        param = self.spec.get("resize_param")
        if not param.is_pyramid_test:
            return param.height, param.width
        scales = torch.tensor([param.out_height_scale, param.out_width_scale])
        return (torch.tensor(size, dtype=torch.float32) * scales).tolist()

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, *size = self.nchw(bottom[0])
        if len(bottom[0]) != 4:
            self.not_exportable = "resizes a bottom that has not four axes"
        wanted = self.wanted(size)
        if not all(1 <= side <= MAX_COUNT for side in wanted) or min(size) < 1:
            raise self.spec.error(f"its top would be {wanted[0]:.10g} x {wanted[1]:.10g}, from a bottom of "
                                  f"{shape_text(bottom[0])}; give a height and a width above 0")
        top = (n, c, *map(int, wanted))
        if count(top) > MAX_COUNT:  # before anything is computed for each row or column
            raise self.spec.error(f"its top would be {shape_text(top)}; Caffe's blobs have up to {MAX_COUNT} values")
        self.at = [torch.arange(out, dtype=torch.float32) * (torch.tensor(float(side)) / out)
                   for side, out in zip(size, top[2:], strict=True)]
        return [top]

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        x = F.pad(x.reshape(self.nchw(tuple(x.shape))), (0, 1, 0, 1))
        rows, columns = (at.to(x.device) for at in self.at)
        return between(between(x, 3, columns), 2, rows)
