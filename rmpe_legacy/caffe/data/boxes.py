"""Boxes of a record in normalised coordinates, and Caffe's operations on them. Single precision throughout.

Source: bbox_util.cpp:22-210 of RMPE@5188c23 and of weiliu89/caffe@4817bf8.
A box is (xmin, ymin, xmax, ymax); 0 to 1 is the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.caffe.proto.message import Message

F = np.float32
UNIT = np.array([0, 0, 1, 1], F)


@dataclass(frozen=True)
class Boxes:
    """The boxes of one record, in file order."""

    label: np.ndarray  # (N,) int64: the group's label
    instance: np.ndarray  # (N,) int64
    xyxy: np.ndarray  # (N, 4) float32
    difficult: np.ndarray  # (N,) bool
    size: np.ndarray  # (N,) float32: the area as stored, NaN where none is

    @classmethod
    def of(cls, rows: Sequence[tuple[int, Message]]) -> Boxes:
        """Make boxes from (group label, Annotation) pairs."""
        boxes = [annotation.bbox for _, annotation in rows]
        return cls(
            np.array([label for label, _ in rows], np.int64),
            np.array([annotation.instance_id for _, annotation in rows], np.int64),
            np.array([(b.xmin, b.ymin, b.xmax, b.ymax) for b in boxes], F).reshape(-1, 4),
            np.array([b.difficult for b in boxes], bool),
            np.array([b.size if b.has("size") else np.nan for b in boxes], F))

    def __len__(self) -> int:
        return len(self.label)

    def where(self, kept: np.ndarray) -> Boxes:
        """Select boxes by a mask, (N,) bool."""
        return Boxes(self.label[kept], self.instance[kept], self.xyxy[kept], self.difficult[kept], self.size[kept])

    def moved(self, xyxy: np.ndarray) -> Boxes:
        """Return a copy with other coordinates, (N, 4), and unknown areas."""
        return Boxes(self.label, self.instance, xyxy, self.difficult, np.full(len(self), np.nan, F))

    def area(self) -> np.ndarray:
        """Return the areas, (N,): as stored if available; 0 if the corners are swapped."""
        own = area(self.xyxy)
        width, height = self.xyxy[:, 2] - self.xyxy[:, 0], self.xyxy[:, 3] - self.xyxy[:, 1]
        return np.where(np.isnan(self.size) | (width < 0) | (height < 0), own, self.size)


def area(xyxy: np.ndarray) -> np.ndarray:
    """Return width times height, (..., 4) -> (...); 0 if the corners are swapped."""
    width, height = xyxy[..., 2] - xyxy[..., 0], xyxy[..., 3] - xyxy[..., 1]
    return np.where((width < 0) | (height < 0), F(0), width * height)


def clip(xyxy: np.ndarray) -> np.ndarray:
    """Clip coordinates of any shape to 0..1."""
    return np.maximum(np.minimum(xyxy, F(1)), F(0))


def project(boxes: Boxes, crop: np.ndarray) -> Boxes:
    """Return the boxes relative to a crop (4,), clipped to it; boxes outside are dropped."""
    b = boxes.xyxy
    outside = (b[:, 0] >= crop[2]) | (b[:, 2] <= crop[0]) | (b[:, 1] >= crop[3]) | (b[:, 3] <= crop[1])
    boxes = boxes.where(~outside)
    origin, size = crop[[0, 1, 0, 1]], (crop[2:] - crop[:2])[[0, 1, 0, 1]]
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = boxes.moved(clip((boxes.xyxy - origin) / size))
    return seen.where(area(seen.xyxy) > 0)


def intersect(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersect boxes (..., 4) with boxes (..., 4), broadcast; zeros if they are disjoint."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    apart = ((b[..., :2] > a[..., 2:]) | (b[..., 2:] < a[..., :2])).any(axis=-1, keepdims=True)
    return np.where(apart, F(0), np.concatenate([low, high], axis=-1))


def jaccard(boxes: Boxes, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of other boxes (M, 4) with these N: (M, N)."""
    shared = intersect(boxes.xyxy, others[:, None])
    width, height = shared[..., 2] - shared[..., 0], shared[..., 3] - shared[..., 1]
    common = width * height
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = common / (area(others)[:, None] + boxes.area() - common)
    return np.where((width > 0) & (height > 0), overlap, F(0))


def coverage(boxes: Boxes, others: np.ndarray, of_others: bool = False) -> np.ndarray:
    """Return which fraction of each of these N boxes is inside each other box (M, 4): (M, N); of_others: vice versa."""
    common = area(intersect(boxes.xyxy, others[:, None]))
    whole = area(others)[:, None] if of_others else boxes.area()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(common > 0, common / whole, F(0))


def emitted(boxes: Boxes, crop: np.ndarray, constraint: Message) -> np.ndarray:
    """Return which boxes an EmitConstraint keeps for a crop (4,): (N,) bool."""
    if constraint.emit_type == "MIN_OVERLAP":
        return coverage(boxes, crop[None])[0] > F(constraint.emit_overlap)
    centre = (boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / F(2)
    return ((centre >= crop[:2]) & (centre <= crop[2:])).all(axis=1)
