"""Parametric pose NMS: many poses of the same people in, one pose a person out.

The published algorithm, as batch_nms.py of multi-human-pose@094e29b and demo_pose_NMS.py of RMPE@5188c23 compute it.
While poses are left: pick the one of the highest mean score; two poses are as much alike as

    sum over joints within ref of  tanh(s / delta1) tanh(s' / delta1)   +   mu sum over joints of  exp(-d / delta2)

with d the distance in units of ref, alpha times the longer side of the pick's box; all that are more like the pick
than gamma go with it, and are merged into one person.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy import _host
from rmpe_legacy.errors import PoseFileError, RmpeError

from .results import JOINTS, Persons


@dataclass(frozen=True)
class NmsParameters:
    """The numbers of the pose NMS; the defaults are those of both published scripts."""

    delta1: float = 0.01  # how fast a joint's score counts as certain
    mu: float = 2.08  # weight of the distances against the scores
    delta2: float = 2.08  # how fast the distance of two joints fades, in reference distances
    gamma: float = 22.48  # more alike than this are one person
    alpha: float = 0.1  # the reference distance, as a part of the longer side of the pick's box

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value):
                raise RmpeError(f"pose NMS: {name} is {value}; give a finite number")
            if value <= 0 and name in ("delta1", "delta2", "alpha"):
                raise RmpeError(f"pose NMS: {name} is {value}; give a number above 0")


PUBLISHED = NmsParameters()

# What the two scripts do differently with a person, once found.
_VARIANTS = {
    "batch": {"person_score": 0.0, "drop_by_pick": True, "plain_mean_if_weightless": True},
    "demo": {"person_score": 0.2, "drop_by_pick": False, "plain_mean_if_weightless": False},
}
VARIANTS = tuple(_VARIANTS)


@dataclass(frozen=True, eq=False)
class NmsResult:
    """The people that pose NMS found, and those it dropped for their low score."""

    persons: Persons
    dropped: Persons


def pose_nms(joints_xy: ArrayLike, scores: ArrayLike, boxes_xyxy: ArrayLike, variant: str = "batch",
             parameters: NmsParameters = PUBLISHED, ranges: ArrayLike | None = None) -> NmsResult:
    """Merge the poses of each picture into persons.

    joints_xy (P, 16, 2) in pixels; scores (P, 16) or (P, 16, 1); boxes_xyxy (P, 4), whose longer side sets the
    reference distance: the detector's own boxes in the published batch run, the grown ones in the demo.
    ranges (I, 2), 0-based, end exclusive: which poses belong to which picture; without it all belong to one.
    variant: "batch" keeps every person; "demo" drops those whose mean score is below 0.2.

    Numbers are double, but for float32 scores, whose mean, tanh and weights are single as in the demo.
    A joint of score 0 in every merged pose has no weighted mean: "demo" gives NaN, as published; "batch" (which stops
    there as published) the plain mean. No poses, no persons (the demo as published stops with an IndexError).

    Raises PoseFileError where the arrays do not belong together or hold what is no number.
    """
    if variant not in _VARIANTS:
        raise RmpeError(f"pose NMS: variant {variant!r} is not one of {', '.join(map(repr, VARIANTS))}")
    joints, scores, boxes = check_poses(joints_xy, scores, boxes_xyxy)
    where = np.array([[0, len(joints)]]) if ranges is None else np.asarray(ranges, np.int64).reshape(-1, 2)
    check_ranges(where, len(joints))
    settings = asdict(parameters)
    ref = settings.pop("alpha") * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    try:
        picks, member_ends, members, image_ends, kept, merged_joints, merged_scores = _host.pose_nms(
            joints, scores, ref, where, _host.PoseNmsRules(**settings, **_VARIANTS[variant]))
    except _host.NoMatch as error:  # Differs: the published scripts stop here in numpy's reshape
        raise RmpeError(f"pose NMS: {error}; use a gamma below 16 mu") from None
    found = Persons(picks, merged_joints, merged_scores, members, member_ends, image_ends)
    kept = kept.astype(bool)
    return NmsResult(found if kept.all() else found.select(kept), found.select(~kept))


def check_poses(joints_xy: ArrayLike, scores: ArrayLike, boxes_xyxy: ArrayLike,
                joints: int | None = len(JOINTS)) -> tuple[np.ndarray, ...]:
    """The three arrays as the loop takes them: contiguous, of one length, finite. joints: None takes any number."""
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
            raise PoseFileError(f"pose NMS: {name} are {array.shape}; {count} boxes need {want}")
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise PoseFileError(f"pose NMS: {name} of proposal {row + 1} hold NaN or infinity")
    if len(inside_out := np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).all(1))):
        raise PoseFileError(f"pose NMS: box {inside_out[0] + 1} has its corners the wrong way round; boxes are "
                            "xmin, ymin, xmax, ymax")
    single = scores.dtype == np.float32
    return places, np.ascontiguousarray(scores, np.float32 if single else np.float64), boxes


def check_ranges(ranges: np.ndarray, count: int) -> None:
    """Raise PoseFileError unless every (first, end) lies in ``count`` proposals."""
    wrong = np.flatnonzero((ranges[:, 0] < 0) | (ranges[:, 0] > ranges[:, 1]) | (ranges[:, 1] > count))
    if len(wrong):
        first, end = ranges[wrong[0]].tolist()
        raise PoseFileError(f"pose NMS: range {first}:{end} of image {wrong[0] + 1} does not lie in the {count} "
                            "proposals")
