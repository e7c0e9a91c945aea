"""Crops of persons, and heatmaps with a Gaussian at each joint: the training data of DataHeatmap.

Source: data_heatmap.cpp of RMPE@5188c23. Single precision wherever the original uses float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rmpe_legacy.errors import FileError, RmpeError

from .opencv_compat import warp_affine
from .opencv_image import c_integer, c_number, read_words

F = np.float32
PERSON_HEIGHT = 200  # pixels at scale 1, MPII's convention
MASK_THRESHOLD = 40  # of 255: threshold for another person in a segmentation
SIGMA = 1.0  # cells
MAX_PLACE = 1e7  # pixels
MAX_CROP = 4  # times the image's longer side; a list that asks for more padding is damaged


@dataclass(frozen=True)
class Person:
    """One line of an annotation file."""

    image: str
    joints: np.ndarray  # (J, 2) float32, x and y in pixels of the image divided by multfact
    crop: tuple[np.float32, ...]  # centre x, centre y, scale; or xmin, ymin, xmax, ymax
    cluster: int
    where: str  # file and line, for errors


@dataclass(frozen=True)
class Cropped:
    """A person's crop, padded to a square of about `length` pixels."""

    image: np.ndarray  # (H, W, 3) float32
    joints: np.ndarray  # (J, 2) float32, in the crop
    length: np.float32


def read_persons(path: str | Path, labelinds: str, crop_values: int) -> list[Person]:
    """Read the persons of a file: ``image x1,y1,x2,y2,... crop cluster``, separated by white space.

    Args:
        path: The annotation file.
        labelinds: The numbers of the second column to use, from 1, separated by commas; empty for all.
        crop_values: The required number of values in the third column.

    Raises:
        FileError: The file cannot be read, is empty, or a line has another form.
    """
    words = read_words(path, "a list of persons")
    wanted = [int(c_number(text)) for text in _fields(labelinds)]
    persons = []
    for (image, line), (labels, _), (crop, _), (cluster, _) in zip(*[words] * 4, strict=False):
        where = f"{path}:{line}"
        values = [_small(t, where) for n, t in enumerate(_fields(labels), 1) if not wanted or n in wanted]
        if len(values) % 2:
            raise FileError(f"{where}: {len(values)} coordinates; x and y of each joint are expected")
        numbers = tuple(_small(t, where) for t in _fields(crop))
        if len(numbers) < crop_values:
            raise FileError(f"{where}: the crop {crop!r} has {len(numbers)} numbers, expected {crop_values}")
        persons.append(Person(image, np.array(values, F).reshape(-1, 2), numbers, c_integer(cluster), where))
    if not persons:
        raise FileError(f"{path}: lists no people; each line must be: image x1,y1,x2,y2,... crop cluster")
    return persons


def _fields(text: str) -> list[str]:
    """Split at commas, ignoring a trailing comma."""
    parts = text.split(",")
    return parts[:-1] if parts[-1] == "" else parts


def _small(text: str, where: str) -> np.float32:
    """Parse a coordinate. Raises FileError if it cannot be one."""
    value = c_number(text)
    if not abs(value) <= MAX_PLACE:
        raise FileError(f"{where}: {text!r} is not a position in an image")
    return F(value)


def cut_by_centre(image: np.ndarray, person: Person, multfact: int) -> Cropped:
    """Crop a square of 200 * scale pixels around the person's centre from an image (H, W, 3).

    The part outside the image is zero, except for one-pixel strips that are inside the image due to rounding: these
    show the image, because OpenCV pads a part of a larger image with its surroundings.

    Raises:
        RmpeError: The crop would be more than MAX_CROP times as large as the image.
    """
    x, y, scale = person.crop[:3]
    length = F(PERSON_HEIGHT) * scale
    if length > MAX_CROP * max(image.shape[:2]):
        raise RmpeError(f"{person.where}: the scale {scale:g} asks for a crop of {length:g} x {length:g} pixels from "
                        f"an image of {image.shape[1]} x {image.shape[0]}")
    x_min, y_min = x - length / F(2), y - length / F(2)
    height, width = F(image.shape[0]), F(image.shape[1])
    left, top = max(x_min, F(0)), max(y_min, F(0))
    pad_left, pad_top = max(F(0) - x_min, F(0)), max(F(0) - y_min, F(0))
    pad_right = max(left + length - width - pad_left, F(0))
    pad_bottom = max(top + length - height - pad_top, F(0))
    size = (int(min(length - pad_left, width - left)), int(min(length - pad_top, height - top)))
    box = _inside(image, person, int(left), int(top), *size)
    pads = (int(pad_top), int(pad_bottom), int(pad_left), int(pad_right))
    return Cropped(_pad_with_surroundings(image, box, pads),
                   person.joints - np.array([x_min, y_min], F) / F(multfact), length)


def cut_by_box(image: np.ndarray, person: Person, multfact: int, scale_width: float, scale_height: float) -> Cropped:
    """Crop the person's box: enlarged, clipped to the image, and padded with zeros to a square."""
    x_min, y_min, x_max, y_max = person.crop[:4]
    wider, taller = F(scale_width) - F(1), F(scale_height) - F(1)
    w, h = x_max - x_min, y_max - y_min
    x_min, y_min = max(F(0), x_min - w * wider / F(2)), max(F(0), y_min - h * taller / F(2))
    x_max = min(F(image.shape[1]), x_max + w * wider / F(2))
    y_max = min(F(image.shape[0]), y_max + h * taller / F(2))
    w, h = x_max - x_min, y_max - y_min
    length = max(w, h)
    pad_x, pad_y = max(F(0), length - w) / F(2), max(F(0), length - h) / F(2)
    x, y, right, bottom = _inside(image, person, int(x_min), int(y_min), int(w), int(h))
    padded = cv2.copyMakeBorder(image[y:bottom, x:right], int(pad_y), int(pad_y), int(pad_x), int(pad_x),
                                cv2.BORDER_CONSTANT, value=0)
    return Cropped(padded, person.joints - np.array([x_min - pad_x, y_min - pad_y], F) / F(multfact), length)


def _inside(image: np.ndarray, person: Person, x: int, y: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Return (x, y, right, bottom). Raises RmpeError if it is not inside the image."""
    if not (x >= 0 and y >= 0 and width > 0 and height > 0
            and x + width <= image.shape[1] and y + height <= image.shape[0]):
        raise RmpeError(f"{person.where}: the crop {', '.join(f'{v:g}' for v in person.crop)} gives {width} x {height} "
                        f"pixels at ({x}, {y}), which are outside the image of {image.shape[1]} x {image.shape[0]}")
    return x, y, x + width, y + height


def _pad_with_surroundings(image: np.ndarray, box: tuple[int, int, int, int],
                           pads: tuple[int, int, int, int]) -> np.ndarray:
    """The box (x, y, right, bottom) with pads (top, bottom, left, right): of the image where it has pixels."""
    (x, y, right, bottom), (above, below, before, after) = box, pads
    rows, columns = bottom - y + above + below, right - x + before + after
    out = np.zeros((rows, columns, image.shape[2]), image.dtype)
    top, left = max(y - above, 0), max(x - before, 0)
    part = image[top : min(bottom + below, image.shape[0]), left : min(right + after, image.shape[1])]
    row, column = above - (y - top), before - (x - left)
    out[row : row + part.shape[0], column : column + part.shape[1]] = part
    return out


def rotate(crop: Cropped, angle: np.float32, multfact: int) -> Cropped:
    """Rotate the crop and its joints around its centre, in degrees, anticlockwise."""
    rows, columns = crop.image.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns // 2, rows // 2), float(angle), 1)
    points = (crop.joints * F(multfact)).astype(np.float64)
    turned = (matrix[:, 0] * points[:, :1] + matrix[:, 1] * points[:, 1:] + matrix[:, 2]).astype(F)
    return Cropped(warp_affine(crop.image, matrix), turned / F(multfact), crop.length)


def gaussians(joints: np.ndarray, absent: Sequence[bool], height: int, width: int) -> np.ndarray:
    """Draw joints (J, 2), in cells, as heatmaps (J, height, width) float32: 1 at the joint; zeros for an absent one."""
    maps = np.zeros((len(joints), height, width), F)
    rows, columns = np.arange(height, dtype=F), np.arange(width, dtype=F)
    for out, (x, y), missing in zip(maps, joints, absent, strict=True):
        if not missing:
            down, across = (rows - y).astype(np.float64) ** 2, (columns - x).astype(np.float64) ** 2
            out[:] = np.exp(-0.5 * (down[:, None] + across) * (1 / SIGMA) ** 2)
    return maps


def is_absent(joints: np.ndarray) -> list[bool]:
    """For each joint (J, 2) as annotated: whether both whole parts are 0 or less, which marks it as not visible."""
    return [math.trunc(x) <= 0 and math.trunc(y) <= 0 for x, y in joints.tolist()]
