"""Boxes to train on: the true ones, disturbed as a detector would, in each of the ways that the paper compares.

A sampler takes a person and gives the box that is cropped, and the box around which the parallel SPPE's target is
centred. ``published`` names the program whose rules hold for growing and cropping, as in ``pose.crop``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rmpe_legacy.pose.crop import grow_boxes

from .people import Person

SMALLEST = 5.0  # px: the least side of a disturbed box (pose.lua:99)
GROWTH = 0.3  # of the box's sides, half of it at each end (pose.lua:67)
PATCH_ABOVE = 0.7  # a uniform number above it cuts a patch out of the person (pose.lua:81)
JITTER = 0.3  # of the box's sides: how far random jittering moves an edge at most


class Random(Protocol):
    """The random numbers that a sampler draws; a numpy Generator has them."""

    def random(self) -> float: ...

    def normal(self, loc: float, scale: float) -> float: ...


@dataclass(frozen=True, eq=False)
class SampledBox:
    """One box to train on; all arrays are (4,) float64, xmin, ymin, xmax, ymax in pixels."""

    crop: np.ndarray  # what is cut out
    centered: np.ndarray  # the frame that the parallel SPPE should see
    centered_within: np.ndarray  # joints outside have no peak in the parallel SPPE's target


class BoxSampler(Protocol):
    """A way to disturb boxes. wh: the image's width and height in pixels."""

    def sample(self, rng: np.random.Generator, person: Person, wh: tuple[int, int]) -> SampledBox: ...


@dataclass(frozen=True, eq=False)
class PublishedBoxes:
    """PGPG as the authors published it: a patch of the person, or a Gaussian per coordinate.

    Quirks that are kept: the disturbance is scaled by the sides of the true box, but added to the corners of the grown
    one; a patch is placed from the grown box's corner; only a Gaussian box is kept inside the image.

    Attributes:
        mean: (4,) of the offsets (detected - true) / side, for people without a mean of their own.
        std: (4,), likewise.

    Source: generateSampleBox, train/src/util/pose.lua:57-119 of multi-human-pose@094e29b.
    """

    mean: np.ndarray
    std: np.ndarray

    def sample(self, rng: Random, person: Person, wh: tuple[int, int]) -> SampledBox:
        width, height = person.box_xyxy[2:] - person.box_xyxy[:2]
        grown = grow_published(person.box_xyxy, wh)
        u = rng.random()
        if u > PATCH_ABOVE:
            patch = self._patch(rng, u, grown, width, height)
            return SampledBox(patch, patch, grown)
        return SampledBox(self._gaussian(rng, person, grown, width, height, wh), grown, grown)

    @staticmethod
    def _patch(rng: Random, u: float, grown: np.ndarray, width: float, height: float) -> np.ndarray:
        ratio = height / width
        if width < height:
            w = u * width
            h = w * ratio
        else:
            h = u * height
            w = h / ratio
        xmin = grown[0] + rng.random() * (width - w)
        ymin = grown[1] + rng.random() * (height - h)
        return np.array([xmin, ymin, xmin + w + 1, ymin + h + 1])

    def _gaussian(self, rng: Random, person: Person, grown: np.ndarray, width: float, height: float,
                  wh: tuple[int, int]) -> np.ndarray:
        mean = self.mean if person.offset_mean is None else person.offset_mean
        std = self.std if person.offset_std is None else person.offset_std
        xmin, ymin, xmax, ymax = (grown[k] + rng.normal(mean[k], std[k]) * (width, height)[k % 2] for k in range(4))
        xmin, ymin = max(0.0, xmin), max(0.0, ymin)
        return np.array([xmin, ymin, max(min(wh[0], xmax), xmin + SMALLEST), max(min(wh[1], ymax), ymin + SMALLEST)])


def grow_published(box_xyxy: np.ndarray, wh: tuple[int, int]) -> np.ndarray:
    """Return the box grown by 30 % in width and height, within the image: (4,) -> (4,) float64 (pose.lua:61-71).

    The corners are rounded to float32, as in the original.
    """
    more = np.tile((box_xyxy[2:] - box_xyxy[:2]) * GROWTH / 2, 2) * (-1, -1, 1, 1)
    low, high = np.split(box_xyxy + more, 2)
    return np.concatenate([np.maximum(0, low), np.minimum(wh, high)]).astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class TrueBoxes:
    """No disturbance: the true box, grown as a detection is. growth: as for ``pose.crop.grow_boxes``."""

    growth: str = "paper"

    def sample(self, rng: np.random.Generator, person: Person, wh: tuple[int, int]) -> SampledBox:
        grown = grow(person.box_xyxy, wh, self.growth)
        return SampledBox(grown, grown, grown)


@dataclass(frozen=True)
class JitteredBoxes:
    """Random jittering, which the paper compares PGPG with: each edge moved by up to ``most`` of its side, uniformly.

    The paper does not say how its jittering draws; this is the plain form. growth: as for ``pose.crop.grow_boxes``.
    """

    most: float = JITTER
    growth: str = "paper"

    def sample(self, rng: np.random.Generator, person: Person, wh: tuple[int, int]) -> SampledBox:
        return disturbed(person, rng.uniform(-self.most, self.most, 4), wh, self.growth)


def disturbed(person: Person, offset: np.ndarray, wh: tuple[int, int], growth: str) -> SampledBox:
    """Move each coordinate of the person's box by ``offset`` (4,) times its side, then grow the box like a detection.
    """
    moved = person.box_xyxy + offset * np.tile(person.box_xyxy[2:] - person.box_xyxy[:2], 2)
    low = np.clip(moved[:2], 0, np.maximum(0, np.asarray(wh) - SMALLEST))
    high = np.maximum(np.minimum(moved[2:], wh), low + SMALLEST)
    true = grow(person.box_xyxy, wh, growth)
    return SampledBox(grow(np.concatenate([low, high]), wh, growth), true, true)


def grow(box_xyxy: np.ndarray, wh: tuple[int, int], growth: str) -> np.ndarray:
    """Apply ``grow_boxes`` to one box, clipped to the image first: (4,) -> (4,) float64."""
    cut = np.clip(box_xyxy, 0, np.tile(wh, 2))
    return grow_boxes(cut, wh, growth).astype(np.float64)
