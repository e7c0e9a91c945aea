"""OpenPose's results: a JSON file per image, ``openpose/NAME_keypoints.json``, with version 1.3 and its people.

COCO's and Halpe's joints are put in the places of BODY_25, MPII's in those of OpenPose's MPI model (15 joints); joints
that OpenPose makes of two others are their middle here, too. What a joint set lacks is three zeros, as OpenPose writes
a joint that it has not found. Other joint sets are written in their own order.
Source: doc/02_output.md and src/openpose/pose/poseParameters.cpp of openpose@1.7.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..joints import COCO17, HALPE26, MPII16
from ..people import People

NAME = "openpose"
VERSION = 1.3

BODY_25 = ("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
           "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
           "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
           "right_small_toe", "right_heel")
MPI = ("head_top", "upper_neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
       "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "chest")
_ORDERS = {COCO17: BODY_25, HALPE26: BODY_25, MPII16: MPI}
# What OpenPose's training made of two annotated joints: BODY_25 of COCO's, the chest of MPII's.
_MIDDLES = {"neck": ("left_shoulder", "right_shoulder"), "pelvis": ("left_hip", "right_hip"),
            "chest": ("pelvis", "thorax")}
_EMPTY = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
          "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")


def files(people: Sequence[People]) -> dict[str, bytes]:
    """Return one file per image, file name -> content, even if nobody was found in it."""
    return {f"{NAME}/{_file_name(each, people)}": _content(each) for each in people}


def _file_name(one: People, people: Sequence[People]) -> str:
    """OpenPose drops the extension; where two images differ by it alone, it stays."""
    stem = Path(one.image).stem
    alone = sum(Path(each.image).stem == stem for each in people) == 1
    return f"{stem if alone else Path(one.image).name}_keypoints.json"


def _content(people: People) -> bytes:
    persons = [{"person_id": [-1], "pose_keypoints_2d": keypoints.reshape(-1).tolist(), **{key: [] for key in _EMPTY}}
               for keypoints in in_order(people)]
    return (json.dumps({"version": VERSION, "people": persons}, allow_nan=False) + "\n").encode()


def in_order(people: People) -> np.ndarray:
    """Return the keypoints in OpenPose's order: (K, 25, 3), (K, 15, 3) or, for other joint sets, (K, J, 3)."""
    order = _ORDERS.get(people.joints)
    if order is None:
        return people.filled
    out = np.zeros((len(people), len(order), 3))
    for place, name in enumerate(order):
        if name in people.joints.joints:
            out[:, place] = people.filled[:, people.joints.joints.index(name)]
        elif name in _MIDDLES:
            out[:, place] = _middle(people, *_MIDDLES[name])
    return out


def _middle(people: People, first: str, second: str) -> np.ndarray:
    """(K, 3): half way between two joints, as sure as the less sure; zeros where one of them has no place."""
    pair = [people.joints.joints.index(name) for name in (first, second)]
    a, b = np.moveaxis(people.filled[:, pair], 1, 0)
    middle = np.concatenate([(a[:, :2] + b[:, :2]) / 2, np.minimum(a[:, 2:], b[:, 2:])], axis=1)
    return np.where(people.found[:, pair].all(axis=1, keepdims=True), middle, 0.0)
