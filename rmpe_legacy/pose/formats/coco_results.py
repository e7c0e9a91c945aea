"""COCO's results: one list, an object per person, which pycocotools' ``loadRes`` reads.

The file is called ``coco_results.JOINTSET.json``, and each entry names its joint set: with MPII's 16 joints it is for
tools that read this layout, not for COCO's AP, which judges 17 other joints.
Source: the results format of https://cocodataset.org/#format-results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..people import People
from .json_text import json_list

NAME = "coco-results"
CATEGORY = 1  # person


def files(people: Sequence[People]) -> dict[str, bytes]:
    """Return the file of a run, file name -> content: a JSON list of all people."""
    ids = image_ids([each.image for each in people])
    rows = [row for each, image_id in zip(people, ids, strict=True) for row in entries(each, image_id)]
    name = people[0].joints.name if people else "empty"
    return {f"coco_results.{name}.json": json_list(rows)}


def entries(people: People, image_id: int | str) -> list[dict[str, Any]]:
    """Return the people of one image; a joint that was not found is three zeros."""
    return [{"image_id": image_id, "category_id": CATEGORY, "keypoints": keypoints, "score": score,
             "file_name": people.image, "joints": people.joints.name}
            for keypoints, score in zip(people.flat.tolist(), people.scores.tolist(), strict=True)]


def image_ids(names: Sequence[str]) -> list[int]:
    """Return COCO's image ids: the number at the end of each file name, 139 for 000000000139.jpg.

    If a name does not end in a number, or two names end in the same one, images are numbered from 1 in order.
    """
    numbers = [number for name in names if (number := number_of(name)) is not None]
    if len(set(numbers)) == len(names):
        return numbers
    return list(range(1, len(names) + 1))


def number_of(name: str) -> int | None:
    """Return the number that a file name ends in, 42 for COCO_val2014_000000000042.jpg; None if there is none."""
    stem = Path(name).stem.rpartition("_")[2]
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) < 19 else None
