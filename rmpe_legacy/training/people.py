"""One annotated person, and poses aligned by their torsos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pose.joints import COCO17, MPII16, JointSet

SHORTEST_TORSO = 0.1  # of the longer side of the pose's extent


@dataclass(frozen=True, eq=False)
class Person:
    """One person of an image. Coordinates are pixels (x, y); pixel k reaches from k to k + 1."""

    image: str  # file name, or the name of a drawn image
    box_xyxy: np.ndarray  # (4,) float64: xmin, ymin, xmax, ymax
    joints_xy: np.ndarray  # (J, 2) float64, NaN where not annotated
    offset_mean: np.ndarray | None = None  # (4,) the mu that an annot.h5 of the authors stores for this person
    offset_std: np.ndarray | None = None  # (4,) its std


# The upper and lower end of the torso, each the mean of these joints.
_TORSO = {
    MPII16: (("thorax",), ("pelvis",)),
    COCO17: (("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
}
JOINT_SETS = {len(each): each for each in _TORSO}  # the joint sets that training supports, by their number of joints


def joint_set(count: int) -> JointSet:
    """Return the joint set with this number of joints.

    Raises:
        RmpeError: It is neither MPII's nor COCO's number.
    """
    if count not in JOINT_SETS:
        raise RmpeError(f"{count} joints are neither MPII's {len(MPII16)} nor COCO's {len(COCO17)}")
    return JOINT_SETS[count]


def align_by_torso(joints_xy: np.ndarray) -> np.ndarray:
    """Move and scale poses so that the torso's lower end is at (0, 0) and the torso has length 1: (N, J, 2) -> (N, J,
    2).

    A pose without an annotated torso, or whose torso is foreshortened to less than SHORTEST_TORSO of the pose's extent,
    becomes NaN: a few such poses would each become a cluster of their own.

    Source: section 3.4 of the paper ("align all poses so that their torsos have the same length").
    """
    joints = joint_set(joints_xy.shape[1])
    upper, lower = (joints_xy[:, [joints.joints.index(name) for name in end]].mean(axis=1) for end in _TORSO[joints])
    length = np.hypot(*(upper - lower).T)
    known = np.where(np.isnan(joints_xy), lower[:, None], joints_xy)
    extent = (known.max(axis=1) - known.min(axis=1)).max(axis=1)
    with np.errstate(invalid="ignore"):
        length[~(length > SHORTEST_TORSO * extent)] = np.nan
    return (joints_xy - lower[:, None]) / length[:, None, None]
