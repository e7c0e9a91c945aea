"""The data passed between the steps of the pipeline. Coordinates are pixels (x, y) of the image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .joints import MPII16

JOINTS = MPII16.joints  # MPII's 16 joints, in the order used for every joint axis of the published networks


@dataclass(frozen=True, eq=False)
class Detections:
    """The people detected in one image, in the detector's order."""

    boxes_xyxy: np.ndarray  # (D, 4) int64: xmin, ymin, xmax, ymax
    scores: np.ndarray  # (D,) float32, as the network gives them

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: np.ndarray) -> Detections:
        """Select detections by a mask, (D,) bool."""
        return Detections(self.boxes_xyxy[keep], self.scores[keep])


@dataclass(frozen=True, eq=False)
class Proposals:
    """The people detected in I images: P boxes, image by image."""

    images: tuple[str, ...]  # I names
    ranges: np.ndarray  # (I, 2) int64: the boxes of image i are ranges[i, 0]:ranges[i, 1]
    boxes_xyxy: np.ndarray  # (P, 4) int64 (float64 if a file has fractions): xmin, ymin, xmax, ymax
    scores: np.ndarray  # (P,) float64

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Poses:
    """One pose per box, as the pose network estimates them."""

    joints_xy: np.ndarray  # (P, J, 2) float64; J is 16 for the published networks
    scores: np.ndarray  # (P, J), the heights of the heatmaps: float64 or float32

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Persons:
    """K persons, each merged from one or more poses, image by image, in the order in which the NMS picked them."""

    picks: np.ndarray  # (K,) int64: the proposal that the NMS picked for each person
    joints_xy: np.ndarray  # (K, J, 2) float64, merged
    scores: np.ndarray  # (K, J) float64, merged
    members: np.ndarray  # (M,) int64: the merged proposals, person by person
    member_ends: np.ndarray  # (K,) int64: person k's members end here
    image_ends: np.ndarray  # (I,) int64: image i's persons end here

    def __len__(self) -> int:
        return len(self.picks)

    @property
    def joints_px(self) -> np.ndarray:
        """The coordinates truncated towards zero, as the authors wrote them: (K, J, 2) int64."""
        return np.trunc(self.joints_xy).astype(np.int64)

    @property
    def images(self) -> np.ndarray:
        """The index of each person's image: (K,) int64."""
        return np.repeat(np.arange(len(self.image_ends)), np.diff(self.image_ends, prepend=0))

    def merged(self, person: int) -> np.ndarray:
        """Return the indices of the proposals that were merged into one person: (M,) int64."""
        return self.members[self.member_ends[person - 1] if person else 0 : self.member_ends[person]]

    def select(self, keep: np.ndarray) -> Persons:
        """Select persons by a mask, (K,) bool; images without persons remain."""
        if keep.all():
            return self
        sizes = np.diff(self.member_ends, prepend=0)
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        return Persons(self.picks[keep], self.joints_xy[keep], self.scores[keep],
                       self.members[np.repeat(keep, sizes)], np.cumsum(sizes[keep]), kept_before[self.image_ends])

    def by_image(self) -> Iterator[slice]:
        """Yield, for each image, the slice of its persons in picks, joints_xy and scores."""
        start = 0
        for end in self.image_ends.tolist():
            yield slice(start, end)
            start = end
