"""Places labels on an image so that they do not cover one another where there is room."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_REACH = 5  # label heights up and down that a label may move from its place; label widths to the left and right: 2
# In label widths and heights: half a height, a quarter of a width at a time
_MOVES = np.stack(np.meshgrid(np.arange(-8, 9) / 4, np.arange(-2 * _REACH, 2 * _REACH + 1) / 2), axis=-1).reshape(-1, 2)


def place_labels(corners_xy: ArrayLike, sizes_wh: ArrayLike, image_wh: tuple[float, float]) -> np.ndarray:
    """Move labels that would cover an earlier one, or leave the image, to the nearest free place.

    If no place nearby is free, a label goes where it covers least.

    Args:
        corners_xy: (L, 2), the desired upper left corner of each label, in pixels.
        sizes_wh: (L, 2), width and height of each label in pixels. A label larger than the image starts at its edge.
        image_wh: Width and height of the image in pixels.

    Returns:
        (L, 2) float64, the upper left corner of each label.
    """
    corners = np.asarray(corners_xy, np.float64).reshape(-1, 2)
    sizes = np.asarray(sizes_wh, np.float64).reshape(-1, 2)
    limits = np.maximum(np.asarray(image_wh, np.float64) - sizes, 0)
    placed = np.empty_like(corners)
    for i, (corner, size, limit) in enumerate(zip(corners, sizes, limits, strict=True)):
        tried = np.clip(corner + _MOVES * size, 0, limit)
        covered = _overlaps(tried, size, placed[:i], sizes[:i])
        moved = np.hypot(*((tried - np.clip(corner, 0, limit)).T))
        placed[i] = tried[np.lexsort((moved, covered))[0]]
    return placed


def _overlaps(corners: np.ndarray, size: np.ndarray, placed: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the area that a label at each of (C, 2) corners shares with the placed ones: (C,)."""
    low = np.maximum(corners[:, None], placed)
    high = np.minimum(corners[:, None] + size, placed + sizes)
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
