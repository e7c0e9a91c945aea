"""The struct array ``pred`` of MPII's official toolkit, in ``pred_keypoints_mpii_multi.mat``.

One element per image, in the order of the run: ``image.name`` and, per person, ``annorect.annopoints.point`` with id
(MPII's, from 0), x, y and score. The toolkit compares element by element with its ground truth, so that the images
must be those of the ground truth, in its order, each with one group of people.
Source: README of the MPII multi-person toolkit, eval/evaluateAP.m.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.optional import optional

from ..joints import MPII16, JointSet
from ..people import People

NAME = "mpii"
FILE = "pred_keypoints_mpii_multi.mat"
_FIELDS = ("id", "x", "y", "score")


def check(joints: JointSet) -> None:
    """Check that the format can be written.

    Raises:
        RmpeError: The joints are not MPII's, or SciPy is not installed.
    """
    if joints != MPII16:
        raise RmpeError(f"format {NAME} holds MPII's 16 joints, not the {len(joints)} of {joints.name}; leave it out, "
                        "or use coco-results")
    _scipy_io()


def files(people: Sequence[People]) -> dict[str, bytes]:
    """Return the file of a run, file name -> content."""
    pred = np.zeros((1, len(people)), [("image", object), ("annorect", object)])
    for i, each in enumerate(people):
        check(each.joints)
        pred[0, i] = _structs([{"name": each.image}]), _rects(each)
    buffer = BytesIO()
    _scipy_io().savemat(buffer, {"pred": pred})
    return {FILE: buffer.getvalue()}


def _rects(people: People) -> np.ndarray:
    rects = []
    for keypoints, found in zip(people.keypoints, people.found, strict=True):
        points = [dict(zip(_FIELDS, (float(j), *keypoints[j].tolist()), strict=True)) for j in np.flatnonzero(found)]
        rects.append({"annopoints": _structs([{"point": _structs(points)}])})
    return _structs(rects)


def _structs(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """A Matlab struct array (1, N); without rows, an empty matrix."""
    if not rows:
        return np.zeros((0, 0))
    out = np.zeros((1, len(rows)), [(field, object) for field in rows[0]])
    for i, row in enumerate(rows):
        out[0, i] = tuple(row.values())
    return out


def _scipy_io():
    return optional("scipy.io", f"format {NAME}")
