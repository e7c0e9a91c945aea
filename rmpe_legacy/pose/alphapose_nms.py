"""The pose NMS of AlphaPose, the authors' successor of RMPE, for poses of any number of joints.

Like ``nms``, it picks the pose of the highest mean score and merges with it all that are much like it, until none is
left; the rules differ: distances fade in pixels, not in reference distances; five coinciding joints are enough; merged
scores are weighted means; persons without a single sure joint are dropped.

Source: ``pose_nms_body`` of alphapose/utils/pPose_nms.py, AlphaPose@c60106d. Decisions are made in single precision,
as there; merged places are computed in double, which is within 1e-4 px of torch's float32 sums in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy.errors import RmpeError

from .nms import NmsResult, check_poses, check_ranges
from .results import Persons


@dataclass(frozen=True)
class AlphaPoseParameters:
    """The constants of AlphaPose's pose NMS."""

    delta1: float = 1.0  # how fast a joint's score counts as certain
    mu: float = 1.7  # weight of the distances against the scores
    delta2: float = 2.65  # px: how fast the distance of two joints fades
    gamma: float = 22.48  # more alike than this are one person
    alpha: float = 0.1  # the reference distance, as a part of the longer side of the pick's box
    matches: int = 5  # as many joints within the reference distance make one person, too
    min_score: float = 0.3  # persons whose best joint is below are dropped
    match_limit: float = 7.0  # px: the reference distance for matching is at most this
    merge_limit: float = 15.0  # px: the same for merging
    min_area: float = 0.0  # px^2: persons whose joints span less, enlarged 1.5 times, are dropped


ALPHAPOSE = AlphaPoseParameters()
_NO_SCORE = np.float32(1e-5)  # what a score of exactly 0 becomes, so that weights can be formed
_COINCIDE = 1.0  # px: joints this near count by their scores


def alphapose_nms(joints_xy: ArrayLike, scores: ArrayLike, boxes_xyxy: ArrayLike,
                  parameters: AlphaPoseParameters = ALPHAPOSE, ranges: ArrayLike | None = None) -> NmsResult:
    """Merge the poses of each image into persons.

    Args:
        joints_xy: (P, J, 2) pixels, any J.
        scores: (P, J) or (P, J, 1).
        boxes_xyxy: (P, 4), the detector's boxes.
        ranges: (I, 2), from 0, end exclusive: which poses belong to which image; without it all belong to one.

    Returns:
        Persons, and those dropped for their low scores or small area, both in the order of picking.

    Raises:
        PoseFileError: arrays that do not belong together, or that hold NaN or infinity.
    """
    joints, scores, boxes = check_poses(joints_xy, scores, boxes_xyxy, joints=None)
    where = np.array([[0, len(joints)]]) if ranges is None else np.asarray(ranges, np.int64).reshape(-1, 2)
    check_ranges(where, len(joints))
    if joints.shape[1] < 1:
        raise RmpeError("pose NMS: poses without joints")
    joints, scores, boxes = joints.astype(np.float32), scores.astype(np.float32), boxes.astype(np.float32)
    scores[scores == 0] = _NO_SCORE
    picks, kept, merged, image_ends = [], [], [], []
    for first, end in where.tolist():
        image = _Image(joints[first:end], scores[first:end], boxes[first:end], parameters)
        for pick, members in image.groups():
            person = image.merge(pick, members)
            picks.append(first + pick)
            merged.append((first + members, *person))
            kept.append(image.is_person(pick, *person))
        image_ends.append(len(picks))
    found = _persons(picks, merged, image_ends, joints.shape[1])
    keep = np.array(kept, bool)
    return NmsResult(found.select(keep), found.select(~keep))


class _Image:
    """The poses of one image, float32."""

    def __init__(self, joints: np.ndarray, scores: np.ndarray, boxes: np.ndarray, parameters: AlphaPoseParameters):
        self.joints, self.scores, self.parameters = joints, scores, parameters
        self.ref = np.float32(parameters.alpha) * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])

    def groups(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each pick, and the poses that go with it (M,)."""
        left, means = np.arange(len(self.joints)), self.scores.mean(axis=1)
        while len(left):
            pick = int(left[means[left].argmax()])
            same = self._same(pick, left)
            if not same.any():  # a box without size, where distances are 0 / 0
                same = left == pick
            yield pick, left[same]
            left = left[~same]

    def _same(self, pick: int, left: np.ndarray) -> np.ndarray:
        """(L,) bool: which poses are the same person as the pick."""
        p = self.parameters
        distance = self._distance(pick, left)
        sure = np.tanh(self.scores / np.float32(p.delta1))
        likeness = np.where(distance <= _COINCIDE, sure[pick] * sure[left], np.float32(0)).sum(axis=1)
        likeness += np.float32(p.mu) * np.exp(-distance / np.float32(p.delta2)).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            near = distance / min(self.ref[pick], np.float32(p.match_limit)) <= 1
        return (likeness > p.gamma) | (near.sum(axis=1) >= p.matches)

    def _distance(self, pick: int, others: np.ndarray) -> np.ndarray:
        """(L, J) float32, pixels."""
        return np.sqrt(((self.joints[pick] - self.joints[others]) ** 2).sum(axis=2))

    def merge(self, pick: int, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints (J, 2) and scores (J,): means of the members near the pick, weighted by their scores."""
        near = self._distance(pick, members) <= min(self.ref[pick], np.float32(self.parameters.merge_limit))
        scores = np.where(near, self.scores[members], 0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # scores that add up to 0 leave a joint without a place
            weights = scores / scores.sum(axis=0)
        return (self.joints[members] * weights[..., None]).sum(axis=0), (scores * weights).sum(axis=0)

    def is_person(self, pick: int, joints: np.ndarray, scores: np.ndarray) -> bool:
        """Whether a merged pose is good enough to stay."""
        low = np.float32(self.parameters.min_score)
        width, height = joints.max(axis=0) - joints.min(axis=0)
        area = 1.5**2 * float(width) * float(height)
        return not (self.scores[pick].max() < low or scores.max() < low or area < self.parameters.min_area)


def _persons(picks: list[int], merged: list[tuple[np.ndarray, np.ndarray, np.ndarray]], image_ends: list[int],
             count: int) -> Persons:
    members = [each for each, _, _ in merged]
    return Persons(
        np.array(picks, np.int64),
        np.array([joints for _, joints, _ in merged], np.float64).reshape(-1, count, 2),
        np.array([scores for _, _, scores in merged], np.float64).reshape(-1, count),
        np.concatenate([np.empty(0, np.int64), *members]), np.cumsum(list(map(len, members)), dtype=np.int64),
        np.array(image_ends, np.int64))
