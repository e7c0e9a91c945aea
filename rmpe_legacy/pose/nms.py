"""Parametric pose NMS: merges the many poses found for each person into one.

The published algorithm, as computed by batch_nms.py of multi-human-pose@094e29b and demo_pose_NMS.py of RMPE@5188c23.
While poses are left, pick the one with the highest mean score. The similarity of two poses is

    sum over joints within ref of  tanh(s / delta1) tanh(s' / delta1)   +   mu sum over joints of  exp(-d / delta2)

where ref is alpha times the longer side of the pick's box and d is the distance in units of ref. All poses whose
similarity to the pick exceeds gamma are removed and merged with it into one person.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy import _host
from rmpe_legacy.errors import OptionError, PoseFileError, RmpeError

from .results import JOINTS, Persons


@dataclass(frozen=True)
class NmsParameters:
    """The parameters of the pose NMS; the defaults are those of both published scripts."""

    delta1: float = 0.01  # scale at which a joint's score saturates
    mu: float = 2.08  # weight of the distances relative to the scores
    delta2: float = 2.08  # decay length of the distance of two joints, in reference distances
    gamma: float = 22.48  # poses with a greater similarity are one person
    alpha: float = 0.1  # reference distance relative to the longer side of the pick's box

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value):
                raise RmpeError(f"pose NMS: {name} is {value}; give a finite number")
            if value <= 0 and name in ("delta1", "delta2", "alpha"):
                raise RmpeError(f"pose NMS: {name} is {value}; give a number above 0")


PUBLISHED = NmsParameters()

# How the two scripts differ in handling a merged person.
_VARIANTS: dict[str, dict[str, Any]] = {
    "batch": {"person_score": 0.0, "drop_by_pick": True, "plain_mean_if_weightless": True},
    "demo": {"person_score": 0.2, "drop_by_pick": False, "plain_mean_if_weightless": False},
}
VARIANTS = tuple(_VARIANTS)


@dataclass(frozen=True, eq=False)
class NmsResult:
    """The persons after the pose NMS, and those dropped for their low score."""

    persons: Persons
    dropped: Persons


def pose_nms(joints_xy: ArrayLike, scores: ArrayLike, boxes_xyxy: ArrayLike, variant: str = "batch",
             parameters: NmsParameters = PUBLISHED, ranges: ArrayLike | None = None) -> NmsResult:
    """Merge the poses of each image into persons.

    Computes in double precision, except that the mean, tanh and weights of float32 scores are single precision, as in
    the demo. A joint with score 0 in every merged pose has no weighted mean: "demo" returns NaN, as published; "batch",
    which fails there as published, returns the plain mean. Without poses there are no persons (the published demo fails
    with an IndexError).

    Args:
        joints_xy: (P, 16, 2) in pixels.
        scores: (P, 16) or (P, 16, 1).
        boxes_xyxy: (P, 4) in pixels; the longer side sets the reference distance. The published batch script uses the
            detector's boxes, the demo the grown boxes.
        variant: "batch" keeps every person; "demo" drops those whose mean score is below 0.2.
        parameters: The parameters of the NMS.
        ranges: (I, 2), 0-based and end-exclusive: the poses of each image; None: all belong to one image.

    Raises:
        PoseFileError: The arrays do not match, or contain NaN or infinity.
        RmpeError: The variant is unknown, or gamma is so large that a pick does not match itself.
    """
    if variant not in _VARIANTS:
        raise OptionError(f"pose NMS: variant {variant!r} is not one of {', '.join(map(repr, VARIANTS))}")
    joints, scores, boxes = check_poses(joints_xy, scores, boxes_xyxy)
    where = np.array([[0, len(joints)]]) if ranges is None else np.asarray(ranges, np.int64).reshape(-1, 2)
    check_ranges(where, len(joints))
    settings = asdict(parameters)
    ref = settings.pop("alpha") * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    try:
        picks, member_ends, members, image_ends, kept, merged_joints, merged_scores = _host.pose_nms(
            joints, scores, ref, where, _host.PoseNmsRules(**settings, **_VARIANTS[variant]))
    except _host.NoMatch as error:  # Differs: the published scripts fail here in numpy's reshape
        raise RmpeError(f"pose NMS: {error}; use a gamma below 16 mu") from None
    persons = Persons(picks, merged_joints, merged_scores, members, member_ends, image_ends)
    kept = kept.astype(bool)
    return NmsResult(persons.select(kept), persons.select(~kept))


def check_poses(joints_xy: ArrayLike, scores: ArrayLike, boxes_xyxy: ArrayLike,
                joints: int | None = len(JOINTS)) -> tuple[np.ndarray, ...]:
    """Check the arrays of a pose NMS, and return them contiguous and finite.

    Args:
        joints_xy: (P, J, 2) in pixels.
        scores: (P, J) or (P, J, 1).
        boxes_xyxy: (P, 4) in pixels.
        joints: The required number of joints, J; None for any number.

    Returns:
        Joints (P, J, 2), scores (P, J), boxes (P, 4): float64, but float32 scores stay float32.

    Raises:
        PoseFileError: An array has another shape, contains NaN or infinity, or a box has its corners swapped.
    """
    places = np.asarray(joints_xy, np.float64, order="C")
    scores, boxes = np.asarray(scores), np.asarray(boxes_xyxy, np.float64)
    count, j = len(boxes), joints or (places.shape[1] if places.ndim == 3 else len(JOINTS))
    if places.size == scores.size == boxes.size == 0:
        places, scores, boxes = places.reshape(0, j, 2), scores.reshape(0, j), boxes.reshape(0, 4)
    if scores.ndim == 3 and scores.shape[2] == 1:
        scores = scores[:, :, 0]
    for name, array, want in (("boxes", boxes, (count, 4)), ("joints", places, (count, j, 2)),
                              ("scores", scores, (count, j))):
        if array.shape != want:
            raise PoseFileError(f"pose NMS: {name} have shape {array.shape}; {count} boxes need {want}")
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise PoseFileError(f"pose NMS: {name} of proposal {row + 1} contain NaN or infinity")
    if len(inside_out := np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).all(1))):
        raise PoseFileError(f"pose NMS: box {inside_out[0] + 1} has its corners swapped; boxes are "
                            "xmin, ymin, xmax, ymax")
    single = scores.dtype == np.float32
    return places, np.ascontiguousarray(scores, np.float32 if single else np.float64), boxes


def check_ranges(ranges: np.ndarray, count: int) -> None:
    """Check that every (first, end) lies within ``count`` proposals.

    Raises:
        PoseFileError: One does not.
    """
    wrong = np.flatnonzero((ranges[:, 0] < 0) | (ranges[:, 0] > ranges[:, 1]) | (ranges[:, 1] > count))
    if len(wrong):
        first, end = ranges[wrong[0]].tolist()
        raise PoseFileError(f"pose NMS: range {first}:{end} of image {wrong[0] + 1} is not within the {count} "
                            "proposals")
