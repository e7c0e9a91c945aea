"""Pairs of a detector's boxes and annotated people, from the files of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.runs.result_files import read_proposals

from .people import Person
from .pgpg import MIN_IOU, Pairs, pair_boxes


def pairs_of(proposals: str | Path, people: Sequence[Person], min_iou: float = MIN_IOU) -> Pairs:
    """Match each person with a detection of a proposals folder; images are identified by their names without folders.

    Args:
        proposals: A folder with index.txt, score.txt and test-bbox.h5.
        people: The annotated people.
        min_iou: As for ``pgpg.pair_boxes``, in [0, 1).

    Raises:
        RmpeError: `min_iou` is out of range, or no detection matches a person.
    """
    if not 0 <= min_iou < 1:
        raise RmpeError(f"the minimum intersection over union is {min_iou:g}; it must be at least 0 and less than 1")
    found = read_proposals(proposals)
    boxes = {_base(name): found.boxes_xyxy[first:last].astype(np.float64)
             for name, (first, last) in zip(found.images, found.ranges.tolist(), strict=True)}
    by_picture: dict[str, list[Person]] = {}
    for person in people:
        by_picture.setdefault(_base(person.image), []).append(person)
    detected, paired = [], []
    for name, there in by_picture.items():
        own = boxes.get(name, np.zeros((0, 4)))
        for d, p in pair_boxes(own, np.array([person.box_xyxy for person in there]), min_iou):
            detected.append(own[d])
            paired.append(there[p])
    if not paired:
        common = len(by_picture.keys() & boxes.keys())
        raise RmpeError(f"{proposals}: no detection belongs to an annotated person; {common} of the {len(by_picture)} "
                        "annotated images have detections; give the detections in the annotated images")
    return Pairs(np.array(detected), np.array([p.box_xyxy for p in paired]), np.array([p.joints_xy for p in paired]))


def _base(name: str) -> str:
    return PurePath(name.replace("\\", "/")).name
