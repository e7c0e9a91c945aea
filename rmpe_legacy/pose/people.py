"""The people in one image, as every result format and the Python interface give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .joints import MPII16, JointSet
from .results import Persons, Proposals


@dataclass(frozen=True, eq=False)
class People:
    """K people in one image; coordinates are pixels (x, y) from its upper left corner."""

    image: str  # file name
    keypoints: np.ndarray  # (K, J, 3) float64: x, y, score; NaN where a joint has no place
    scores: np.ndarray  # (K,) float64, of the whole person
    boxes_xyxy: np.ndarray  # (K, 4): xmin, ymin, xmax, ymax of the detection that the person was built around
    box_scores: np.ndarray  # (K,), of that detection
    joints: JointSet = MPII16
    size_wh: tuple[int, int] | None = None  # of the image, where it is known

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def found(self) -> np.ndarray:
        """Which joints were found: (K, J) bool."""
        return np.isfinite(self.keypoints).all(axis=2)

    @property
    def filled(self) -> np.ndarray:
        """The keypoints, (K, J, 3), with three zeros for a joint that was not found, as COCO writes them."""
        return np.where(self.found[..., None], self.keypoints, 0.0)

    @property
    def flat(self) -> np.ndarray:
        """``filled`` as files list it, (K, 3 J): x, y, score in turn."""
        return self.filled.reshape(len(self), 3 * len(self.joints))

    @property
    def boxes_xywh(self) -> np.ndarray:
        """The boxes, (K, 4): xmin, ymin, width, height in pixels."""
        boxes = np.asarray(self.boxes_xyxy, np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def people_in(proposals: Proposals, persons: Persons, nms: str, joints: JointSet,
              sizes_wh: Sequence[tuple[int, int]] | None = None) -> list[People]:
    """Return the people of each image of a run.

    Args:
        proposals: The detections of the run.
        persons: The persons that the pose NMS made of them.
        nms: The pose NMS that made the persons: "batch" has whole pixels; "alphapose" scores persons by
            ``proposal_scores``, the others by the mean of their joints' scores.
        joints: The joint set.
        sizes_wh: Width and height of each image, if known.
    """
    places = np.where(np.isfinite(persons.joints_xy), np.trunc(persons.joints_xy), np.nan) if nms == "batch" \
        else persons.joints_xy
    triples = np.concatenate([places, persons.scores[..., None]], axis=2)
    boxes, box_scores = proposals.boxes_xyxy[persons.picks], proposals.scores[persons.picks]
    scores = proposal_scores(triples, box_scores) if nms == "alphapose" else np.nan_to_num(triples[..., 2]).mean(axis=1)
    sizes: Sequence[tuple[int, int] | None] = sizes_wh or [None] * len(proposals.images)
    return [People(name, triples[rows], scores[rows], boxes[rows], box_scores[rows], joints, size_wh)
            for name, size_wh, rows in zip(proposals.images, sizes, persons.by_image(), strict=True)]


def proposal_scores(keypoints: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """Return AlphaPose's score of each person, (K,): mean + 1.25 x maximum of the joints' scores + the detection's
    score.

    Args:
        keypoints: (K, J, 3); joints that were not found count as 0.
        box_scores: (K,).

    Source: ``proposal_score`` of alphapose/utils/writer.py, AlphaPose@c60106d.
    """
    heights = np.nan_to_num(keypoints[:, :, 2])
    return heights.mean(axis=1) + 1.25 * heights.max(axis=1, initial=0) + box_scores
