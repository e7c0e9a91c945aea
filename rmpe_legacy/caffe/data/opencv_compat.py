"""Resizes and rotates float images bit for bit like the OpenCV with which the networks were trained.

OpenCV 5 computes both differently. Source: resize.cpp, imgwarp.cpp of opencv@4.6.0.
"""

from __future__ import annotations

import cv2
import numpy as np

F = np.float32
_FIXED_BITS, _TABLE_BITS = 10, 5  # cv::warpAffine before OpenCV 5: places in 1/1024, read at 1/32 pixels


def resize_linear(image: np.ndarray, height: int, width: int, scale: float | None = None) -> np.ndarray:
    """Resize a float32 image (H, W, C) like cv::resize until OpenCV 4.x, to the bit; OpenCV 5 differs by 1e-6.

    Args:
        image: (H, W, C) float32.
        height: Of the result.
        width: Of the result.
        scale: cv::resize's fx and fy, if the size follows from it; None uses the ratio of the sizes.
    """
    columns, across = _between(image.shape[1], width, scale)
    across[(columns < 0) | (columns >= image.shape[1] - 1)] = 0
    left, right = (c.clip(0, image.shape[1] - 1) for c in (columns, columns + 1))
    rows, down = _between(image.shape[0], height, scale)
    above, below = (r.clip(0, image.shape[0] - 1) for r in (rows, rows + 1))
    first = above[0]
    used = image[first : below[-1] + 1]
    wide = _blend(used.take(left, 1), used.take(right, 1), np.repeat(across, image.shape[2]))
    return _blend(wide.take(above - first, 0), wide.take(below - first, 0), down[:, None]).reshape(height, width, -1)


def _blend(a: np.ndarray, b: np.ndarray, part: np.ndarray) -> np.ndarray:
    """a * (1 - part) + b * part, each row of pixels in one piece, which is faster; both are overwritten."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    a *= F(1) - part
    b *= part
    a += b
    return a


def _between(size: int, new: int, scale: float | None) -> tuple[np.ndarray, np.ndarray]:
    """For each of `new` cells, the cell of `size` before its middle and how far beyond that it lies."""
    place = ((np.arange(new) + 0.5) * (1 / (scale or new / size)) - 0.5).astype(F)
    whole = np.floor(place).astype(np.int64)
    return whole, place - whole.astype(F)


def warp_affine(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warp an image (H, W, C) like cv::warpAffine until OpenCV 4.x, which reads at multiples of 1/32 pixel."""
    (a, b, c), (d, e, f) = matrix.tolist()
    determinant = a * e - b * d
    scale = 1 / determinant if determinant else 0.0
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    c, f = -a * c - b * f, -d * c - e * f
    one, half = 1 << _FIXED_BITS, 1 << (_FIXED_BITS - _TABLE_BITS - 1)
    y, x = (np.arange(size) for size in image.shape[:2])
    shift, cells = _FIXED_BITS - _TABLE_BITS, 1 << _TABLE_BITS
    places = [
        (_fixed((row * y + offset) * one)[:, None] + half + _fixed(column * x * one)) >> shift
        for column, row, offset in ((a, b, c), (d, e, f))
    ]
    whole = np.stack([place >> _TABLE_BITS for place in places], axis=-1).clip(-32768, 32767).astype(np.int16)
    part = ((places[1] & cells - 1) * cells + (places[0] & cells - 1)).astype(np.uint16)
    return cv2.remap(image, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _fixed(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.int64)
