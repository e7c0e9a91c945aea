"""Crop and un-crop of AlphaPose and other top-down estimators: one affine warp from a box to the network's input.

The box is extended to the input's aspect ratio around its centre, then enlarged by ``padding``; what lies outside the
image is black. Heatmaps are read at their maximum, moved a quarter of a cell towards the higher neighbour.

Source: ``_box_to_center_scale``, ``get_affine_transform`` and ``heatmap_to_coord_simple`` of AlphaPose@c60106d.
"""

from __future__ import annotations

import cv2
import numpy as np

PADDING = 1.25  # of AlphaPose, SimpleBaseline, HRNet and MMPose
_MAX_COORDINATE = 1e6  # px; OpenCV's warp overflows beyond


def input_frame(boxes_xyxy: np.ndarray, height: int, width: int, padding: float = PADDING) -> np.ndarray:
    """Return the part of the image that the network sees: (..., 4) -> (..., 4) float64.

    Args:
        boxes_xyxy: (..., 4) in pixels.
        height: Height of the network's input.
        width: Width of the network's input.
        padding: Factor by which the part is larger than the box.

    Returns:
        Centre x, centre y, width and height in pixels.
    """
    boxes = np.asarray(boxes_xyxy, np.float64)
    size = boxes[..., 2:] - boxes[..., :2]
    aspect = width / height
    wide = np.maximum(size[..., 0], aspect * size[..., 1])
    center = boxes[..., :2] + size / 2
    return np.concatenate([center, padding * np.stack([wide, wide / aspect], axis=-1)], axis=-1)


def crop_top_down(image: np.ndarray, box_xyxy: np.ndarray, height: int, width: int,
                  padding: float = PADDING) -> np.ndarray:
    """Warp a box to the network's input: (H, W, 3) -> (height, width, 3), linear interpolation, black outside."""
    x, y, w, h = np.clip(input_frame(box_xyxy, height, width, padding), -_MAX_COORDINATE, _MAX_COORDINATE)
    scale_x, scale_y = width / max(w, 1e-6), height / max(h, 1e-6)
    matrix = np.array([[scale_x, 0, width / 2 - scale_x * x], [0, scale_y, height / 2 - scale_y * y]])
    return cv2.warpAffine(np.ascontiguousarray(image, np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)


def decode_heatmaps(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read joints from heatmaps (N, J, h, w): points (N, J, 2) float32 as (column, row), and maxima (N, J).

    A joint whose maximum is not above 0 is at (0, 0), as in AlphaPose.
    """
    n, j, h, w = heatmaps.shape
    flat = heatmaps.reshape(n, j, h * w)
    best = flat.argmax(axis=2)
    scores = np.take_along_axis(flat, best[..., None], axis=2)[..., 0]
    row, column = np.divmod(best, w)
    points = np.stack([column, row], axis=-1).astype(np.float32)
    points[scores <= 0] = 0
    column, row = np.moveaxis(points.astype(np.int64), -1, 0)
    inner = (column > 1) & (column < w - 1) & (row > 1) & (row < h - 1)
    i, k = np.nonzero(inner)
    x, y = column[i, k], row[i, k]
    points[i, k, 0] += 0.25 * np.sign(heatmaps[i, k, y, x + 1] - heatmaps[i, k, y, x - 1])
    points[i, k, 1] += 0.25 * np.sign(heatmaps[i, k, y + 1, x] - heatmaps[i, k, y - 1, x])
    return points, scores.astype(np.float32)


def uncrop_top_down(points: np.ndarray, boxes_xyxy: np.ndarray, input_hw: tuple[int, int], map_hw: tuple[int, int],
                    padding: float = PADDING) -> np.ndarray:
    """Map heatmap points to the image: (N, J, 2) and boxes (N, 4) -> (N, J, 2) float64 in pixels.

    Args:
        points: (N, J, 2), in cells of the heatmap.
        boxes_xyxy: (N, 4), the boxes that were cropped, in pixels.
        input_hw: Height and width of the network's input.
        map_hw: Height and width of the heatmaps.
        padding: As for ``input_frame``.
    """
    frame = input_frame(boxes_xyxy, *input_hw, padding)[:, None]
    size = np.array(map_hw[::-1], np.float64)
    return frame[..., :2] + (np.asarray(points, np.float64) - size / 2) * frame[..., 2:] / size
