"""Regions of interest: common code of the layers that pool inside boxes.

A region is (image's number in the batch, x1, y1, x2, y2), in pixels of the image; R x 5, or R x 5 x 1 x 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Count, Layer, Shape, count, shape_text


class RoiLayer(Layer):
    """A layer of two bottoms, features (N, C, H, W) and regions, with one top entry a region."""

    bottoms: Count = 2
    works_in_place = False

    def check(self, features: Shape, rois: Shape, values: int = 5) -> None:
        """Check that the bottoms are features with `values` - 1 axes, and regions of `values` values, (R, values).

        Raises:
            LayerError: A bottom has another shape.
        """
        if len(features) != values - 1 or len(rois) < 2 or count(rois[1:]) != values:
            raise self.spec.error(f"needs features with {values - 1} axes and regions of {values} values each; its "
                                  f"bottoms are {shape_text(features)} and {shape_text(rois)}")

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Regions anywhere in the images."""
        if index != 1 or count(bottom[1][1:]) != 5:
            return None
        h, w = (size / self.scale for size in bottom[0][2:4])
        return random_regions(bottom[1], bottom[0][0], h, w, rng)

    def regions(self, x: Tensor, rois: Tensor) -> tuple[list[int], Tensor]:
        """Return the image index (R,) and corners (R, values - 1) of each region, in the precision of the features.

        Differs: an infinite corner is nan, so that nothing is pooled there. Caffe converts it to a whole number, which
        C leaves open.

        Raises:
            LayerError: A region is of an image that the batch does not have.
        """
        flat = rois.detach().reshape(len(rois), count(rois.shape[1:])).to(x.dtype)
        images = flat[:, 0].to(torch.int64).tolist()
        if images and not 0 <= min(images) <= max(images) < len(x):
            raise self.spec.error(f"its regions belong to images {min(images)} to {max(images)}, but the batch has "
                                  f"{len(x)} images")
        return images, flat[:, 1:].where(flat[:, 1:].isfinite(), torch.nan)


def whole(place: Tensor) -> Tensor:
    """Return whole numbers as indices.

    Differs: nan becomes 0. Caffe then reads outside of its memory.
    """
    return place.nan_to_num().to(torch.int64)


class PositionSensitiveLayer(RoiLayer):
    """Base: each bin of a region has channels of its own: (N, output_dim * group_size^2, H, W), regions (R, 5) ->
    (R, output_dim, group_size, group_size)."""

    above_0: tuple[str, ...] = ("output_dim", "group_size")  # fields

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        self.scale, self.dim, self.group = param.spatial_scale, param.output_dim, param.group_size
        if min(getattr(param, name) for name in self.above_0) < 1:
            *names, last = self.above_0
            raise self.spec.error(f"needs {', '.join(names)} and {last}, {'all' if len(names) > 1 else 'both'} above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom[0], bottom[1])
        channels = self.dim * self.group**2
        if bottom[0][1] != channels:
            raise self.spec.error(f"needs output_dim * group_size^2 = {channels} channels; its bottom has "
                                  f"{bottom[0][1]}")
        return [(bottom[1][0], self.dim, self.group, self.group)]


def random_regions(shape: Shape, images: int, h: float, w: float, rng: np.random.Generator) -> np.ndarray:
    """Draw regions (R, 5, ...) in images of h x w."""
    rows = count(shape[:1])
    corners = np.sort(rng.uniform(0, 1, (rows, 2, 2)) * [w, h], axis=1)
    return np.hstack([rng.integers(0, max(images, 1), (rows, 1)), corners.reshape(rows, 4)]).reshape(shape)


def half_away(x: Tensor) -> Tensor:
    """C's round(): halves go away from 0."""
    return torch.where(x < 0, (x - 0.5).ceil(), (x + 0.5).floor())


def padded(corners: Tensor, ratio: float) -> Tensor:
    """Boxes (R, 4) with each side moved out by `ratio` of the box's size."""
    if not ratio:
        return corners
    pad = (corners[:, 2:] - corners[:, :2] + 1) * ratio
    return torch.cat([corners[:, :2] - pad, corners[:, 2:] + pad], 1)


def edges(first: Tensor, last: Tensor, pooled: Sequence[int], size: Sequence[int]) -> list[list[list[tuple[int, int]]]]:
    """Per region and axis, where each bin begins and ends on the map.

    first, last: (R, axes), rounded corners, axes in the order of `pooled` and `size`.
    """
    out = []
    length = (last - first + 1).clamp(min=1)
    axes = []
    for axis, (bins, extent) in enumerate(zip(pooled, size, strict=True)):
        step = (length[:, axis] / bins).unsqueeze(1)
        k = torch.arange(bins, dtype=first.dtype, device=first.device)
        begin = ((k * step).floor() + first[:, axis : axis + 1]).clamp(0, extent).to(torch.int64).tolist()
        end = (((k + 1) * step).ceil() + first[:, axis : axis + 1]).clamp(0, extent).to(torch.int64).tolist()
        axes.append((begin, end))
    for r in range(len(first)):
        out.append([list(zip(begin[r], end[r], strict=True)) for begin, end in axes])
    return out
