"""The people in one image, as every result format and the Python interface give them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .joints import MPII16, JointSet


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
        """(K, J) bool: which joints have a place."""
        return np.isfinite(self.keypoints).all(axis=2)

    @property
    def filled(self) -> np.ndarray:
        """(K, J, 3): the keypoints, three zeros where a joint has no place, as COCO writes it."""
        return np.where(self.found[..., None], self.keypoints, 0.0)

    @property
    def flat(self) -> np.ndarray:
        """(K, 3 J): ``filled`` as files list it: x, y, score by turns."""
        return self.filled.reshape(len(self), 3 * len(self.joints))

    @property
    def boxes_xywh(self) -> np.ndarray:
        """(K, 4): xmin, ymin, width, height."""
        boxes = np.asarray(self.boxes_xyxy, np.float64)
        return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def proposal_scores(keypoints: np.ndarray, box_scores: np.ndarray) -> np.ndarray:
    """(K,): AlphaPose's score of a person: mean + 1.25 x maximum of the joints' scores + the detection's score.

    Args:
        keypoints: (K, J, 3); joints without a place count as 0.
        box_scores: (K,).

    Source: ``proposal_score`` of alphapose/utils/writer.py, AlphaPose@c60106d.
    """
    heights = np.nan_to_num(keypoints[:, :, 2])
    return heights.mean(axis=1) + 1.25 * heights.max(axis=1, initial=0) + box_scores
