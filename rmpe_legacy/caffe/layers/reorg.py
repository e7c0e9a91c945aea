"""Darknet's reorg. Sources: reorg_layer.cpp of gklz1982/caffe-yolov2@ebb2702, eric612/MobileNet-YOLO@69b4441,
intel/caffe@44d5363 and choasup/caffe-yolo9000@e8a476c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register


class _Severed(torch.autograd.Function):
    """The Backward of all four reads a blob that nothing writes: the diff is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: Tensor) -> Tensor:
        ctx.shape = x.shape
        return top

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy.new_zeros(ctx.shape), None


@register("Reorg", form="")
class Reorg(Layer):
    """(N, C, H, W) -> (N, C * s^2, H / s, W / s), s the stride; with reverse, (N, C / s^2, H * s, W * s).

    Not space to depth: without reverse, the bottom's memory is read as (C / stride^2, H * stride, W * stride), a block
    of stride x stride goes to as many channels of (C, H, W), and the result is called by the top's shape. The bottom's
    diff is always 0, as published.
    """

    params = ("reorg_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("reorg_param")
        self.stride, self.backwards = param.stride, param.reverse
        if self.stride < 1:
            raise self.spec.error("needs a stride above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        n, c, h, w = bottom[0]
        s = self.stride
        if c % s**2 or (not self.backwards and (h % s or w % s)):
            raise self.spec.error(f"stride {s} does not divide its bottom of {shape_text(bottom[0])}")
        return [(n, c // s**2, h * s, w * s) if self.backwards else (n, c * s**2, h // s, w // s)]

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        s = self.stride
        if self.backwards:  # channel (a, b, c') of a pixel goes to the place (a, b) of its block
            top = x.detach().view(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2)
            top = top.reshape(n, c // s**2, h * s, w * s)
        else:
            blocks = x.detach().reshape(n, c // s**2, h, s, w, s)
            top = blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, c * s**2, h // s, w // s)
        return _Severed.apply(x, top)


@register("Reorg", form="yolo9000")
class ReorgByTwo(Reorg):
    """YOLO9000's Reorg, without reverse, whose stride is 2 unless it is given."""

    caffe_source = "reorg_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("reorg_param")
        self.stride, self.backwards = param.stride if param.has("stride") else 2, False
        if self.stride < 1:
            raise self.spec.error("needs a stride above 0")


@chooses("Reorg")
def _choose(spec: LayerSpec) -> Choice:
    """Only YOLO9000's has a default stride."""
    return Choice("", ("yolo9000",)) if spec.get("reorg_param").has("stride") else Choice("yolo9000", ("",))
