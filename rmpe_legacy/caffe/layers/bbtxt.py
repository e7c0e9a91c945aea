"""Boxes in 2D and 3D, detected by maps of several scales. Sources: bbtxt_bb_layer.cpp, bb3txt_bb_layer.cpp,
bbtxt_data_layer.cpp, bb3txt_data_layer.cpp, bbtxt_loss_layer.cpp and bb3txt_loss_layer.cpp of
libornovax/master_thesis_code@6eca474.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .fed import COLORS, PictureLayer
from .gradient import severed
from .registry import register
from .uncomputed import UncomputedLoss

MOST_BOXES = 20  # boxes of an image, in the labels


@register("BBTXTBB", form="")
class BBTXTBB(Layer):
    """Maps (N, C, H, W), C at least 5: a probability, then x and y of two corners as a share of ideal_size, counted
    from the middle of each place's downsampling x downsampling pixels -> the same, the corners in pixels.

    Its other channels pass in place, and are 0 in a blob of its own. There is no Backward.
    """

    params = ("bbtxt_bb_param",)
    refuses = (0,)
    across: tuple[int, ...] = (1, 3)  # the channels that count columns
    down: tuple[int, ...] = (2, 4)  # the channels that count rows

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("bbtxt_bb_param")
        if not (param.has("ideal_size") and param.has("downsampling")):
            raise self.spec.error("needs ideal_size and downsampling")
        self.ideal_size, self.downsampling = param.ideal_size, param.downsampling

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        least = 1 + len(self.across) + len(self.down)
        if len(bottom[0]) != 4 or bottom[0][1] < least:
            raise self.spec.error(f"needs a bottom (N, C, H, W) of at least {least} channels, not "
                                  f"{shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        y = x.detach().clone() if self.in_place else torch.zeros_like(x)
        local = self.ideal_size * (x.detach() - 0.5)
        for channels, axis in ((self.across, 3), (self.down, 2)):
            places = torch.arange(x.shape[axis], device=x.device).to(x)
            middle = (self.downsampling * (places + 0.5)).trunc()
            y[:, channels] = local[:, channels] + (middle if axis == 3 else middle[:, None])
        return severed(y, x)


@register("BB3TXTBB", form="")
class BB3TXTBB(BBTXTBB):
    """The same for boxes in space, C at least 8: a probability, then x and y of the front's bottom left and right and
    of the rear's bottom left corner, and y of the front's top left."""

    across = (1, 3, 5)
    down = (2, 4, 6, 7)


class _AccumulatorLoss(UncomputedLoss):
    """Base: compares boxes (N, B, values) with maps (N, channels, H, W) that have a circle drawn for each box."""

    params = ("accumulator_loss_param",)
    bottoms = 2
    tops = 1
    channels = 5

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[1]) != 4 or bottom[1][1] != self.channels:
            raise self.spec.error(f"needs maps (N, {self.channels}, H, W) as its second bottom, not "
                                  f"{shape_text(bottom[1])}")
        return super().reshape(*bottom)


@register("BBTXTLoss", form="")
class BBTXTLoss(_AccumulatorLoss):
    """Of boxes in the image."""


@register("BB3TXTLoss", form="")
class BB3TXTLoss(_AccumulatorLoss):
    """Of boxes in space."""

    channels = 8


@register("BBTXTData", form="")
class BBTXTData(PictureLayer):
    """Images (n, 3, height, width) and up to 20 boxes each (n, 20, 5), fed; sizes are those of bbtxt_param."""

    params = ("image_data_param", "bbtxt_param", "transform_param")
    tops = 2
    values = 5  # a label, and a box

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        size = self.spec.get("bbtxt_param")
        if size.height < 1 or size.width < 1:
            raise self.spec.error("needs height and width in bbtxt_param, above 0")
        n = max(1, self.own_message().batch_size)
        return [(n, COLORS, size.height, size.width), (n, MOST_BOXES, self.values)]


@register("BB3TXTData", form="")
class BB3TXTData(BBTXTData):
    """The same, with boxes in space: (n, 20, 12)."""

    values = 12
