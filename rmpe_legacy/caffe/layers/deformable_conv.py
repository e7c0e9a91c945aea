"""Convolution whose windows are moved place by place.

Sources: deformable_conv_layer.{cpp,cu}, deformable_im2col.cu of unsky/Deformable-ConvNets-caffe@e0f7abd, and
modulated_deformable_conv_layer.{cpp,cu} of zhanglonghao1992/Deformable-ConvNets-caffe@d90842e.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Count, Shape, shape_text
from .base_conv import BaseConvolution
from .registry import register


@register("DeformableConvolution", form="")
class DeformableConvolution(BaseConvolution):
    """Cross-correlation of values read beside their places: features (N, C, H, W) and offsets (N, 2 * kernel_h *
    kernel_w * deformable_group, H', W'), for each weight's place the rows and then the columns to add ->
    (N, num_output, H', W').

    Values between pixels are interpolated; those less than a pixel beyond the last row or column are that row's or
    column's; all others outside are 0. Each of the deformable_group groups of channels has offsets of its own.

    Differs: Backward is the gradient. The published one starts too few threads, and reads the first image's top diff.
    """

    params = ("deformable_convolution_param",)
    bottoms: Count = 2
    tops: Count = 1
    equal_counts = False
    is_discontinuous = True
    reads: tuple[str, ...] = ("offsets",)  # what the bottoms after the first hold
    values: tuple[int, ...] = (2,)  # of each, the channels for one place of the kernel

    def setup(self, *bottom: Shape) -> None:
        if len(bottom[0]) != 4 or self.spec.get(self.params[0]).axis not in (1, -3):
            raise self.spec.error(f"takes features (N, C, H, W), not {shape_text(bottom[0])}, and channels on axis 1")
        super().setup(bottom[0])
        self.deformable_group = self.spec.get(self.params[0]).deformable_group
        if not self.deformable_group or self.channels % self.deformable_group:
            raise self.spec.error(f"{self.channels} channels must be a multiple of deformable_group "
                                  f"{self.deformable_group}")

    def weight_shape(self) -> Shape:
        return (self.num_output, self.channels // self.group, *self.kernel)

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        return self.spatial(bottom)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        tops = super().reshape(bottom[0])
        places = self.kernel[0] * self.kernel[1] * self.deformable_group
        for name, each, shape in zip(self.reads, self.values, bottom[1:], strict=True):
            wanted = (bottom[0][0], places * each, *tops[0][2:])
            if shape != wanted:
                raise self.spec.error(f"its {name} must be {shape_text(wanted)} (deformable_group is "
                                      f"{self.deformable_group}), but are {shape_text(shape)}")
        return tops

    def forward(self, *bottoms: Tensor) -> Tensor:
        x, offset, *factor = bottoms
        weight, *bias = self.blobs()
        n, (out_h, out_w) = len(x), offset.shape[2:]
        moved = offset.view(n, self.deformable_group, self.kernel[0] * self.kernel[1], 2, out_h, out_w)
        read = self._read(x, moved[:, :, :, 0] + self._places(x, 0, out_h).view(1, 1, -1, out_h, 1),
                          moved[:, :, :, 1] + self._places(x, 1, out_w).view(1, 1, -1, 1, out_w))
        if factor:
            read = read * factor[0].view(n, self.deformable_group, 1, -1, out_h, out_w)
        columns = read.reshape(n, self.group, -1, out_h * out_w)
        y = (weight.reshape(self.group, self.num_output // self.group, -1) @ columns).view(n, -1, out_h, out_w)
        return y + bias[0].view(-1, 1, 1) if bias else y

    def _places(self, x: Tensor, axis: int, positions: int) -> Tensor:
        """Where each weight reads without an offset: (kernel_h * kernel_w, positions)."""
        k = torch.arange(self.kernel[0] * self.kernel[1], device=x.device)
        k = k // self.kernel[1] if axis == 0 else k % self.kernel[1]
        begin = torch.arange(positions, device=x.device) * self.stride[axis] - self.pad[axis]
        return (begin + (k * self.dilation[axis]).unsqueeze(1)).to(x.dtype)

    def _read(self, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The values at (N, groups, K, H', W') places, of each of a group's channels: (N, groups, C', K, H', W')."""
        n, _, h, w = x.shape
        groups = self.deformable_group
        flat = x.view(n, groups, -1, h * w)
        value = x.new_zeros(())
        for i, by_row in self._between(row, h):
            for j, by_column in self._between(column, w):
                index = (i * w + j).view(n, groups, 1, -1).expand(-1, -1, flat.shape[2], -1)
                pixels = flat.gather(3, index).view(n, groups, flat.shape[2], *row.shape[2:])
                value = value + pixels * (by_row * by_column).unsqueeze(2)
        return value

    @staticmethod
    def _between(place: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The pixels before and after each place, each with its weight."""
        low = place.detach().nan_to_num().floor().clamp(0, size - 1)
        inside = (place >= 0) & (place < size)
        after = torch.where(low == size - 1, 0, place - low)
        return ((low.long(), torch.where(inside, 1 - after, 0)),
                ((low + 1).clamp(max=size - 1).long(), torch.where(inside, after, 0)))


@register("ModulatedDeformableConvolution", form="")
class ModulatedDeformableConvolution(DeformableConvolution):
    """DeformableConvolution with a third bottom (N, kernel_h * kernel_w * deformable_group, H', W'), by which each
    value read is multiplied.

    Pixels outside the features are 0, so values less than a pixel beyond an edge fade out.

    Differs: Backward is the gradient for each image. The published one stores the features' diff of each image after
    the first in a wrong place.
    """

    params = ("modulated_deformable_convolution_param",)
    bottoms = 3
    reads = ("offsets", "factors")
    values = (2, 1)

    @staticmethod
    def _between(place: Tensor, size: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        low = place.detach().nan_to_num().floor()
        near = place > -1
        before, after = [
            (pixel.clamp(0, size - 1).long(), torch.where(near & (pixel >= 0) & (pixel < size), weight, 0))
            for pixel, weight in ((low, low + 1 - place), (low + 1, place - low))
        ]
        return before, after
