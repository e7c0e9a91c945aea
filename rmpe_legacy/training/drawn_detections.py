"""Pairs of a detector's boxes and people of the drawn world, to fit PGPG to."""

from __future__ import annotations

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.synthetic.world import draw_pictures

from .pgpg import MIN_IOU, Pairs, pair_boxes
from .sources import as_float, drawn_people


def drawn_pairs(detector: Detector, world: int, pictures: int, threshold: float, rounding: str = "demo") -> Pairs:
    """Run a detector over the first images of a drawn world, and pair its boxes with the people in them.

    Args:
        detector: The detector.
        world: The seed of the drawn world.
        pictures: Number of images.
        threshold: As for ``Detector``.
        rounding: As for ``Detector``.

    Raises:
        RmpeError: The detector finds nobody.
    """
    detected, true, joints = [], [], []
    for drawing in draw_pictures(world, pictures):
        people = drawn_people(drawing, "")
        boxes = detector(as_float(drawing), threshold, rounding).boxes_xyxy.astype(np.float64)
        for d, p in pair_boxes(boxes, np.array([person.box_xyxy for person in people]).reshape(-1, 4), MIN_IOU):
            detected.append(boxes[d])
            true.append(people[p].box_xyxy)
            joints.append(people[p].joints_xy)
    if not true:
        raise RmpeError(f"the detector found nobody in {pictures} synthetic images (world {world})")
    return Pairs(np.array(detected), np.array(true), np.array(joints))
