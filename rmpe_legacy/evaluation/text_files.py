"""The authors' text files: poses after the NMS, and lists of annotated people."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import numpy as np

from rmpe_legacy.errors import EvaluationError, FileError
from rmpe_legacy.reading import cannot_open

from .groups import HEAD_PER_SCALE, Groups, Poses
from .joints import MPII

HEAD_PER_NECK_TO_TOP = 0.75  # reference head size / distance from upper neck to head top, approximately
_J = len(MPII)
_NECK, _TOP = MPII.index("neck"), MPII.index("head")


def poses_of_text(path: Path) -> Poses:
    """Read pred.txt with scores.txt and index.txt of the same folder, as written by batch_nms.py and read by
    setpred.m.
    """
    names, values = _table(path, 2 * _J)
    scores_file, index_file = path.with_name("scores.txt"), path.with_name("index.txt")
    scores_names, scores = _table(scores_file, _J)
    if scores_names != names:
        raise EvaluationError(f"{scores_file} has {len(scores_names)} poses and {path} {len(names)}, or they belong to "
                              "other images; they must come from the same run")
    poses = np.concatenate([values.reshape(-1, _J, 2), scores[..., None]], axis=2)
    images, ranges = _table(index_file, 2)
    used = np.zeros(len(poses), bool)
    joints = []
    for number, (image, (first, last)) in enumerate(zip(images, ranges.tolist(), strict=True), 1):
        where = f"{index_file}:{number}"
        if not 1 <= first <= last + 1 <= len(poses) + 1 or first % 1 or last % 1:
            raise FileError(f"{where}: {image} has the poses {first:g} to {last:g}, but there are {len(poses)} "
                            "(counted from 1)")
        span = slice(int(first) - 1, int(last))
        other = next((name for name in names[span] if name != image), None)
        if other is not None:
            raise FileError(f"{where}: {image} has the poses {first:g} to {last:g}, but one of them belongs to {other} "
                            f"in {path.name}")
        used[span] = True
        joints.append(poses[span])
    if not used.all():
        raise FileError(f"{path}:{np.flatnonzero(~used)[0] + 1}: a pose that {index_file.name} does not list")
    return Poses(tuple(images), tuple(joints), grouped=False)


def _table(path: Path, columns: int) -> tuple[list[str], np.ndarray]:
    """Read lines of a name and numbers: names, and numbers (N, columns)."""
    names: list[str] = []
    values = array("d")
    for number, line in enumerate(_lines(path), 1):
        name, *row = line.rsplit(maxsplit=columns) or [""]
        try:
            values.extend(map(float, row))
        except ValueError:
            row = []
        if len(row) != columns:
            raise FileError(f"{path}:{number}: expected a name and {columns} numbers")
        names.append(name)
    table = np.array(values).reshape(len(names), columns)
    if np.isinf(table).any():
        raise FileError(f"{path}:{np.flatnonzero(np.isinf(table).any(axis=1))[0] + 1}: a number that is not finite")
    return names, table


def groups_of_text(path: Path) -> Groups:
    """Read an annotation list of the authors: image, box, optional objpos and scale, 16 x, 16 y; 0, 0: not annotated.

    Formats: predict/annot/train.txt and valid.txt of multi-human-pose@c4b8b6b, data/MPII/val.txt of RMPE@5188c23. Each
    image is one group, unlike in MPII.
    """
    people: dict[str, list[tuple[np.ndarray, float, np.ndarray, float]]] = {}
    headless = estimated = 0
    for number, line in enumerate(_lines(path), 1):
        fields = line.rstrip().split("\t")
        if len(fields) not in (4, 5):
            raise FileError(f"{path}:{number}: expected an image, a box, optionally position and scale, 16 x and 16 y, "
                            "separated by tabs")
        place = _row(path, number, fields[2], 3) if len(fields) == 5 else np.full(3, np.nan)
        _row(path, number, fields[1], 4)
        xy = np.stack([_row(path, number, text, _J) for text in fields[-2:]], axis=1)
        xy[(xy == 0).all(axis=1)] = np.nan
        of_image = people.setdefault(fields[0], [])
        head = HEAD_PER_SCALE * place[2]
        if math.isnan(head):
            head = HEAD_PER_NECK_TO_TOP * math.hypot(*(xy[_NECK] - xy[_TOP]))
            estimated += not math.isnan(head)
        if math.isnan(head):
            headless += 1
        else:
            of_image.append((xy, head, place[:2], place[2]))
    if not people:
        raise FileError(f"{path}: is empty")
    notes = ["each image counts as one group; MPII's own groups differ"]
    if estimated:
        notes.append(f"the heads of {estimated} people are measured from neck to head top, which matches the size of "
                     "MPII's head rectangle within about 3 %")
    if headless:
        notes.append(f"{headless} people without neck or head top are left out; poses on them count as wrong")
    columns = [list(zip(*each, strict=True)) or [()] * 4 for each in people.values()]
    shapes = ((_J, 2), (), (2,), ())
    joints, heads, positions, scales = (
        tuple(np.array(c[k], np.float64).reshape(len(c[k]), *shape) for c in columns) for k, shape in enumerate(shapes))
    return Groups(tuple(people), joints, heads, positions, scales, tuple(notes))


def _row(path: Path, number: int, text: str, count: int) -> np.ndarray:
    try:
        values = np.array(text.split(), np.float64)
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise FileError(f"{path}:{number}: {text[:60]!r} is not {count} numbers")
    return values


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").split("\n")  # a name may contain other characters at which splitlines splits
    except OSError as error:
        raise cannot_open(path, error) from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not a text file") from None
    return lines if lines[-1] else lines[:-1]
