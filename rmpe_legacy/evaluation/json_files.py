"""JSON: poses and people in COCO's style with MPII's 16 joints, and the group lists MPI_MP_*_annotations.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import EvaluationError, FileError
from rmpe_legacy.readers.json_file import read_json

from .groups import Groups, Poses
from .joints import MPII
from .mpii import HEAD_BIAS

_J = len(MPII)


def poses_of_json(path: Path, image_ids: Mapping[object, str]) -> Poses:
    """Read results with 16 joints (x, y, score): a list, or an object with images and annotations.

    A joint of three zeros is missing.
    """
    content = read_json(path)
    if isinstance(content, dict) and "annotations" in content:
        _check_joint_names(path, content)
        image_ids = _image_names(path, content)
        content = content["annotations"]
    poses: dict[str, list[np.ndarray]] = {name: [] for name in image_ids.values()}
    for where, result in _objects(path, content, "result"):
        image = result.get("file_name", image_ids.get(_hashable(result.get("image_id")), result.get("image_id")))
        if not isinstance(image, str | int | float):
            raise FileError(f"{where}: neither a file_name nor an image_id")
        keypoints = _keypoints(where, result)
        keypoints[(keypoints == 0).all(axis=1)] = np.nan
        poses.setdefault(str(image), []).append(keypoints)
    return Poses(tuple(poses), tuple(np.array(each).reshape(-1, _J, 3) for each in poses.values()), grouped=False)


def groups_of_json(path: Path) -> Groups:
    """Read annotations of 16 joints (x, y, visibility; 0: not annotated) with a head_size or head_box."""
    content = read_json(path)
    if isinstance(content, dict) and "root" in content:
        raise EvaluationError(f"{path}: lists groups of people, but not their joints; give the ground truth with the "
                              "joints, and this file as --groups")
    if not isinstance(content, dict) or not {"images", "annotations"} <= set(content):
        raise FileError(f"{path}: has no images and annotations")
    _check_joint_names(path, content)
    names = _image_names(path, content)
    people: dict[str, list[tuple[np.ndarray, float]]] = {name: [] for name in names.values()}
    for where, person in _objects(path, content["annotations"], "annotation"):
        image = names.get(_hashable(person.get("image_id")))
        if image is None:
            raise FileError(f"{where}: image_id {person.get('image_id')!r} is not among the images")
        keypoints = _keypoints(where, person)
        keypoints[keypoints[:, 2] == 0] = np.nan
        people[image].append((keypoints[:, :2], _json_head_size(where, person)))
    joints = tuple(np.array([xy for xy, _ in each]).reshape(-1, _J, 2) for each in people.values())
    unknown = [np.full(len(xy), np.nan) for xy in joints]
    return Groups(tuple(people), joints, tuple(np.array([head for _, head in each]) for each in people.values()),
                  tuple(np.stack([u, u], axis=1) for u in unknown), tuple(unknown), image_ids=names)


def _json_head_size(where: str, person: Mapping[str, Any]) -> float:
    if "head_box" in person:
        x1, y1, x2, y2 = _floats(where, person["head_box"], "head_box", 4)
        return HEAD_BIAS * math.hypot(x2 - x1, y2 - y1)
    if "head_size" not in person:
        raise FileError(f"{where}: neither head_box (x1, y1, x2, y2) nor head_size")
    return float(_floats(where, [person["head_size"]], "head_size", 1)[0])


def with_names(found: Groups, path: Path, names: Path) -> Groups:
    """Add image names from MPI_MP_*_annotations.json to groups; each must have the same number of people."""
    content = read_json(names)
    if not isinstance(content, dict) or "root" not in content:
        raise FileError(f"{names}: not an MPI_MP_*_annotations.json, which has its groups under root")
    images = []
    for where, group in _objects(names, content["root"], "group"):
        if not isinstance(group.get("im_name"), str):
            raise FileError(f"{where}: has no im_name")
        images.append(group["im_name"])
        i = len(images) - 1
        if i < len(found) and group.get("numPeople", len(found.joints[i])) != len(found.joints[i]):
            raise EvaluationError(f"{where} has {group['numPeople']} people, but {len(found.joints[i])} in {path}; "
                                  "they must be the same groups in the same order")
    if len(images) != len(found):
        raise EvaluationError(f"{names} has {len(images)} groups, {path} {len(found)}; they must be the same")
    return found.named(images)


def _check_joint_names(path: Path, content: Mapping[str, Any]) -> None:
    for where, category in _objects(path, content.get("categories", []), "category"):
        joints = category.get("keypoints")
        if isinstance(joints, list) and len(joints) != _J:
            raise EvaluationError(f"{where} has {len(joints)} joints; expected MPII's {_J}")


def _image_names(path: Path, content: Mapping[str, Any]) -> dict[object, str]:
    names: dict[object, str] = {}
    for where, image in _objects(path, content.get("images", []), "image"):
        key = _hashable(image.get("id"))
        name = image.get("file_name", key)
        if key is None or key in names:
            raise FileError(f"{where}: {'an id that another one has' if key in names else 'without an id'}")
        names[key] = str(name)
    if len(set(names.values())) != len(names):
        raise FileError(f"{path}: two images have the same file_name")
    return names


def _objects(path: Path, value: Any, what: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if not isinstance(value, list):
        raise FileError(f"{path}: expected a list of {what}s")
    for i, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            raise FileError(f"{path}: {what} {i} is not an object")
        yield f"{path}: {what} {i}", entry


def _hashable(key: Any) -> str | int | float | None:
    return key if isinstance(key, str | int | float) else None


def _keypoints(where: str, entry: Mapping[str, Any]) -> np.ndarray:
    """Return an entry's 48 keypoint numbers as (16, 3)."""
    keypoints = entry.get("keypoints")
    if isinstance(keypoints, list) and len(keypoints) != 3 * _J:
        raise EvaluationError(f"{where} has {len(keypoints)} keypoint values; expected {3 * _J}: x, y and score of "
                              f"MPII's {_J} joints")
    return _floats(where, keypoints, "keypoints", 3 * _J).reshape(_J, 3)


def _floats(where: str, value: Any, what: str, count: int) -> np.ndarray:
    try:
        values = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.shape != (count,) or np.isinf(values).any():
        raise FileError(f"{where}: {what} is not a list of {count} numbers")
    return values
