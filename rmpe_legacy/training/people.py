"""One annotated person, and what follows from the joint set: mirrored joints and torso-aligned poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.evaluation.joints import COCO, MPII

SHORTEST_TORSO = 0.1  # of the longer side of the pose's extent


@dataclass(frozen=True, eq=False)
class Person:
    """One person of a picture. Coordinates are pixels (x, y); pixel k reaches from k to k + 1."""

    image: str  # file name, or the name of a drawn picture
    box_xyxy: np.ndarray  # (4,) float64: xmin, ymin, xmax, ymax
    joints_xy: np.ndarray  # (J, 2) float64, NaN where not annotated
    offset_mean: np.ndarray | None = None  # (4,) the mu that an annot.h5 of the authors stores for this person
    offset_std: np.ndarray | None = None  # (4,) its std


@dataclass(frozen=True)
class JointSet:
    """The joints of a dataset, in the order of the heat maps."""

    name: str
    joints: tuple[str, ...]
    mirrored: tuple[int, ...]  # joint k of a mirrored picture is joint mirrored[k] of the original
    torso: tuple[tuple[int, ...], tuple[int, ...]]  # the torso's upper and lower end, each the mean of these joints

    def __len__(self) -> int:
        return len(self.joints)


def _mirrored(joints: Sequence[str], pairs: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    order = list(range(len(joints)))
    for a, b in ((joints.index(a), joints.index(b)) for a, b in pairs):
        order[a], order[b] = b, a
    return tuple(order)


# flipRef of train/src/util/dataset/{mpii-box,coco}.lua, multi-human-pose@094e29b, is the same pairs.
MPII_JOINTS = JointSet("mpii", MPII, _mirrored(MPII, [(f"r{part}", f"l{part}") for part in (
    "ank", "kne", "hip", "wri", "elb", "sho")]), ((MPII.index("thrx"),), (MPII.index("pelv"),)))
COCO_JOINTS = JointSet("coco", COCO, _mirrored(COCO, [(f"left_{part}", f"right_{part}") for part in (
    "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")]), ((5, 6), (11, 12)))
JOINT_SETS = {len(each): each for each in (MPII_JOINTS, COCO_JOINTS)}


def joint_set(count: int) -> JointSet:
    """The joint set of so many joints. RmpeError if it is neither MPII's nor COCO's."""
    if count not in JOINT_SETS:
        raise RmpeError(f"{count} joints are neither MPII's {len(MPII)} nor COCO's {len(COCO)}")
    return JOINT_SETS[count]


def align_by_torso(joints_xy: np.ndarray) -> np.ndarray:
    """Poses with the torso's lower end at (0, 0) and a torso of length 1: (N, J, 2) -> (N, J, 2).

    A pose without an annotated torso, or whose torso is foreshortened to less than SHORTEST_TORSO of the pose's extent,
    is NaN throughout: a few such poses would each become a cluster of their own.
    Source: section 3.4 of the paper ("align all poses so that their torsos have the same length").
    """
    upper, lower = (joints_xy[:, list(ends)].mean(axis=1) for ends in joint_set(joints_xy.shape[1]).torso)
    length = np.hypot(*(upper - lower).T)
    known = np.where(np.isnan(joints_xy), lower[:, None], joints_xy)
    extent = (known.max(axis=1) - known.min(axis=1)).max(axis=1)
    with np.errstate(invalid="ignore"):
        length[~(length > SHORTEST_TORSO * extent)] = np.nan
    return (joints_xy - lower[:, None]) / length[:, None, None]
