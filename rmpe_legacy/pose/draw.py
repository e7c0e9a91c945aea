"""Draws boxes and skeletons on an image, in the colours of the published demo (demo.py:143-170 of RMPE@5188c23)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy.errors import RmpeError

RIGHT, LEFT, MIDDLE = (255, 0, 0), (0, 0, 255), (191, 0, 191)  # RGB: matplotlib's "r", "b" and "m"

# (joint, joint, colour). The demo indexes its colours one joint too far, in a table shifted by as much; so the right
# side is red, the left side blue, and the thorax (7) has no limb: the neck is connected to the pelvis.
LIMBS = (
    (0, 1, RIGHT), (1, 2, RIGHT), (2, 6, RIGHT),
    (3, 4, LEFT), (3, 6, LEFT), (4, 5, LEFT),
    (6, 8, MIDDLE), (8, 9, MIDDLE),
    (13, 8, LEFT), (10, 11, RIGHT), (11, 12, RIGHT), (12, 8, RIGHT),
    (13, 14, LEFT), (14, 15, LEFT),
)
_JOINT_COLORS = (*[RIGHT] * 3, *[LEFT] * 3, *[MIDDLE] * 4, *[RIGHT] * 3, *[LEFT] * 3)
_SHIFT = 4  # OpenCV's fractional bits: sixteenths of a pixel


def draw_poses(image: np.ndarray, joints_xy: ArrayLike, scores: ArrayLike, order: str = "RGB", min_score: float = 0.1,
               thickness: int = 2, radius: int = 3) -> np.ndarray:
    """Draw skeletons on a copy of an image.

    Args:
        image: (H, W, 3) uint8.
        joints_xy: (K, 16, 2) in pixels; NaN: no such joint.
        scores: (K, 16).
        order: Channel order of the image, "RGB" or "BGR".
        min_score: Joints with a lower score are not drawn, nor are their limbs.
        thickness: Of the limbs, in pixels.
        radius: Of the joints, in pixels; 0 draws none, as the demo.
    """
    canvas = _copy(image, order)
    for joints, heights in zip(np.asarray(joints_xy, np.float64), np.asarray(scores), strict=True):
        shown = (heights >= min_score) & np.isfinite(joints).all(axis=1)
        places = [_fixed(joint) if visible else None for joint, visible in zip(joints, shown, strict=True)]
        for first, second, color in LIMBS:
            if shown[first] and shown[second]:
                cv2.line(canvas, places[first], places[second], _ordered(color, order), thickness, cv2.LINE_AA, _SHIFT)
        for place, color in zip(places, _JOINT_COLORS, strict=True):
            if place and radius:
                cv2.circle(canvas, place, radius << _SHIFT, _ordered(color, order), cv2.FILLED, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_boxes(image: np.ndarray, boxes_xyxy: ArrayLike, scores: Sequence[float] | np.ndarray | None = None,
               order: str = "RGB", color: tuple[int, int, int] = (0, 200, 0), thickness: int = 2) -> np.ndarray:
    """Draw boxes (D, 4) and, if given, their scores on a copy of an (H, W, 3) uint8 image. color: RGB."""
    canvas, color = _copy(image, order), _ordered(color, order)
    boxes = np.asarray(boxes_xyxy).astype(int).reshape(-1, 4).tolist()
    labels = [""] * len(boxes) if scores is None else [f"{score:.2f}" for score in scores]
    for (xmin, ymin, xmax, ymax), label in zip(boxes, labels, strict=True):
        cv2.rectangle(canvas, (xmin, ymin), (xmax - 1, ymax - 1), color, thickness)
        cv2.putText(canvas, label, (xmin + 3, ymin + 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
    return canvas


def _copy(image: np.ndarray, order: str) -> np.ndarray:
    if order not in ("RGB", "BGR"):
        raise RmpeError(f"order {order!r} is not one of 'RGB', 'BGR'")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RmpeError(f"an image to draw on must be (height, width, 3) uint8, not {image.shape} {image.dtype}")
    return image.copy(order="C")


def _ordered(rgb: tuple[int, int, int], order: str) -> tuple[int, int, int]:
    return rgb if order == "RGB" else rgb[::-1]


def _fixed(joint: np.ndarray) -> tuple[int, int]:
    """Convert to OpenCV's fixed-point coordinates, clipped so that they do not overflow."""
    x, y = np.rint(np.clip(joint, -1e6, 1e6) * (1 << _SHIFT)).astype(int).tolist()
    return x, y
