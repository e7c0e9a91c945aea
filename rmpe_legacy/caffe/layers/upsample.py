"""Upsample, of two kinds: a max pooling undone by its mask (segnet), and pixels repeated (yolo).

Sources: upsample_layer.cpp of TimoSaemann/caffe-segnet-cudnn5@abcf30d and eric612/MobileNet-YOLO@69b4441;
upsample_darknet_layer.cpp of foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register


class _Placed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, plane: int) -> Tensor:
        ctx.save_for_backward(index)
        out = values.new_zeros(*values.shape[:2], plane)
        k = torch.arange(values.shape[2], device=values.device).expand_as(index)
        last = torch.full(out.shape, -1, device=values.device).scatter_reduce(2, index, k, "amax")
        return torch.where(last < 0, out, values.gather(2, last.clamp(min=0)) if values.shape[2] else out)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return dy.gather(2, index), None, None


def place(values: Tensor, index: Tensor, plane: int) -> Tensor:
    """(N, C, K) values at the places (N, C, K) of planes of 0; the last value for a place counts, all get its diff."""
    return _Placed.apply(values, index, plane)


@register("Upsample", form="segnet")
class Unpooled(Layer):
    """Puts each value where a pooling's mask found it, and 0 elsewhere: (N, C, H, W), its mask -> (N, C, H', W').

    The size is H * scale, less one with pad_out_h (scale 2 only), or upsample_h x upsample_w. Of two values for one
    place the last counts; both get the place's diff.
    """

    params = ("upsample_param",)
    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("upsample_param")
        self.size = None
        if param.has("upsample_h") != param.has("upsample_w"):
            raise self.spec.error("give upsample_h and upsample_w together")
        if param.has("upsample_h"):
            self.size = param.upsample_h, param.upsample_w
            if min(self.size) < 2:
                raise self.spec.error("upsample_h and upsample_w must be above 1")
            return
        apart = param.has("scale_h") or param.has("scale_w")
        if apart and (param.has("scale") or not (param.has("scale_h") and param.has("scale_w"))):
            raise self.spec.error("give scale, or scale_h and scale_w; not both")
        scale = param.scale if param.has("scale") else 2
        self.scale = (param.scale_h, param.scale_w) if apart else (scale, scale)
        self.less = param.pad_out_h, param.pad_out_w
        for what, less, factor in zip("hw", self.less, self.scale, strict=True):
            if less and factor != 2:
                raise self.spec.error(f"pad_out_{what} needs scale 2, not {factor}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0] != bottom[1]:
            raise self.spec.error(f"needs values (N, C, H, W) and a mask of the same shape; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        h, w = self.size or tuple(n * s - less for n, s, less in zip(bottom[0][2:], self.scale, self.less, strict=True))
        return [(*bottom[0][:2], h, w)]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        (shape,) = self.reshape(tuple(x.shape), tuple(mask.shape))
        index = mask.detach().flatten(2).long()
        plane = shape[2] * shape[3]
        if index.numel() and not 0 <= index.min() <= index.max() < plane:
            raise self.spec.error(f"its mask has indices {index.min()} to {index.max()}; a plane of its top has "
                                  f"{plane} values; check scale, or the pooling that made the mask")
        return place(x.flatten(2), index, plane).view(shape)


@register("Upsample", form="yolo")
class Repeated(Layer):
    """Repeats each pixel scale x scale times: (N, C, H, W) -> (N, C, H * scale, W * scale)."""

    params: tuple[str, ...] = ("upsample_param",)
    works_in_place = False
    field = "scale"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.scale = getattr(param, self.field) if param.has(self.field) else 1
        if self.scale < 1:
            raise self.spec.error(f"{self.field} must be above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return [(*bottom[0][:2], bottom[0][2] * self.scale, bottom[0][3] * self.scale)]

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


@register("UpsampleDarknet", form="")
class UpsampleDarknet(Repeated):
    """Repeats each pixel stride x stride times: (N, C, H, W) -> (N, C, H * stride, W * stride)."""

    params = ("upsample_darknet_param",)
    field = "stride"


@chooses("Upsample")
def _choose(spec: LayerSpec) -> Choice:
    """A mask as the second bottom tells."""
    return Choice("segnet" if len(spec.bottom) > 1 else "yolo")
