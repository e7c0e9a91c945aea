"""Boxes of another detector: COCO-style detections in JSON, or a proposals folder as the authors wrote it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, PoseFileError, RmpeError
from rmpe_legacy.pose.formats.coco_results import number_of
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.wording import shorten

from .result_files import read_proposals

PERSON = 1  # COCO's category_id


def read_boxes(path: str | PathLike, names: Sequence[str], threshold: float | None = None) -> dict[str, Detections]:
    """Read the boxes of these images.

    Args:
        path: A folder with index.txt, score.txt and test-bbox.h5; or a JSON list of objects with image_id, bbox (xmin,
            ymin, width, height) and score, also under "annotations". An image_id is a file name or the number that
            ends it, 139 for 000000000139.jpg; objects of a category_id other than 1, person, are skipped.
        names: The images' file names.
        threshold: Keep boxes with a higher score; None keeps all.

    Returns:
        Image name -> boxes. An image that the file does not name has none.

    Raises:
        RmpeError: The file cannot be read, or names none of the images.
    """
    path = Path(path)
    found = _of_folder(path) if os.path.isdir(path) else _of_json(path, names)
    if names and not found.keys() & set(names):
        listed = next(iter(found), None)
        raise RmpeError(f"{path}: has boxes for none of the {len(names)} images; it names "
                        f"{shorten(repr(listed)) if found else 'no image'}, and the first image is {shorten(names[0])}")
    nobody = Detections(np.empty((0, 4)), np.empty(0, np.float32))
    boxes = {name: found.get(name, nobody) for name in names}
    if threshold is None:
        return boxes
    return {name: each.select(each.scores.astype(np.float64) > threshold) for name, each in boxes.items()}


def _of_folder(path: Path) -> dict[str, Detections]:
    proposals = read_proposals(path)
    boxes: dict[str, Detections] = {}
    for name, (first, end) in zip(proposals.images, proposals.ranges.tolist(), strict=True):
        rows = Detections(proposals.boxes_xyxy[first:end].astype(np.int64),
                          proposals.scores[first:end].astype(np.float32))
        if name in boxes and not np.array_equal(boxes[name].boxes_xyxy, rows.boxes_xyxy):
            raise RmpeError(f"{path}: lists {name} twice with different boxes; list each image once")
        boxes[name] = rows
    return boxes


def _of_json(path: Path, names: Sequence[str]) -> dict[str, Detections]:
    content = read_json(path)
    by_id: dict[object, str] = {number: name for name in reversed(names) if (number := number_of(name)) is not None}
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        by_id = {image["id"]: image["file_name"] for image in content["images"]
                 if isinstance(image, dict) and isinstance(image.get("id"), int | str)
                 and isinstance(image.get("file_name"), str)}
    if isinstance(content, dict):
        content = content.get("annotations")
    if not isinstance(content, list):
        raise FileError(f"{path}: not a list of detections (image_id, bbox, score), nor an object with annotations")
    rows: dict[str, list[np.ndarray]] = {}
    for i, entry in enumerate(content, 1):
        where = f"{path}: detection {i}"
        if not isinstance(entry, dict):
            raise FileError(f"{where} is not an object")
        if entry.get("category_id", PERSON) != PERSON:
            continue
        name = _image(where, entry, by_id)
        rows.setdefault(name, []).append(_row(where, entry))
    return {name: Detections(np.array(each)[:, :4], np.array(each)[:, 4].astype(np.float32))
            for name, each in rows.items()}


def _image(where: str, entry: dict[str, Any], by_id: dict[object, str]) -> str:
    image = entry.get("file_name", entry.get("image_id"))
    if not isinstance(image, int | str):
        raise FileError(f"{where}: has no image_id")
    return by_id.get(image, str(image))


def _row(where: str, entry: dict[str, Any]) -> np.ndarray:
    """xmin, ymin, xmax, ymax, score."""
    box: Any = entry.get("bbox")
    score = entry.get("score")
    try:
        values = np.array([*box, score], np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.empty(0)
    if values.shape != (5,) or not np.isfinite(values).all() or np.abs(values).max() > 1e9:
        raise FileError(f"{where}: needs a bbox of four numbers and a score")
    if min(values[2:4]) < 0:
        raise PoseFileError(f"{where}: its bbox has the size {values[2]:g} x {values[3]:g}; a bbox is xmin, ymin, "
                            "width, height")
    values[2:4] += values[:2]
    return values
