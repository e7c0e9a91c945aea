"""A loss of one mask per class. Source: yolo_seg.cpp of eric612/MobileNet-YOLO@69b4441."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .loss import given
from .registry import register


@register("YoloSeg", form="")
class YoloSeg(Layer):
    """Scores (N, C, H, W), masks of their shape, and the number of each mask's pixels (N, C, ...) -> a scalar: the sum
    of the squares of the diffs, over N.

    A diff is object_scale * (sigmoid(score) - mask); where the mask is above 0.5, times 2 minus the class's share of
    the batch's other pixels. Backward gives these diffs over N, not the derivative, as published. num_class,
    class_scale, use_logic_gradient and use_hardsigmoid have no effect.
    """

    params = ("yolo_seg_param",)
    bottoms = 3
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[1] != bottom[0] or count(bottom[2]) != count(bottom[0][:2]):
            raise self.spec.error("needs two blobs (N, C, H, W) of the same size and a number for each of their maps; "
                                  "its bottoms are " + ", ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, x: Tensor, mask: Tensor, pixels: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mask, inside = mask.detach(), pixels.detach().reshape(n, c).sum(0)
        share = (inside / (n * h * w - inside)).view(1, c, 1, 1)
        weight = self.spec.get("yolo_seg_param").object_scale * torch.where(mask > 0.5, 2 - share, 1)
        diff = (torch.sigmoid(x.detach()) - mask) * weight
        return given((diff * diff).sum() / n, lambda: (diff / n, None, None), x, mask, pixels)
