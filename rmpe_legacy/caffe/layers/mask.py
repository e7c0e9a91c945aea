"""Masks of borders, and maps as sequences of places. Sources: mask_layer.cpp and transpose_layer.cpp of
Winstonxu123/LSTM-CF@96cf867 (border, places); mask_layer.cpp of liuyuisanai/CaffeMex_v2@9bab8d2 (rows)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import MAX_COUNT, Layer, Shape, count, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed


@register("Mask", form="border")
class BorderMask(Layer):
    """(height, width) of ones, and zeros where a recurrent layer begins: in the first row (VERTICAL, TOP2BOTTOM) or
    column (HORIZONTAL, LEFT2RIGHT).

    As published, BOTTOM2TOP has its zeros in the second row and the last, RIGHT2LEFT in the first column and the last.
    Other combinations are zeros.
    """

    params = ("mask_param",)
    bottoms = 0
    is_constant = True
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("mask_param")
        if min(param.height, param.width) < 2 or param.height * param.width > MAX_COUNT:
            raise self.spec.error("needs a height and a width of 2 or more, in a blob that Caffe can hold")
        return [(param.height, param.width)]

    def forward(self) -> Tensor:
        param = self.spec.get("mask_param")
        kind = param.masktype, param.direction
        if kind not in (("VERTICAL", "TOP2BOTTOM"), ("VERTICAL", "BOTTOM2TOP"), ("HORIZONTAL", "LEFT2RIGHT"),
                        ("HORIZONTAL", "RIGHT2LEFT")):
            return torch.zeros(param.height, param.width)
        top = torch.ones(param.height, param.width)
        lines = top if kind[0] == "VERTICAL" else top.t()
        if kind[1] == "BOTTOM2TOP":
            lines[1] = lines[-1] = 0
        else:
            lines[0] = 0
            if kind[1] == "RIGHT2LEFT":
                lines[-1] = 0
        return top


@register("Mask", form="rows")
class MaskedRows(Uncomputed):
    """An image (1, C, H, W) and a mask (1, 1, H, W) -> (places, C, 1, 1), those where the mask is 1 or more; how many,
    only a forward could tell."""

    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        (n, c, *size), (_, *one) = self.nchw(bottom[0]), self.nchw(bottom[1])
        if n != 1 or one != [1, *size]:
            raise self.spec.error("needs an image (1, C, H, W) and a mask (1, 1, H, W); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(count(tuple(size)), c, 1, 1)]


@chooses("Mask")
def _choose_mask(spec: LayerSpec) -> Choice:
    """A mask is made of nothing, or read."""
    return Choice("rows") if spec.bottom else Choice("border")


@register("Transpose", form="places")
class TransposedPlaces(Layer):
    """Places before channels (CONVTOLSTM) or behind them (LSTMTOCONV), in each image; the top has the given shape.

    The bottom has the channels and places that its own second axis, and those after it, say in both.
    """

    params = ("transpose_param",)
    works_in_place = False
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = tuple(self.spec.get("transpose_param").shape.dim)
        if any(size < 0 for size in shape) or count(shape) != count(bottom[0]):
            raise self.spec.error(f"cannot give a bottom of {shape_text(bottom[0])} the shape {shape_text(shape)}")
        self.nchw(bottom[0])
        return [shape]

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("transpose_param")
        n, c, h, w = self.nchw(tuple(x.shape))
        first, second = (c, h * w) if param.transposetype == "CONVTOLSTM" else (h * w, c)
        return x.reshape(n, first, second).transpose(1, 2).reshape(tuple(param.shape.dim))


@chooses("Transpose")
def _choose_transpose(spec: LayerSpec) -> Choice:
    """CTPN's lists axes."""
    param = spec.get("transpose_param")
    return Choice("places") if param.has("transposetype") else Choice("", ("places",))
