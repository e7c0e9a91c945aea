"""OpenPose's peaks of heatmaps. Source: nms_layer.{cpp,cu} of CMU-Perceptual-Computing-Lab/caffe_rtpose@a4778bb; its
kernel's algorithm, not the CPU code's, which is another and unfinished."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register

REACH = 3  # the centroid is taken over 7 x 7 pixels


@register("Nms", form="")
class Nms(Layer):
    """The peaks of the first num_parts channels: (N, C, H, W) -> (N, num_parts, max_peaks + 1, 3).

    Row 0 holds their number, which may be above max_peaks, the others x, y and value in the order of rows. A peak is
    above threshold and above its eight neighbours; its place is the centroid of the positive values around it.

    As published, that centroid leaves out row and column 0, bounds rows by the map's width, and so reads into the
    next channel of a map that is wider than high, or cuts rows of one that is higher (nan if none are left). Images
    lie num_parts channels apart, whatever C. Differs: what lies beyond the last channel counts as 0, and so do rows
    that the kernel leaves unwritten.
    """

    params = ("nms_param",)
    refuses = (0,)
    is_discontinuous = True
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("nms_param")
        self.threshold, self.parts, self.most = param.threshold, param.num_parts, param.max_peaks

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0][1] < self.parts:
            raise self.spec.error(f"needs a bottom (N, C, H, W) with num_parts {self.parts} channels or more, not "
                                  f"{shape_text(bottom[0])}")
        return [(bottom[0][0], self.parts, self.most + 1, 3)]

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        memory = x.detach().reshape(-1)
        memory = F.pad(memory, (0, max(0, w - h + 1) * w + REACH * w))
        maps = memory[: n * self.parts * h * w].view(n, self.parts, h, w)
        peaks = self._is_peak(maps)
        top = x.new_zeros(n, self.parts, self.most + 1, 3)
        for image in range(n):
            for part in range(self.parts):
                found = peaks[image, part].nonzero()
                top[image, part, 0, 0] = len(found)
                begin = (image * self.parts + part) * h * w
                for row, (y, across) in enumerate(found[: self.most].tolist(), 1):
                    top[image, part, row] = self._peak(memory[begin:], y, across, w)
        return top if not x.requires_grad else top.requires_grad_()

    def _is_peak(self, maps: Tensor) -> Tensor:
        around = F.pad(maps, (1, 1, 1, 1), value=float("inf"))
        h, w = maps.shape[2:]
        peak = maps > self.threshold
        for dy in range(3):
            for dx in range(3):
                if (dy, dx) != (1, 1):
                    peak &= maps > around[:, :, dy : dy + h, dx : dx + w]
        return peak

    @staticmethod
    def _peak(memory: Tensor, y: int, x: int, w: int) -> Tensor:
        rows = torch.tensor([r for r in range(y - REACH, y + REACH + 1) if 0 < r < w], device=memory.device)
        columns = torch.tensor([c for c in range(x - REACH, x + REACH + 1) if 0 < c < w], device=memory.device)
        value = memory[y * w + x]
        if not len(rows):
            return torch.stack([value * torch.nan, value * torch.nan, value])
        around = memory[rows.unsqueeze(1) * w + columns].clamp(min=0)
        total = around.sum()
        return torch.stack([(around * columns).sum() / total, (around * rows.unsqueeze(1)).sum() / total, value])
