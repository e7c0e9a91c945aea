"""AlphaPose's results: ``alphapose-results.json``, one list that its viewers, trackers and converters read.

An object per person: ``image_id`` is the file's name, ``keypoints`` x, y, score by turns, ``score`` AlphaPose's
proposal score, ``box`` xmin, ymin, width, height, ``idx`` the number that a tracker gives, here 0: nobody is tracked.
Source: ``write_json`` of alphapose/utils/pPose_nms.py and docs/output.md, AlphaPose@c60106d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..people import People, proposal_scores
from .json_text import json_list

NAME = "alphapose"
FILE = "alphapose-results.json"


def files(people: Sequence[People]) -> dict[str, bytes]:
    """Return the file of a run, file name -> content: a JSON list of all people."""
    return {FILE: json_list([row for each in people for row in entries(each)])}


def entries(people: People) -> list[dict[str, Any]]:
    """Return the people of one image; a joint that was not found is three zeros."""
    columns = (people.flat, proposal_scores(people.keypoints, people.box_scores),
               people.boxes_xywh)
    return [{"image_id": people.image, "category_id": 1, "keypoints": keypoints, "score": score, "box": box, "idx": 0}
            for keypoints, score, box in zip(*(column.tolist() for column in columns), strict=True)]
