"""Position-sensitive pooling in bins that are moved. Source: deformable_psroi_pooling_layer.{cpp,cu} of
makefile/frcnn@8d9b9eb."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, shape_text
from .registry import register
from .roi import PositionSensitiveLayer, half_away, whole


@register("DeformablePSROIPooling", form="")
class DeformablePSROIPooling(PositionSensitiveLayer):
    """The mean of samples of each bin, of the channel that belongs to the bin: (N, output_dim * group^2, H, W), regions
    (R, 5) and, unless no_trans, offsets (R, 2 * classes, part, part), of columns and of rows ->
    (R, output_dim, group, group).

    A bin has sample_per_part^2 samples, interpolated between pixels; those more than half a pixel outside do not count.
    Offsets are in trans_std times the region's size; each class moves its own output_dim / classes channels.
    """

    params = ("deformable_psroi_pooling_param",)
    bottoms = (2, 3)
    tops = 1
    is_discontinuous = True
    above_0 = ("output_dim", "group_size", "sample_per_part")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.param = self.spec.get("deformable_psroi_pooling_param")
        if not param.no_trans and (len(bottom) < 3 or param.part_size < 1):
            raise self.spec.error("needs offsets as its third bottom, and part_size; or no_trans: true")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shapes = super().reshape(*bottom)
        param = self.param
        if not param.no_trans:
            regions, offsets = bottom[1][0], bottom[2]
            classes = offsets[1] // 2 if len(offsets) == 4 else 0
            if not classes or param.output_dim % classes or offsets != (regions, 2 * classes, *[param.part_size] * 2):
                raise self.spec.error(f"needs offsets ({regions}, 2 for each class, {param.part_size}, "
                                      f"{param.part_size}), and an output_dim that the classes share; they are "
                                      f"{shape_text(offsets)}")
        return shapes

    def forward(self, x: Tensor, rois: Tensor, *offsets: Tensor) -> Tensor:
        h, w = x.shape[2:]
        images, boxes = self.regions(x, rois)
        corners = half_away(boxes)
        begin = corners[:, :2] * self.scale - 0.5
        size = ((corners[:, 2:] + 1) * self.scale - 0.5 - begin).clamp(min=0.1)
        moves = self._moves(x, len(images), offsets)
        column, inside_x = self._samples(begin[:, 0], size[:, 0], moves[:, :, 0], w, -1)
        row, inside_y = self._samples(begin[:, 1], size[:, 1], moves[:, :, 1], h, -2)
        row, column = row.unsqueeze(5), column.unsqueeze(4)
        inside = inside_y.unsqueeze(5) & inside_x.unsqueeze(4)
        plane = self._planes(images, x)
        values = x.new_zeros(())
        for i, by_row in _between(row):
            for j, by_column in _between(column):
                values = values + x.reshape(-1)[plane + i * w + j] * (by_row * by_column)
        count = inside.sum((4, 5))
        return torch.where(inside, values, 0).sum((4, 5)) / count.clamp(min=1)

    def _moves(self, x: Tensor, regions: int, offsets: tuple[Tensor, ...]) -> Tensor:
        """How far each bin is moved, in sizes of its region: (R, output_dim, 2, group, group), columns first."""
        param = self.param
        if param.no_trans:
            return x.new_zeros(regions, param.output_dim, 2, *[param.group_size] * 2)
        part = self.part_of_bin().to(x.device)
        moved = offsets[0].view(regions, -1, 2, *[param.part_size] * 2)[:, :, :, part][..., part] * param.trans_std
        return moved.repeat_interleave(param.output_dim // moved.shape[1], 1)

    def part_of_bin(self) -> Tensor:
        """The part whose offsets move each row, or column, of bins, (group_size,)."""
        bins = torch.arange(self.param.group_size, dtype=torch.float32)
        return (bins / self.param.group_size * self.param.part_size).floor().long()

    def _samples(self, begin: Tensor, size: Tensor, moves: Tensor, extent: int, axis: int) -> tuple[Tensor, Tensor]:
        """Where the samples of each bin are on an axis, on the map, (R, output_dim, group, group, samples), and which
        of them count."""
        begin, size = begin.view(-1, 1, 1, 1), size.view(-1, 1, 1, 1)
        bins = torch.arange(self.param.group_size, dtype=size.dtype, device=size.device)
        bins = bins.view(-1, 1) if axis == -2 else bins
        each = size / self.param.group_size
        start = bins * each + begin + moves * size
        step = (each / self.param.sample_per_part).unsqueeze(4)
        at = start.unsqueeze(4) + torch.arange(self.param.sample_per_part, dtype=size.dtype, device=size.device) * step
        return at.clamp(0, extent - 1), (at >= -0.5) & (at <= extent - 0.5)

    def _planes(self, images: list[int], x: Tensor) -> Tensor:
        """Where the plane of each bin begins in the features, (R, output_dim, group, group, 1, 1)."""
        bins = torch.arange(x.shape[1], device=x.device).view(1, -1, *[self.param.group_size] * 2)
        image = torch.tensor(images, dtype=torch.int64, device=x.device).view(-1, 1, 1, 1)
        return ((image * x.shape[1] + bins) * (x.shape[2] * x.shape[3]))[..., None, None]


def _between(place: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pixels before and after each place, each with its weight; one pixel at a whole number."""
    low, high = place.detach().floor(), place.detach().ceil()
    return (whole(low), 1 - (place - low)), (whole(high), place - low)
