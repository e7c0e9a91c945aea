"""Joint sets: which joints a pose has, in which order, and which of them a skeleton connects."""

from __future__ import annotations

import os
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.evaluation.joints import COCO
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.wording import did_you_mean, shorten

MAX_JOINTS = 1024  # of a joint set in a file; the largest published ones have some hundred


@dataclass(frozen=True)
class JointSet:
    """The joints of a pose.

    Args:
        name: how results and options call it.
        joints: K names, in the order of every joint axis. The prefixes "left_" and "right_" determine
            colours and which joints a flip exchanges.
        limbs: pairs of joints, counted from 0, that a skeleton connects.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """The joints after a horizontal flip: joint k of the flipped image is joint mirrored[k] of the original."""
        index = {name: k for k, name in enumerate(self.joints)}
        return tuple(index.get(_opposite(name), k) for k, name in enumerate(self.joints))


def _opposite(joint: str) -> str:
    """left_knee for right_knee and vice versa; the name itself for a joint without a side."""
    side, _, part = joint.partition("_")
    return {"left": f"right_{part}", "right": f"left_{part}"}.get(side, joint) if part else joint


MPII16 = JointSet(
    "mpii16",
    ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
     "pelvis", "thorax", "upper_neck", "head_top",
     "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist"),
    # As the published demo draws them: the thorax (7) has no limb, the neck stands on the pelvis.
    ((0, 1), (1, 2), (2, 6), (3, 4), (3, 6), (4, 5), (6, 8), (8, 9),
     (13, 8), (10, 11), (11, 12), (12, 8), (13, 14), (14, 15)),
)

# COCO's own skeleton, from the category of its person_keypoints files.
COCO17 = JointSet(
    "coco17", COCO,
    ((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
     (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)

# Halpe-FullBody without face and hands, the 26 joints of AlphaPose's body models (docs/MODEL_ZOO.md there).
HALPE26 = JointSet(
    "halpe26",
    (*COCO, "head_top", "neck", "pelvis", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
     "left_heel", "right_heel"),
    ((0, 1), (0, 2), (1, 3), (2, 4), (5, 18), (6, 18), (5, 7), (7, 9), (6, 8), (8, 10), (17, 18), (18, 19),
     (19, 11), (19, 12), (11, 13), (12, 14), (13, 15), (14, 16),
     (20, 24), (21, 25), (23, 25), (22, 24), (15, 24), (16, 25)),
)

JOINT_SETS = {each.name: each for each in (MPII16, COCO17, HALPE26)}


def read_joint_set(name: str | PathLike) -> JointSet:
    """Return one of JOINT_SETS by its name, or the joint set in a JSON file.

    The file is a category of COCO: ``{"name": "hand", "keypoints": ["wrist", ...], "skeleton": [[1, 2], ...]}``, where
    the skeleton is optional and counts joints from 1.

    Raises:
        RmpeError: The name is neither known nor a file.
        FileError: The file contains something else.
    """
    known = JOINT_SETS.get(str(name))
    if known:
        return known
    path = Path(name)
    if not os.path.isfile(path):
        raise RmpeError(f"joint set {str(name)!r} is neither {', '.join(JOINT_SETS)} nor a JSON file"
                        f"{did_you_mean(str(name), JOINT_SETS)}")
    content = read_json(path, 1 << 20)
    if not isinstance(content, dict) or not isinstance(content.get("keypoints"), list):
        raise FileError(f"{path}: a joint set is a JSON object with a list of names, keypoints")
    joints = content["keypoints"]
    if not 1 <= len(joints) <= MAX_JOINTS or not all(isinstance(joint, str) and joint for joint in joints):
        raise FileError(f"{path}: keypoints must be a list of 1 to {MAX_JOINTS} names")
    if len(set(joints)) < len(joints):
        twice = next(joint for joint in joints if joints.count(joint) > 1)
        raise FileError(f"{path}: two keypoints are called {shorten(twice)!r}; each needs a name of its own")
    return JointSet(_name(path, content), tuple(joints), _limbs(path, content.get("skeleton", []), len(joints)))


def _name(path: Path, content: dict[str, Any]) -> str:
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name or name in JOINT_SETS:
        raise FileError(f"{path}: its name is {shorten(repr(name))}; give the joint set a name of its own")
    return name


def _limbs(path: Path, skeleton: Any, count: int) -> tuple[tuple[int, int], ...]:
    pairs: list[Any] = skeleton if isinstance(skeleton, list) else [None]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(j) is int and 1 <= j <= count for j in pair)):
            raise FileError(f"{path}: skeleton must be a list of pairs of joints, counted from 1 to {count}")
    return tuple((a - 1, b - 1) for a, b in pairs)
