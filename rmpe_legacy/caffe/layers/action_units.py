"""Faces aligned by landmarks, whose parts are looked at one by one: JAA-Net's layers.

Sources: {division,combination,au_mask_based_land,align_data_transform,euclidean_loss}_layer.cpp of
ZhiwenShao/JAANet@0b8e87e.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .loss import EuclideanLoss, given
from .registry import register


def corners(layer: Layer, param: Any, parts: int) -> list[tuple[int, int]]:
    """The first row and column of each part. Raises LayerError if there are fewer than parts."""
    found = list(zip(param.ycoord, param.xcoord, strict=False))
    if len(found) < parts:
        raise layer.spec.error(f"needs xcoord and ycoord for each of {parts} parts; it has {len(param.xcoord)} and "
                               f"{len(param.ycoord)}")
    return found[:parts]


@register("Division", form="")
class Division(Layer):
    """Parts of height x width, each with its first column and row in xcoord and ycoord: (N, C, H, W) -> as many tops.

    Where parts overlap, only the last gives its gradient, as published.
    """

    params = ("division_param",)
    tops = (1, None)
    works_in_place = False
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("division_param")
        self.size, self.at = (param.height, param.width), corners(self, param, self.top_count)
        if len(bottom[0]) != 4 or min(self.size) < 1 or any(
                first + side > extent for place in self.at
                for first, side, extent in zip(place, self.size, bottom[0][2:], strict=True)):
            raise self.spec.error(f"its parts of {self.size[0]} x {self.size[1]} must lie inside a bottom (N, C, H, "
                                  f"W); its bottom is {shape_text(bottom[0])}")
        return [(*bottom[0][:2], *self.size)] * self.top_count

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        (h, w), last = self.size, torch.full(x.shape[2:], -1, device=x.device)
        for number, (row, column) in enumerate(self.at):
            last[row : row + h, column : column + w] = number
        tops = []
        for number, (row, column) in enumerate(self.at):
            part = (..., slice(row, row + h), slice(column, column + w))
            tops.append(torch.where(last[part] == number, x[part], x.detach()[part]))
        return tuple(tops)


class _Combined(torch.autograd.Function):
    """Parts pasted into zeros one after the other; each gets the whole gradient of its place."""

    @staticmethod
    def forward(ctx: Any, size: Sequence[int], at: Sequence[tuple[int, int]], *parts: Tensor) -> Tensor:
        ctx.places = [(..., slice(row, row + part.shape[2]), slice(column, column + part.shape[3]))
                      for (row, column), part in zip(at, parts, strict=True)]
        whole = parts[0].new_zeros(*parts[0].shape[:2], *size)
        for place, part in zip(ctx.places, parts, strict=True):
            whole[place] = part
        return whole

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(dy[place] for place in ctx.places)


@register("Combination", form="")
class Combination(Layer):
    """Bottoms (N, C, h, w), pasted at xcoord and ycoord -> (N, C, H, W), which ends where the last bottom does.

    Later ones cover earlier ones, which get the gradient of their place all the same. What none covers is 0. Differs:
    the published code leaves it as it is in memory.
    """

    params = ("combination_param",)
    bottoms = (1, None)
    works_in_place = False
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 or shape[:2] != bottom[0][:2] for shape in bottom):
            raise self.spec.error("needs bottoms (N, C, h, w) with the same N and C; they are "
                                  + ", ".join(map(shape_text, bottom)))
        self.at = corners(self, self.spec.get("combination_param"), len(bottom))
        self.size = tuple(first + side for first, side in zip(self.at[-1], bottom[-1][2:], strict=True))
        if any(place[axis] + shape[2 + axis] > self.size[axis]
               for place, shape in zip(self.at, bottom, strict=True) for axis in (0, 1)):
            raise self.spec.error(f"its bottoms must lie inside {self.size[0]} x {self.size[1]}, where the last ends")
        return [(*bottom[0][:2], *self.size)]

    def forward(self, *parts: Tensor) -> Tensor:
        return _Combined.apply(self.size, self.at, *parts)


# The two middles of each action unit: which of the 49 landmarks, and how far below it by the eyes' distance
UNITS = (
    ((4, -1 / 2), (5, -1 / 2)), ((1, -1 / 3), (8, -1 / 3)), ((2, 1 / 3), (7, 1 / 3)), ((24, 1), (29, 1)),
    ((21, 0), (26, 0)), ((43, 0), (45, 0)), *[((31, 0), (37, 0))] * 3, ((39, 1 / 2), (41, 1 / 2)),
    *[((34, 0), (40, 0))] * 2)
EYES = (22, 25)  # the landmarks whose distance along x is the measure


@register("AUMaskBasedLand", form="")
class AuMaskBasedLand(Layer):
    """49 landmarks (N, 98), x before y -> a mask of each of 12 action units, and the largest of all, (N, 1, S, S) each,
    S = img_size * spatial_scale rounded.

    Around both middles of a unit a square of spatial_ratio of the image has values that fall with the distance from 1
    to fill_value at least, which all else has; of two squares the second counts. No gradient.
    """

    params = ("au_mask_based_land_param",)
    tops = len(UNITS) + 1
    works_in_place = False
    is_discontinuous = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("au_mask_based_land_param")
        self.side = int(np.floor(np.float32(param.img_size) * np.float32(param.spatial_scale) + np.float32(0.5)))
        if not bottom[0] or count(bottom[0][1:]) < 98 or self.side < 1:
            raise self.spec.error("needs 49 landmarks (N, 98), and img_size and spatial_scale above 0; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [(bottom[0][0], 1, self.side, self.side)] * self.tops

    def forward(self, land: Tensor) -> tuple[Tensor, ...]:
        param = self.spec.get("au_mask_based_land_param")
        points = land.detach().reshape(len(land), -1)[:, :98].cpu().float().numpy().reshape(-1, 49, 2)
        masks = np.full((self.tops, len(points), self.side, self.side), param.fill_value, np.float32)
        if param.fill_type == "manhattan":
            with np.errstate(invalid="ignore", over="ignore"):  # landmarks that are not numbers
                for number, marks in enumerate(points):
                    self._fill(masks[:, number], marks)
        return tuple(torch.from_numpy(mask[:, None]).to(land) for mask in masks)

    def _fill(self, masks: np.ndarray, marks: np.ndarray) -> None:
        """Fill one face's masks, (13, S, S), from its landmarks (49, 2), float32."""
        param, scale = self.spec.get("au_mask_based_land_param"), np.float32(self.spec.get(
            "au_mask_based_land_param").spatial_scale)
        half = np.float32((param.img_size - 1) / 2.0 * param.spatial_ratio)
        step = 100.0 / float(np.float32(param.img_size) * scale)
        eyes = abs(marks[EYES[0], 0] - marks[EYES[1], 0])
        for unit, middles in enumerate(UNITS):
            for mark, below in middles:
                x, y = marks[mark]
                y = y + np.float32(np.sign(below)) * eyes / np.float32(round(1 / abs(below))) if below else y
                first, last = (np.clip([_rounded((place + sign * half) * scale) for place in (y, x)], 0, self.side - 1)
                               for sign in (-1, 1))
                rows, columns = (np.arange(a, b + 1, dtype=np.float32) for a, b in zip(first, last, strict=True))
                apart = abs(rows - y * scale)[:, None] + abs(columns - x * scale)
                value = 1 - (apart * np.float32(param.fill_coeff)).astype(np.float64) * step
                place = (slice(first[0], last[0] + 1), slice(first[1], last[1] + 1))
                masks[unit][place] = np.maximum(value, param.fill_value)
                masks[-1][place] = np.maximum(masks[-1][place], masks[unit][place])


def _rounded(value: np.float32) -> int:
    """C's round(): halves go away from 0. Differs: nan is 0, and what is beyond int32 stays far outside the image."""
    value = np.clip(np.nan_to_num(value), -(2.0**30), 2.0**30)
    return int(np.copysign(np.floor(abs(float(value)) + 0.5), value))


class _Aligned(torch.autograd.Function):
    """Landmarks (N, K, 2) moved and perhaps mirrored, with the published Backward: it exchanges as the forward does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mirrored: Tensor, shift: Tensor, width: Tensor, other: Tensor) -> Tensor:
        moved = x - shift.unsqueeze(1)
        flipped = torch.stack([width.unsqueeze(1) - 1 - moved[..., 0], moved[..., 1]], 2)[:, other]
        ctx.save_for_backward(mirrored, other)
        return torch.where(mirrored.view(-1, 1, 1), flipped, moved)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        mirrored, other = ctx.saved_tensors
        flipped = (dy * dy.new_tensor([-1, 1]))[:, other]
        return torch.where(mirrored.view(-1, 1, 1), flipped, dy), None, None, None, None


@register("AlignDataTransform", form="")
class AlignDataTransform(Layer):
    """Landmarks (N, 2K), x before y, as the images were cropped and mirrored: the second bottom has, for each image,
    whether it was mirrored, its width, and its first row and column; the third, for each landmark, the number, from 1,
    of the one that a mirrored face has there."""

    bottoms = 3
    works_in_place = False
    refuses = unforced = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        land, crop, other = bottom
        n, _, _, _ = shape = self.nchw(land)
        marks = count(shape[1:]) // 2
        if not n or count(shape[1:]) % 2 or count(crop) < 4 * n or count(other) < marks:
            raise self.spec.error("needs landmarks (N, 2K), 4 numbers for each of them and K numbers; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [shape]

    def forward(self, land: Tensor, crop: Tensor, other: Tensor) -> Tensor:
        x = land.reshape(len(land), -1, 2)
        crop = crop.detach().reshape(-1)[: 4 * len(x)].view(-1, 4)
        number = other.detach().reshape(-1)[: x.shape[1]].long() - 1
        if not 0 <= number.min() <= number.max() < x.shape[1]:
            raise self.spec.error(f"its third bottom must have numbers from 1 to {x.shape[1]}")
        moved = _Aligned.apply(x, crop[:, 0] != 0, crop[:, [3, 2]], crop[:, 1], number)
        return moved.reshape(self.nchw(tuple(land.shape)))


@register("EuclideanLoss2", form="")
class EuclideanLoss2(EuclideanLoss):
    """The Euclidean loss over the first value of the third bottom."""

    bottoms = 3

    def forward(self, a: Tensor, b: Tensor, measure: Tensor) -> Tensor:
        apart = a.detach() - b.detach().reshape(a.shape)
        shapes, n, by = (a.shape, b.shape), len(a), measure.detach().reshape(-1)[0]

        def gradients() -> tuple[Tensor, Tensor, None]:
            return (apart / n / by).view(shapes[0]), (-apart / n / by).view(shapes[1]), None

        return given((apart * apart).sum() / n / 2 / by, gradients, a, b, measure)
