"""Heat-map targets: a peak of height 1 where each joint is, in the frame of a box.

Two conventions, chosen by ``published`` as in ``pose.crop``, so that a network learns what its program reads out:

- "torch7": the peaks of the authors' training code, a window of 7 x 7 cells around a whole cell.
- "demo": demo.py has no training code; a peak stands exactly where its read-out (``uncrop``) has the joint.
"""

from __future__ import annotations

import math

import numpy as np

from rmpe_legacy.pose.crop import to_heatmap

PEAK = 1.75  # cells: image.gaussian's standard deviation, 0.25 of its window of 7 cells


def inside(joints_xy: np.ndarray, box_xyxy: np.ndarray) -> np.ndarray:
    """Return which joints (J, 2) are annotated and inside a box, excluding its edges: (J,) bool (pose.lua:125)."""
    with np.errstate(invalid="ignore"):
        return np.all((joints_xy > box_xyxy[:2]) & (joints_xy < box_xyxy[2:]), axis=1)


def heatmaps(joints_xy: np.ndarray, shown: np.ndarray, box_xyxy: np.ndarray, size: int,
             published: str = "torch7") -> np.ndarray:
    """Return the target heatmaps of joints in the square around a box: (J, size, size) float32.

    Args:
        joints_xy: (J, 2) pixels, counted from 0 for both programs.
        shown: (J,) bool; the heatmap of a joint that is not shown stays zero.
        box_xyxy: (4,) in whole pixels.
        size: Side of the heatmaps.
        published: "torch7" or "demo".
    """
    maps = np.zeros((len(joints_xy), size, size), np.float32)
    for j in np.flatnonzero(shown):
        if published == "torch7":
            x, y = to_heatmap(joints_xy[j] + 1, box_xyxy, size).tolist()  # annotations count from 1 there
            draw_gaussian(maps[j], x, y)
        else:
            maps[j] = exact_peak(_place_demo(joints_xy[j], box_xyxy, size), size)
    return maps


def draw_gaussian(target: np.ndarray, x: int, y: int, sigma: float = 1.0) -> None:
    """Raise ``target`` (H, W), in place, to a Gaussian around column x and row y, which count from 1 as in Lua.

    Quirk: a window that is cut at the left or upper border is cut at the wrong cell, so that the peak is one cell
    (border on the window's first cell) or two too far to the right or below.

    Source: drawGaussian, train/src/util/img.lua:309-329 of multi-human-pose@094e29b; image.gaussian of torch/image.
    """
    reach = math.ceil(3 * sigma)
    size = 2 * reach + 1
    columns, rows = (_window(center, reach, length) for center, length in ((x, target.shape[1]), (y, target.shape[0])))
    if columns is None or rows is None:
        return
    bell = np.exp(-0.5 * ((np.arange(size) - reach) / (0.25 * size)) ** 2)
    kernel = (bell[:, None] * bell[None]).astype(np.float32)
    part = target[rows[0], columns[0]]
    np.maximum(part, kernel[rows[1], columns[1]], out=part)


def _window(center: int, reach: int, length: int) -> tuple[slice, slice] | None:
    """Along one axis: which cells of the map take which of the kernel; None where the window misses the map."""
    first, last = center - reach, center + reach  # from 1
    if first > length or last < 1:
        return None
    begin, end = max(1, first), min(last, length)
    kernel = max(1, -first)
    return slice(begin - 1, end), slice(kernel - 1, kernel + end - begin)


def exact_peak(place: np.ndarray, size: int) -> np.ndarray:
    """Return a Gaussian around a position (x, y) between cells: (size, size) float32."""
    x, y = (np.exp(-0.5 * ((np.arange(size) - center) / PEAK) ** 2) for center in place)
    return (y[:, None] * x[None]).astype(np.float32)


def _place_demo(joint_xy: np.ndarray, box_xyxy: np.ndarray, size: int) -> np.ndarray:
    """Where ``uncrop`` with "demo" finds this joint: (x, y) in cells from 0, with fractions."""
    sides = box_xyxy[2:] - box_xyxy[:2]
    length = sides.max()
    margin = np.maximum(0, length // 2 - sides // 2)
    return (joint_xy - box_xyxy[:2] + margin) * size / length
