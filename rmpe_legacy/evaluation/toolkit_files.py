"""The structs of MPII's official toolkit: ``pred``, ``annolist``, and the dataset's own ``RELEASE``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import EvaluationError, FileError

from .groups import HEAD_PER_SCALE, Groups, Poses
from .joints import MPII
from .matfile import Cell, Struct, read_mat
from .mpii import HEAD_BIAS

_J = len(MPII)
_People = list[Mapping[str, Any]]  # the structs of an annorect, as field -> value


def poses_of_mat(path: Path) -> Poses:
    entries = _annotation_list(path, read_mat(path), ("pred", "annolist"))
    images, joints = [], []
    for where, image, people in _entries(path, entries):
        poses = np.full((len(people), _J, 3), np.nan)
        for i, person in enumerate(people):
            _points(f"{where}, person {i + 1}", person, ("x", "y", "score"), poses[i])
        images.append(image)
        joints.append(poses)
    return Poses(tuple(images), tuple(joints), grouped=True)


def groups_of_mat(path: Path, groups: Path | None, split: str) -> Groups:
    variables = read_mat(path)
    release = variables.get("RELEASE")
    if isinstance(release, Struct):
        return _groups_of_release(path, release, groups, split)
    return _to_groups(_entries(path, _annotation_list(path, variables, ("annolist_test_multi", "annolist"))))


def _annotation_list(path: Path, variables: Mapping[str, Any], names: Sequence[str]) -> Struct:
    """Return the struct array with one element per image or group: the variable with one of these names, or the only
    one.
    """
    lists = {name: value for name, value in variables.items()
             if isinstance(value, Struct) and "annorect" in value.fields}
    for name in names:
        if name in lists:
            return lists[name]
    if len(lists) != 1:
        raise FileError(f"{path}: no struct {' or '.join(names)} with annorect; it holds "
                        f"{', '.join(variables) or 'nothing'}")
    return next(iter(lists.values()))


def _entries(path: Path, entries: Struct) -> Iterable[tuple[str, str, _People]]:
    """Yield, for each element of an annotation list: its position, its image name, and its people as field -> value."""
    images: Any = entries.column("image") or [None] * len(entries)
    annotations: Any = entries.column("annorect")
    for i, (image, rects) in enumerate(zip(images, annotations, strict=True)):
        where = f"{path}: group {i + 1}"
        name = image.get("name") if isinstance(image, Struct) else None
        if isinstance(rects, Struct):
            people: _People = [dict(zip(rects.fields, item, strict=True)) for item in rects.items]
        elif isinstance(rects, np.ndarray) and not rects.size:
            people = []
        else:
            raise FileError(f"{where}: annorect is not a struct")
        yield where, name if isinstance(name, str) else "", people


def _points(where: str, person: Mapping[str, Any], fields: Sequence[str], out: np.ndarray) -> None:
    """Fill (16, len(fields)) with a person's annopoints.point by id; the first point of an id wins."""
    points = person.get("annopoints")
    points = points.get("point") if isinstance(points, Struct) else points
    if points is None or (isinstance(points, np.ndarray) and not points.size):
        return
    if not isinstance(points, Struct):
        raise FileError(f"{where}: annopoints.point is not a struct")
    missing = [field for field in ("id", *fields) if field not in points.fields]
    if missing:
        raise FileError(f"{where}: its points have no {' and no '.join(missing)}")
    columns = [points.column(field) for field in ("id", *fields)]
    for joint, *values in reversed(list(zip(*columns, strict=True))):
        if not isinstance(joint, float) or not all(isinstance(value, float) for value in values):
            raise FileError(f"{where}: a point whose {', '.join(('id', *fields))} are not all single numbers")
        if joint in range(_J):
            out[int(joint)] = values
            # A point without coordinates: for the toolkit it exists and matches nothing. NaN would mean missing.
            if math.isnan(values[0]) or math.isnan(values[1]):
                out[int(joint), :2] = np.inf


def _to_groups(entries: Iterable[tuple[str, str, _People]]) -> Groups:
    images, joints, heads, positions, scales = [], [], [], [], []
    for where, image, people in entries:
        xy = np.full((len(people), _J, 2), np.nan)
        images.append(image)
        for i, person in enumerate(people):
            _points(f"{where}, person {i + 1}", person, ("x", "y"), xy[i])
        joints.append(xy)
        heads.append(np.array([_head_size(f"{where}, person {i + 1}", person, needed=not np.isnan(xy[i]).all())
                               for i, person in enumerate(people)]))
        positions.append(np.array([_position(person) for person in people]).reshape(-1, 2))
        scales.append(np.array([_number(person.get("scale")) for person in people]))
    return Groups(tuple(images), tuple(joints), tuple(heads), tuple(positions), tuple(scales))


def _head_size(where: str, person: Mapping[str, Any], needed: bool) -> float:
    """Return 0.6 of the diagonal of the head rectangle (util_get_head_size.m).

    Differs: without a rectangle, computed from scale; such a person stops the toolkit, or is never found.
    """
    x1, y1, x2, y2 = (_number(person.get(key)) for key in ("x1", "y1", "x2", "y2"))
    size = HEAD_BIAS * math.hypot(x2 - x1, y2 - y1)
    if math.isnan(size):
        size = HEAD_PER_SCALE * _number(person.get("scale"))
    if math.isnan(size) and needed:
        raise FileError(f"{where}: neither a head rectangle (x1, y1, x2, y2) nor a scale; without them, the head size, "
                        "which scales all distances, is unknown")
    return size


def _position(person: Mapping[str, Any]) -> tuple[float, float]:
    place = person.get("objpos")
    return (_number(place.get("x")), _number(place.get("y"))) if isinstance(place, Struct) else (math.nan, math.nan)


def _number(value: Any) -> float:
    return value if isinstance(value, float) else math.nan


def _groups_of_release(path: Path, release: Struct, groups: Path | None, split: str) -> Groups:
    """Return the multi-person groups of one split, as getMultiPersonGroups.m selects them."""
    if split not in ("train", "test"):
        raise EvaluationError(f"split {split!r} is neither train nor test")
    if groups is None:
        raise EvaluationError(f"{path}: RELEASE does not contain the groups; give the official toolkit's groups_v12.mat"
                              " (--groups)")
    people, train, single = release.get("annolist"), release.get("img_train"), release.get("single_person")
    listed = read_mat(groups).get("groups")
    if not (isinstance(people, Struct) and isinstance(train, np.ndarray) and isinstance(single, Cell)
            and "annorect" in people.fields):
        raise FileError(f"{path}: RELEASE without annolist, img_train or single_person")
    if not isinstance(listed, Cell):
        raise FileError(f"{groups}: has no cell array groups; is it groups_v12.mat?")
    if not len(people) == train.size == len(single.items) == len(listed.items):
        raise EvaluationError(f"{path} has {len(people)} images, {train.size} in img_train and {len(single.items)} in "
                              f"single_person; {groups} has {len(listed.items)}; they must be from the same release")
    chosen = []
    wanted = train.reshape(-1, order="F") == (split == "train")
    for image, (where, name, rects) in enumerate(_entries(path, people)):
        if not wanted[image]:
            continue
        alone = set(_indices(single.items[image]))
        for group in listed.items[image].items if isinstance(listed.items[image], Cell) else ():
            members = _indices(group)
            # Quirk: Matlab's `if` over a vector requires all elements: a group with a single person in it is dropped.
            if members and not alone & set(members):
                if max(members) > len(rects) or min(members) < 1:
                    raise FileError(f"{groups}: image {image + 1} has no person {max(members)}; RELEASE has "
                                    f"{len(rects)}")
                chosen.append((where.replace("group", "image"), name, [rects[m - 1] for m in members]))
    found = _to_groups(chosen)
    if not any(np.isfinite(joints).any() for joints in found.joints):
        raise EvaluationError(f"{path}: the {split} split has no joints. MPII withholds those of its test images, so "
                              "only its organisers can evaluate them; use --split train")
    return found


def _indices(value: Any) -> list[int]:
    """Return a Matlab vector of indices, which count from 1."""
    if isinstance(value, float):
        value = np.array([value])
    values = value.reshape(-1, order="F").tolist() if isinstance(value, np.ndarray) else []
    return [int(v) for v in values if math.isfinite(v)]
