"""The authors' files before and after the pose NMS: reads proposals and poses, writes persons.

A proposals folder holds index.txt (``name first last`` per image, counted from 1, last included), score.txt (one
number per box), test-bbox.h5 (xmin, ymin, xmax, ymax) and optionally the image name of each box, as test-bbox.txt or
test-bbox_images.txt. The pose network's file, testres.h5 or test.h5, holds preds (P, 16, 2) and
scores (P, 16, 1). Source: batch_nms.py:14-43 and main.lua of multi-human-pose@094e29b.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path

import h5py
import numpy as np

from rmpe_legacy import _host
from rmpe_legacy.errors import FileError, PoseFileError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.results import JOINTS, Persons, Poses, Proposals
from rmpe_legacy.readers.hdf5 import Dataset, Group, open_hdf5
from rmpe_legacy.reading import cannot_open, refuse_url

RESULTS = ("pred.txt", "scores.txt", "scores-proposals.txt", "index.txt")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE_LISTS = ("test-bbox.txt", "test-bbox_images.txt")


def read_proposals(folder: str | PathLike) -> Proposals:
    """Read the boxes of a proposals folder and check its files against each other.

    Raises:
        FileError: The folder or a file is missing.
        PoseFileError: A file is malformed, or does not match the others.
    """
    folder = Path(folder)
    refuse_url(folder)
    if not os.path.isdir(folder):
        what = "not a folder" if os.path.exists(folder) else "no such folder"
        raise FileError(f"{folder}: {what}; expected a folder with index.txt, score.txt and test-bbox.h5")
    boxes, scores = _read_boxes(folder / "test-bbox.h5"), read_numbers(folder / "score.txt")
    if len(scores) != len(boxes):
        raise PoseFileError(f"{folder / 'score.txt'}: has {len(scores)} scores, but test-bbox.h5 has {len(boxes)} "
                            "boxes; they must come from the same run")
    names, ranges = read_index(folder / "index.txt", len(boxes))
    for name in _IMAGE_LISTS:
        if os.path.exists(folder / name):
            _check_image_list(folder / name, names, ranges, len(boxes))
    return Proposals(names, ranges, boxes, scores)


def read_poses(path: str | Path, expected: int | None = len(JOINTS)) -> Poses:
    """Read the poses of testres.h5, one per box in the same order.

    Args:
        path: The file.
        expected: Joints per pose; None for any number.

    Raises:
        FileError: The file cannot be read.
        PoseFileError: Its arrays have other shapes.
    """
    joints, scores = _read_arrays(path, ("preds", "scores"))
    count = len(joints)
    j = expected if expected is not None else joints.shape[1] if joints.ndim == 3 else len(JOINTS)
    if joints.shape != (count, j, 2):
        raise PoseFileError(f"{path}: preds are {joints.shape}; expected (proposals, {j}, 2)")
    if scores.shape not in ((count, j, 1), (count, j)):
        raise PoseFileError(f"{path}: scores are {scores.shape}; expected {(count, j, 1)} for {count} poses")
    return Poses(joints.astype(np.float64, copy=False), scores.reshape(count, j))


def read_index(path: str | Path, count: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Read an index.txt: the image names, and (I, 2) ranges into ``count`` proposals, 0-based and end-exclusive.

    Raises:
        PoseFileError: The file is empty, or a line is malformed or out of range.
    """
    lines = _read_lines(path)
    if not lines:
        raise PoseFileError(f"{path}: is empty; each line gives an image name and its first and last proposal")
    names, ranges = [], np.empty((len(lines), 2), np.int64)
    for number, line in enumerate(lines, 1):
        try:
            name, *ends = line.rsplit(maxsplit=2)
            first, last = map(int, ends)
            first -= 1
        except ValueError:
            raise PoseFileError(f"{path}:{number}: {line!r} is not 'name first last'") from None
        if not 0 <= first <= last <= count:
            raise PoseFileError(f"{path}:{number}: {name} has proposals {first + 1} to {last}, "
                                f"but there are only {count} (counted from 1)")
        names.append(name)
        ranges[number - 1] = first, last
    return tuple(names), ranges


def read_numbers(path: str | Path) -> np.ndarray:
    """Read a text file with one number per line, such as score.txt: (N,) float64.

    Raises:
        PoseFileError: A line is not a finite number.
    """
    lines = _read_lines(path)
    try:
        numbers = np.array(lines, np.float64) if lines else np.empty(0)
    except ValueError:
        numbers = np.array([_number(line) for line in lines])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise PoseFileError(f"{path}:{bad[0] + 1}: {lines[bad[0]]!r} is not a finite number")
    return numbers


def read_image_sizes(path: str | Path) -> dict[str, tuple[int, int]]:
    """Read a text file with ``name width height`` per line: image name -> (width, height) in pixels.

    Raises:
        PoseFileError: A line has another form.
    """
    sizes = {}
    for number, line in enumerate(_read_lines(path), 1):
        try:
            name, width, height = line.rsplit(maxsplit=2)
            sizes[name] = int(width), int(height)
        except ValueError:
            raise PoseFileError(f"{path}:{number}: {line!r} is not 'name width height'") from None
    return sizes


def write_proposals(folder: str | Path, proposals: Proposals, poses: Poses | None = None) -> None:
    """Write a proposals folder: index.txt, score.txt, test-bbox.h5, test-bbox.txt; with poses also testres.h5.

    All files appear, or none. Scores have 12 significant digits, as Python 2 prints them.
    """
    names = [_encode(name) for name in proposals.images]
    counts = (proposals.ranges[:, 1] - proposals.ranges[:, 0]).tolist()
    columns = dict(zip(_CORNERS, proposals.boxes_xyxy.T, strict=True))
    files = {
        "index.txt": b"".join(b"%s %d %d\n" % (name, first + 1, end)
                              for name, (first, end) in zip(names, proposals.ranges.tolist(), strict=True)),
        "score.txt": _host.format_rows([b""] * len(proposals), proposals.scores[:, None]),
        "test-bbox.h5": _hdf5(columns),
        "test-bbox.txt": b"".join((name + b"\n") * count for name, count in zip(names, counts, strict=True)),
    }
    if poses is not None:
        files["testres.h5"] = _hdf5({"preds": poses.joints_xy, "scores": poses.scores[..., None].astype(np.float64)})
    write_together(folder, files)


def write_persons(folder: str | Path, persons: Persons, proposals: Proposals, variant: str = "batch") -> None:
    """Write pred.txt, scores.txt, scores-proposals.txt and index.txt as the authors' script does: all four, or none.

    Coordinates in pred.txt are whole pixels, truncated towards zero, for "batch"; 12 significant digits for "demo".
    """
    names = [_encode(name) for name in proposals.images]
    heads = [names[i] + b"\t" for i in persons.images.tolist()]
    joints = _cut(persons, proposals.images) if variant == "batch" else persons.joints_xy
    write_together(folder, {
        "pred.txt": _host.format_rows(heads, joints.reshape(len(persons), 2 * joints.shape[1])),
        "scores.txt": _host.format_rows(heads, persons.scores),
        "scores-proposals.txt": _host.format_rows([b""] * len(persons), proposals.scores[persons.picks, None]),
        "index.txt": b"".join(b"%s %d %d\n" % (name, people.start + 1, people.stop)
                              for name, people in zip(names, persons.by_image(), strict=True)),
    })


def _hdf5(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return an HDF5 file with these arrays."""
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in arrays.items():
            file[name] = np.ascontiguousarray(values)
    return buffer.getvalue()


def _cut(persons: Persons, names: Sequence[str]) -> np.ndarray:
    """Truncate to whole pixels. A joint without coordinates is an error, as int(nan) was."""
    lost = np.flatnonzero(~np.isfinite(persons.joints_xy).all(axis=(1, 2)))
    if len(lost):
        raise PoseFileError(f"{names[persons.images[lost[0]]]}: a merged joint has no coordinates because the scores "
                            "of its poses cancel out; heatmap scores must not be negative")
    return persons.joints_px


def breaks_lines(name: str) -> bool:
    """Return whether the name contains a line break, so that a text file with one name per line cannot hold it."""
    return "\n" in name or "\r" in name


def _encode(name: str) -> bytes:
    if breaks_lines(name):
        raise PoseFileError(f"{name!r}: the image's name contains a line break, which index.txt cannot hold; rename it")
    return name.encode("utf-8", "surrogateescape")


def _read_lines(path: str | Path) -> list[str]:
    """Return the lines of a text file without trailing blank lines; bytes that are not UTF-8 are kept."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read().rstrip()
    except OSError as error:
        raise cannot_open(path, error) from None
    return text.split("\n") if text else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _check_image_list(path: Path, names: Sequence[str], ranges: np.ndarray, count: int) -> None:
    """Check that the list with an image name per box agrees with index.txt."""
    lines = _read_lines(path)
    if len(lines) != count:
        raise PoseFileError(f"{path}: names {len(lines)} boxes, but test-bbox.h5 has {count}")
    for name, (first, end) in zip(names, ranges.tolist(), strict=True):
        for box in range(first, end):
            if lines[box].rstrip() != name:
                raise PoseFileError(f"{path}:{box + 1}: box {box + 1} belongs to {lines[box].rstrip()}, but index.txt "
                                    f"assigns it to {name}")


def _read_boxes(path: Path) -> np.ndarray:
    """Read (P, 4) boxes from four columns, each (P,) as Python writes them or (P, 1) as Lua does."""
    columns = _read_arrays(path, _CORNERS)
    count = len(columns[0])
    for corner, column in zip(_CORNERS, columns, strict=True):
        if column.shape not in ((count,), (count, 1)):
            raise PoseFileError(f"{path}: {corner} has shape {column.shape}, but {_CORNERS[0]} has {count} "
                                "values; all four must have the same length")
    boxes = np.stack([column.reshape(count) for column in columns], axis=1)
    wrong = np.flatnonzero((boxes[:, :2] > boxes[:, 2:]).all(axis=1))
    if len(wrong):
        raise PoseFileError(f"{path}: box {wrong[0] + 1} ends before it begins: {', '.join(_CORNERS)} are "
                            f"{boxes[wrong[0]].tolist()}")
    return boxes.astype(np.int64 if boxes.dtype.kind in "iu" else np.float64, copy=False)


def _read_arrays(path: str | Path, names: Sequence[str]) -> list[np.ndarray]:
    """Read arrays of finite numbers from an HDF5 file."""
    root = open_hdf5(path)
    return [_array(path, root, name) for name in names]


def _array(path: str | Path, root: Group, name: str) -> np.ndarray:
    dataset = root.get(name)
    if not isinstance(dataset, Dataset):
        raise FileError(f"{path}: has no array {name!r}; it contains {', '.join(root) or 'nothing'}")
    values = dataset.read()
    if not values.ndim:
        raise FileError(f"{path}: {name} is a single value; expected an array of numbers")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise PoseFileError(f"{path}: {name}: proposal {bad[0, 0] + 1} holds NaN or infinity")
    return np.array(values)
