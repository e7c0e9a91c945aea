"""Draws boxes and skeletons on an image, in the colours of the published demo (demo.py:143-170 of RMPE@5188c23)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy.errors import InputError, RmpeError
from rmpe_legacy.files import whole_file

from .joints import MPII16, JointSet
from .labels import place_labels
from .people import People

RIGHT, LEFT, MIDDLE = (255, 0, 0), (0, 0, 255), (191, 0, 191)  # RGB: matplotlib's "r", "b" and "m"


@lru_cache(16)
def colored_limbs(joints: JointSet) -> tuple[tuple[int, int, tuple[int, int, int]], ...]:
    """Return (joint, joint, colour) of each limb: red on the right side, blue on the left, purple between."""
    return tuple((a, b, _color(joints.joints[a], joints.joints[b])) for a, b in joints.limbs)


@lru_cache(16)
def joint_colors(joints: JointSet) -> tuple[tuple[int, int, int], ...]:
    """Return the colour of each joint by its side."""
    return tuple(map(_color, joints.joints))


def _color(*names: str) -> tuple[int, int, int]:
    left, right = (any(name.startswith(side) for name in names) for side in ("left", "right"))
    return MIDDLE if left == right else LEFT if left else RIGHT


# The demo indexes its colours one joint too far, in a table shifted by as much; so the right side is red and the left
# side blue.
LIMBS = colored_limbs(MPII16)
_SHIFT = 4  # OpenCV's fractional bits: sixteenths of a pixel


def draw_poses(image: np.ndarray, joints_xy: ArrayLike, scores: ArrayLike, order: str = "RGB", min_score: float = 0.1,
               thickness: int = 2, radius: int = 3, joint_set: JointSet = MPII16) -> np.ndarray:
    """Draw skeletons on a copy of an image.

    Args:
        image: (H, W, 3) uint8.
        joints_xy: (K, J, 2) in pixels; NaN: no such joint.
        scores: (K, J).
        order: Channel order of the image, "RGB" or "BGR".
        min_score: Joints with a lower score are not drawn, nor are their limbs.
        thickness: Of the limbs, in pixels.
        radius: Of the joints, in pixels; 0 draws none, as the demo.
        joint_set: Which J joints these are.
    """
    canvas = _copy(image, order)
    limbs, colors = colored_limbs(joint_set), joint_colors(joint_set)
    joints = np.asarray(joints_xy, np.float64)
    found = np.isfinite(joints)
    visible = (np.asarray(scores) >= min_score) & found.all(axis=-1)
    for places, shown in zip(_fixed(np.where(found, joints, 0)), visible.tolist(), strict=True):
        for first, second, color in limbs:
            if shown[first] and shown[second]:
                cv2.line(canvas, places[first], places[second], _ordered(color, order), thickness, cv2.LINE_AA, _SHIFT)
        for place, color, there in zip(places, colors, shown, strict=True):
            if there and radius:
                cv2.circle(canvas, place, radius << _SHIFT, _ordered(color, order), cv2.FILLED, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_people(image: np.ndarray, people: People) -> np.ndarray:
    """Draw the skeletons of people on a copy of an (H, W, 3) uint8 RGB image, with lines that suit its size."""
    width = line_width((image.shape[1], image.shape[0]))
    return draw_poses(image, people.keypoints[..., :2], people.keypoints[..., 2], thickness=width, radius=width + 1,
                      joint_set=people.joints)


def line_width(size_wh: tuple[int, int]) -> int:
    """Line width in pixels: the demo's 2 up to about 600 pixels, then in proportion to the image."""
    return max(2, round(max(size_wh) / 300))


def encode_image(rgb: np.ndarray, suffix: str) -> bytes:
    """Encode an (H, W, 3) uint8 RGB image as a file with this suffix: .png or .jpg."""
    _, data = cv2.imencode(suffix, rgb[..., ::-1])
    return data.tobytes()


def write_image(path: str | PathLike, rgb: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB image as .png or .jpg; the file appears whole or not at all.

    Raises:
        RmpeError: The path has another suffix.
        FileError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise RmpeError(f"{path}: an image can be written only as .png or .jpg")
    with whole_file(path) as file:
        file.write(encode_image(rgb, suffix))


def draw_boxes(image: np.ndarray, boxes_xyxy: ArrayLike, scores: Sequence[float] | np.ndarray | None = None,
               order: str = "RGB", color: tuple[int, int, int] = (0, 200, 0), thickness: int = 2) -> np.ndarray:
    """Draw boxes and, if given, their scores on a copy of an image.

    Each score is written in the upper left corner of its box, or nearby if another score is there.

    Args:
        image: (H, W, 3) uint8.
        boxes_xyxy: (D, 4) in pixels.
        scores: (D,) or None.
        order: Channel order of the image, "RGB" or "BGR".
        color: RGB, 0 to 255.
        thickness: Of the lines, in pixels.
    """
    canvas, color = _copy(image, order), _ordered(color, order)
    boxes = np.asarray(boxes_xyxy).astype(int).reshape(-1, 4)
    for xmin, ymin, xmax, ymax in boxes.tolist():
        cv2.rectangle(canvas, (xmin, ymin), (xmax - 1, ymax - 1), color, thickness)
    if scores is not None:
        _write_scores(canvas, boxes, [f"{score:.2f}" for score in scores], color)
    return canvas


def _write_scores(canvas: np.ndarray, boxes: np.ndarray, labels: Sequence[str], color: tuple[int, int, int]) -> None:
    """Write each box's score on a background of its colour, as large as suits the image; none on a tiny image."""
    if len(boxes) != len(labels):
        raise InputError(f"{len(boxes)} boxes and {len(labels)} scores do not match; give one score for each box")
    height, width = canvas.shape[:2]
    scale = line_width((width, height)) / 2
    pad, letter = round(3 * scale), round(11 * scale)  # OpenCV's letters are 22 pixels high at a font scale of 1
    widths = [cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale / 2, round(scale))[0][0] for label in labels]
    sizes = np.array([(w + 2 * pad, letter + 2 * pad) for w in widths]).reshape(-1, 2)
    if (sizes > (width, height)).any():
        return
    corners = np.rint(place_labels(boxes[:, :2], sizes, (width, height))).astype(int)
    ink = (0, 0, 0) if sum(color) > 180 else (255, 255, 255)
    for (x, y), (w, h), label in zip(corners.tolist(), sizes.tolist(), labels, strict=True):
        cv2.rectangle(canvas, (x, y), (x + w - 1, y + h - 1), color, cv2.FILLED)
        cv2.putText(canvas, label, (x + pad, y + h - pad - 1), cv2.FONT_HERSHEY_SIMPLEX, scale / 2, ink, round(scale),
                    cv2.LINE_AA)


def _copy(image: np.ndarray, order: str) -> np.ndarray:
    if order not in ("RGB", "BGR"):
        raise RmpeError(f"order {order!r} is not one of 'RGB', 'BGR'")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RmpeError(f"an image to draw on must be (height, width, 3) uint8, not {image.shape} {image.dtype}")
    return image.copy(order="C")


def _ordered(rgb: tuple[int, int, int], order: str) -> tuple[int, int, int]:
    return rgb if order == "RGB" else rgb[::-1]


def _fixed(joints: np.ndarray) -> list[list[list[int]]]:
    """Convert joints (K, J, 2) to OpenCV's fixed-point coordinates, clipped so that they do not overflow."""
    return np.rint(np.clip(joints, -1e6, 1e6) * (1 << _SHIFT)).astype(int).tolist()
