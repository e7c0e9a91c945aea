"""MPII multi-person AP of what a run found, with and without the pose NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from rmpe_legacy.evaluation.groups import Groups, evaluated, poses_by_group
from rmpe_legacy.evaluation.groups import Poses as JudgedPoses
from rmpe_legacy.evaluation.mpii import MultiPersonAP, multi_person_ap
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.runs.outputs import Collected


def ap_of_persons(collected: Collected, merged: NmsResult, how: Recipe, truth: Groups) -> MultiPersonAP:
    """The AP of merged persons, in whole pixels where the recipe writes them so."""
    persons = merged.persons
    joints = persons.joints_px if how.nms == "batch" else persons.joints_xy
    triples = np.concatenate([joints, persons.scores[..., None]], axis=2)
    return _ap(collected.proposals.images, [triples[people] for people in persons.by_image()], truth)


def ap_of_poses(collected: Collected, truth: Groups) -> MultiPersonAP:
    """The AP without the pose NMS: every proposal is a person."""
    triples = np.concatenate([collected.poses.joints_xy, collected.poses.scores[..., None]], axis=2)
    return _ap(collected.proposals.images, [triples[a:b] for a, b in collected.proposals.ranges.tolist()], truth)


def _ap(images: Sequence[str], poses: Sequence[np.ndarray], truth: Groups) -> MultiPersonAP:
    found = poses_by_group(JudgedPoses(tuple(images), tuple(poses), grouped=False), truth)
    return multi_person_ap(evaluated(found), evaluated(truth.joints), truth.head_sizes)


def of_pictures(truth: Groups, images: Sequence[str]) -> Groups:
    """The groups of these pictures."""
    there = {base_name(name) for name in images}
    kept = [i for i, name in enumerate(truth.images) if base_name(name) in there]
    fields = ("images", "joints", "head_sizes", "positions", "scales")
    changes: dict[str, Any] = {field: tuple(getattr(truth, field)[i] for i in kept) for field in fields}
    return replace(truth, **changes)


def base_name(name: str) -> str:
    """A picture's name without folders."""
    return PurePath(name.replace("\\", "/")).name
