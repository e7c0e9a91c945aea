"""MPII multi-person AP of a run, with and without the pose NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from rmpe_legacy.evaluation.groups import Groups, evaluated, poses_by_group
from rmpe_legacy.evaluation.groups import Poses as EvaluationPoses
from rmpe_legacy.evaluation.mpii import MultiPersonAP, multi_person_ap
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.runs.outputs import BatchResult


def ap_of_persons(batch: BatchResult, nms: NmsResult, recipe: Recipe, truth: Groups) -> MultiPersonAP:
    """Return the AP of the persons, in whole pixels if the recipe writes whole pixels."""
    persons = nms.persons
    joints = persons.joints_px if recipe.nms == "batch" else persons.joints_xy
    triples = np.concatenate([joints, persons.scores[..., None]], axis=2)
    return _ap(batch.proposals.images, [triples[people] for people in persons.by_image()], truth)


def ap_of_poses(batch: BatchResult, truth: Groups) -> MultiPersonAP:
    """Return the AP without the pose NMS: every proposal is a person."""
    triples = np.concatenate([batch.poses.joints_xy, batch.poses.scores[..., None]], axis=2)
    return _ap(batch.proposals.images, [triples[a:b] for a, b in batch.proposals.ranges.tolist()], truth)


def _ap(images: Sequence[str], poses: Sequence[np.ndarray], truth: Groups) -> MultiPersonAP:
    grouped = poses_by_group(EvaluationPoses(tuple(images), tuple(poses), grouped=False), truth)
    return multi_person_ap(evaluated(grouped), evaluated(truth.joints), truth.head_sizes)


def groups_of_images(truth: Groups, images: Sequence[str]) -> Groups:
    """Select the groups of these images."""
    there = {base_name(name) for name in images}
    kept = [i for i, name in enumerate(truth.images) if base_name(name) in there]
    fields = ("images", "joints", "head_sizes", "positions", "scales")
    changes: dict[str, Any] = {field: tuple(getattr(truth, field)[i] for i in kept) for field in fields}
    return replace(truth, **changes)


def base_name(name: str) -> str:
    """Return an image's name without folders."""
    return PurePath(name.replace("\\", "/")).name
