"""Convolutions with weights of their own for each place, and crops at corners.

Sources: local_layer.cpp and corner_crop_layer.cpp of ZJULearning/SplitNet@bbf30bf.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("Local", form="")
class Local(Layer):
    """(N, C, H, W) -> (N, num_output, H', W'): as Convolution, with weights (num_output, 1, C * kernel_size^2, H' * W')
    and a bias (1, 1, num_output, H' * W')."""

    params = ("local_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("local_param")
        self.window = param.kernel_size, 1, param.pad, max(1, param.stride)
        if len(bottom[0]) != 4 or not param.num_output or not param.kernel_size or not param.stride:
            raise self.spec.error("needs a bottom (N, C, H, W), and num_output, kernel_size and stride above 0; its "
                                  f"bottom is {shape_text(bottom[0])}")
        self.set_up_for = bottom[0][1:]
        self.size = tuple((size + 2 * param.pad - param.kernel_size) // param.stride + 1 for size in bottom[0][2:])
        if min(self.size) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        places = self.size[0] * self.size[1]
        self.declare("weight", (param.num_output, 1, bottom[0][1] * param.kernel_size**2, places), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (1, 1, param.num_output, places), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0][1:] != self.set_up_for:
            raise self.spec.error(f"was set up for a bottom of N x {shape_text(self.set_up_for)}; it is "
                                  f"{shape_text(bottom[0])}")
        return [(bottom[0][0], self.spec.get("local_param").num_output, *self.size)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        columns = F.unfold(x, *self.window)
        y = (columns.unsqueeze(1) * weight.squeeze(1)).sum(2)
        return (y + bias[0].view(y.shape[1:]) if bias else y).view(*y.shape[:2], *self.size)


@register("CornerCrop", form="")
class CornerCrop(Layer):
    """(N, C, H, W) -> for each `position` a top (N, C, crop_h, crop_w): center, upperleft, upperright, lowerleft or
    lowerright.

    The gradient is the mean over the crops that have a place. Differs: the published code counts these in memory behind
    its blob.
    """

    params = ("corner_crop_param",)
    tops = (1, None)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("corner_crop_param")
        self.size = (param.crop_size,) * 2 if param.has("crop_size") else (param.crop_h, param.crop_w)
        if len(bottom[0]) != 4:
            raise self.spec.error(f"takes a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        rest = [whole - part for whole, part in zip(bottom[0][2:], self.size, strict=True)]
        if min(rest) < 1 or rest[0] % 2 or rest[1] % 2:
            raise self.spec.error(f"its crop {self.size[0]} x {self.size[1]} must be smaller than its bottom, "
                                  f"{shape_text(bottom[0])}, by even numbers")
        positions = param.fields.get("position", [])  # Message.position is another thing
        if len(positions) != self.top_count:
            raise self.spec.error(f"needs a position for each of its {self.top_count} tops; it has {len(positions)}")
        corners = {"center": (rest[0] // 2, rest[1] // 2), "upperleft": (0, 0), "upperright": (0, rest[1]),
                   "lowerleft": (rest[0], 0), "lowerright": (rest[0], rest[1])}
        unknown = [name for name in positions if name not in corners]
        if unknown:
            raise self.spec.error(f"position {unknown[0]!r} is none of {', '.join(corners)}")
        self.corners = [corners[name] for name in positions]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(*bottom[0][:2], *self.size)] * self.top_count

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        h, w = self.size
        crops = x.new_zeros(x.shape[2:])
        for top, left in self.corners:
            crops[top : top + h, left : left + w] += 1
        share = x / crops.clamp(min=1)
        even = share - share.detach() + x.detach()  # the value of x, with a share of the gradient
        return tuple(even[:, :, top : top + h, left : left + w] for top, left in self.corners)
