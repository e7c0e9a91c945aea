"""Boxes, crops and un-cropping: between an image, the square input of the pose network, and its heatmaps.

Two programs were published and they round differently, so every function takes ``published``:

- "demo": demo.py and util/cropBox.py of RMPE@5188c23, with Python 2's integer division.
- "torch7": predict/{main,img,util}.lua of multi-human-pose@094e29b; where pixels are counted from 1.

Boxes are xmin, ymin, xmax, ymax, the last two exclusive; image sizes are (width, height); image arrays are (H, W, C).
Points and boxes may have any number of leading axes, which broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rmpe_legacy.errors import OptionError, RmpeError

# How much a box grows in width and height. 1.3 - 1 is slightly more than 0.3, which changes 22 edges of the authors'
# 10,421 boxes.
GROWTH = {
    "demo": (1.3 - 1, 1.2 - 1),  # demo.py:85-86,107-110
    "testres": (0.3, 0.2),  # used for the authors' stored test results, testres.h5
    "torch7": (0.3, 0.3),  # main.lua:55-59
    "paper": (0.3, 0.3),  # "extended by 30% along both the height and width directions"
}


def pixel_boxes(boxes_norm: ArrayLike, image_wh: ArrayLike, published: str = "demo") -> np.ndarray:
    """Convert the detector's relative boxes (0 to 1) to whole pixels: (..., 4) -> (..., 4) int64.

    Halves are rounded away from zero, as in Python 2. "demo": demo.py:93-96. "notebook": the notebook for the test set,
    which also replaces a left or upper edge of 0 or less by 1.
    """
    _choice(published, ("demo", "notebook"))
    value = np.asarray(boxes_norm, np.float64) * np.tile(np.asarray(image_wh), 2)
    size = np.floor(np.abs(value))
    boxes = (np.sign(value) * (size + (np.abs(value) - size >= 0.5))).astype(np.int64)
    if published == "notebook":
        boxes[..., :2] = np.where(boxes[..., :2] <= 0, 1, boxes[..., :2])
    return boxes


def grow_boxes(boxes_xyxy: ArrayLike, image_wh: ArrayLike, published: str = "demo") -> np.ndarray:
    """Grow boxes so that they contain the whole person, clipped to the image: (..., 4) -> (..., 4) int64.

    "alphapose" only clips, and keeps fractions: its crop adds the margin (see ``top_down``).
    """
    if published == "alphapose":
        return np.clip(boxes_xyxy, 0, np.tile(np.asarray(image_wh), 2))
    rate_w, rate_h = GROWTH[_choice(published, tuple(GROWTH))]
    boxes = np.asarray(boxes_xyxy)
    xmin, ymin, xmax, ymax = np.moveaxis(boxes, -1, 0)
    width, height = np.moveaxis(np.asarray(image_wh), -1, 0)
    wider, higher = (xmax - xmin) * rate_w / 2, (ymax - ymin) * rate_h / 2
    grown = (np.maximum(0, xmin - wider), np.maximum(0, ymin - higher),
             np.minimum(width, xmax + wider), np.minimum(height, ymax + higher))
    return np.stack(grown, axis=-1).astype(np.int64)  # truncates towards zero, as int() does


def can_crop(boxes_xyxy: ArrayLike, image_wh: tuple[int, int], published: str = "demo") -> np.ndarray:
    """Return which boxes (N, 4) contain at least one row or column of pixels that ``crop_box`` can crop: (N,) bool.

    A detector may find people outside the image or smaller than a pixel; both published programs stop at these.
    """
    _choice(published, ("demo", "torch7", "alphapose"))
    if published == "alphapose":
        sides = np.diff(np.asarray(boxes_xyxy).reshape(-1, 2, 2), axis=1)[:, 0]
        return np.asarray((sides >= 0).all(axis=1) & (sides > 0).any(axis=1))
    boxes = np.asarray(boxes_xyxy).astype(np.int64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    if published == "demo":
        is_inside = np.all((low >= 0) & (low <= high) & (high <= image_wh), axis=1)
        return np.logical_and(is_inside, np.any(high > low, axis=1))
    longer = (high - low).max(axis=1, initial=0).tolist()
    return np.array([all(_paste_torch7(box[k], box[k + 2], image_wh[k], length) for k in (0, 1))
                     for box, length in zip(boxes.tolist(), longer, strict=True)], bool)


def crop_box(image: np.ndarray, box_xyxy: ArrayLike, published: str = "demo") -> np.ndarray:
    """Crop a box and centre it in a black square: (H, W, C) -> (L, L, C), where L is the longer side of the box.

    "demo" returns float32; a box of zero width or height gives an empty square. "torch7" counts from 1, so the same
    numbers mean a box one pixel further left and up (img.lua:cropBox, without rotation, before image.scale; see
    ``scale_torch7``).

    Raises:
        RmpeError: The box is not inside the image.
    """
    _choice(published, ("demo", "torch7"))
    box = tuple(int(v) for v in np.asarray(box_xyxy).tolist())
    return (_crop_demo if published == "demo" else _crop_torch7)(np.asarray(image), *box)


def _crop_demo(image: np.ndarray, xmin: int, ymin: int, xmax: int, ymax: int) -> np.ndarray:
    part = image[ymin:ymax, xmin:xmax]
    width, height = xmax - xmin, ymax - ymin
    if part.shape[:2] != (height, width):  # in the published program, numpy.pad fails here
        raise _outside(image, (xmin, ymin, xmax, ymax))
    length = max(width, height)
    top, left = (length - height) // 2, (length - width) // 2  # an odd pixel goes to the right and the bottom
    square = np.zeros((length, length, *image.shape[2:]), np.float32)
    square[top : top + height, left : left + width] = part
    return square


def _crop_torch7(image: np.ndarray, xmin: int, ymin: int, xmax: int, ymax: int) -> np.ndarray:
    length = max(xmax - xmin, ymax - ymin)
    square = np.zeros((max(length, 0), max(length, 0), *image.shape[2:]), image.dtype)
    rows = _paste_torch7(ymin, ymax, image.shape[0], length)
    columns = _paste_torch7(xmin, xmax, image.shape[1], length)
    if rows is None or columns is None:
        raise _outside(image, (xmin, ymin, xmax, ymax))
    square[rows[1], columns[1]] = image[rows[0], columns[0]]
    return square


def _paste_torch7(low: int, high: int, size: int, length: int) -> tuple[slice, slice] | None:
    """Along one axis, return the slice of the image and the slice of the square it goes to; None if it is empty.

    The pasted pixels are centred counting from 1, with both ends included, hence the shift of half a pixel.
    """
    first, last = max(1, 2 - low), min(high, size + 1) - low  # in the square, from 1, before the shift
    shift = (max(0, length - first - last)) // 2
    old_first, old_last = max(1, low), min(high, size + 1) - 1
    if old_first > old_last or not 0 < first <= last <= length:
        return None
    return slice(old_first - 1, old_last), slice(first + shift - 1, last + shift)


def scale_torch7(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize as Torch7's image.scale does: (H, W, C) -> (height, width, C), columns first, in the image's precision.

    Enlarging aligns the corner pixels and interpolates linearly; shrinking averages over boxes, weighting the pixels at
    their ends by the fraction covered. Source: scaleLinear_rowcol in generic/image.c of torch/image.
    """
    dtype = image.dtype if image.dtype.kind == "f" else np.float64
    across = np.einsum("xw,hwc->hxc", _weights_torch7(image.shape[1], width).astype(dtype), image, optimize=True)
    return np.einsum("yh,hxc->yxc", _weights_torch7(image.shape[0], height).astype(dtype), across, optimize=True)


def _weights_torch7(old: int, new: int) -> np.ndarray:
    """Return the weight of each old pixel in each new one: (new, old) float32."""
    at, index = np.arange(new, dtype=np.float32), np.arange(old)
    if new > old:
        where = at * (np.float32(old - 1) / np.float32(max(new - 1, 1)))
        where[-1] = old - 1
        return np.maximum(0, 1 - np.abs(where[:, None] - index)).astype(np.float32)
    scale = np.float32(old) / np.float32(new)
    edge = at * scale
    ends = (at + 1) * scale
    ends[-1] = old
    covered = np.minimum(ends[:, None], index + 1) - np.maximum(edge[:, None], index)
    covered = np.maximum(0, covered).astype(np.float32)
    return covered / covered.sum(axis=1, keepdims=True)


def read_heatmaps(heatmaps: np.ndarray, published: str = "demo") -> tuple[np.ndarray, np.ndarray]:
    """Return the position and height of each heatmap's maximum: (..., H, W) -> points (..., 2) float32, scores (...,).

    "demo": x is the column and y the row, from 0; ties go to the leftmost, then the uppermost (what the layer
    PredictionHeatmap does for square maps, prediction_heatmap_layer.cpp of RMPE@5188c23).
    "torch7": values below 0 count as 0; columns from 1, rows from 0.5; ties go to the uppermost, then the leftmost
    (main.lua:74, util.lua:getPreds).

    Raises:
        RmpeError: The heatmaps are not square.
    """
    _choice(published, ("demo", "torch7"))
    if heatmaps.shape[-1] != heatmaps.shape[-2]:
        raise RmpeError(f"heatmaps are {heatmaps.shape[-2]}x{heatmaps.shape[-1]}; both published programs only decode "
                        "square ones")
    size = heatmaps.shape[-1]
    if published == "demo":
        flat = heatmaps.swapaxes(-1, -2).reshape(*heatmaps.shape[:-2], size * size)
        first, second = np.divmod(flat.argmax(axis=-1), size)
        points = np.stack([first, second], axis=-1).astype(np.float32)
    else:
        flat = np.maximum(heatmaps, 0).reshape(*heatmaps.shape[:-2], size * size)
        row, column = np.divmod(flat.argmax(axis=-1), size)
        points = np.stack([column + 1, row + 0.5], axis=-1).astype(np.float32)
    return points, flat.max(axis=-1)


def uncrop(points: ArrayLike, boxes_xyxy: ArrayLike, resolution: ArrayLike = 64, published: str = "demo") -> np.ndarray:
    """Map heatmap points to the image: points (..., 2), boxes (..., 4) -> (..., 2) int64, truncated towards zero.

    float32 points are computed in single precision and float64 points in double, as in numpy and Lua; integers count as
    float32.

    Args:
        points: As ``read_heatmaps`` returns them for the same ``published``.
        boxes_xyxy: The boxes that were cropped, in pixels.
        resolution: Side of the heatmap.
        published: One of

            - "demo": transformBoxInvert of util/cropBox.py as demo.py calls it;
            - "demo-int": the same function called with integers, where Python 2 drops the fraction of
              x * length / resolution;
            - "torch7": transformBoxInvert of predict/img.lua;
            - "torch7-train": that of train/src/util/img.lua, which does not round the margin and counts from 1.
    """
    _choice(published, ("demo", "demo-int", "torch7", "torch7-train"))
    points, boxes = np.asarray(points), np.asarray(boxes_xyxy).astype(np.int64)
    low, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    length = size.max(axis=-1, keepdims=True)
    if published.startswith("demo"):
        margin = np.maximum(0, length // 2 - size // 2)
    else:
        margin = np.maximum(0, length / 2 - size / 2)
    if published == "torch7":
        margin = np.floor(margin)
    resolution = np.asarray(resolution)[..., None] if np.ndim(resolution) else resolution
    if published == "demo-int":
        return points.astype(np.int64) * length // resolution - margin + low
    kind = np.float64 if points.dtype == np.float64 else np.float32
    inside = points.astype(kind) * length.astype(kind) / np.asarray(resolution, kind) - margin.astype(kind)
    if published == "demo":
        return (inside + low.astype(kind)).astype(np.int64)
    return (inside.astype(np.float64) + low).astype(np.int64) + (published == "torch7-train")


def to_heatmap(points: ArrayLike, boxes_xyxy: ArrayLike, resolution: int = 64) -> np.ndarray:
    """Map image points to the heatmap, for training labels: points (..., 2), boxes (..., 4) -> (..., 2) int64.

    Source: transformBox of train/src/util/img.lua (multi-human-pose@094e29b), the only published version.
    """
    boxes = np.asarray(boxes_xyxy)
    size = boxes[..., 2:] - boxes[..., :2]
    length = size.max(axis=-1, keepdims=True)
    margin = np.maximum(0, length / 2 - size / 2)
    return ((np.asarray(points, np.float64) - boxes[..., :2] + margin) * resolution / length).astype(np.int64)


def person_transform(center: Sequence[float] | np.ndarray, scale: float, rotation: float,
                     resolution: int) -> np.ndarray:
    """Return the matrix from the image to a square around a person: (3, 3) float64.

    Source: getTransform of predict/img.lua and train/src/util/img.lua, which agree.

    Args:
        center: (x, y) of the person in pixels, as annotated in MPII.
        scale: Height of the person in units of 200 pixels, as annotated in MPII.
        rotation: In degrees.
        resolution: Side of the square.
    """
    height = 200 * scale
    x, y = center
    matrix = np.array([[resolution / height, 0, resolution * (-x / height + 0.5)],
                       [0, resolution / height, resolution * (-y / height + 0.5)],
                       [0, 0, 1]], np.float64)
    if rotation == 0:
        return matrix
    sin, cos = np.sin(-rotation * np.pi / 180), np.cos(-rotation * np.pi / 180)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    away, back = np.eye(3), np.eye(3)
    away[:2, 2], back[:2, 2] = -resolution / 2, resolution / 2
    return back @ turn @ away @ matrix


def transform(points: ArrayLike, center: Sequence[float] | np.ndarray, scale: float, rotation: float, resolution: int,
              invert: bool = False, published: str = "torch7") -> np.ndarray:
    """Apply ``person_transform`` or its inverse to points: (..., 2) -> (..., 2) int64, truncated towards zero.

    "torch7": predict/img.lua. "torch7-train": train/src/util/img.lua, where points are counted from 1 on both sides.
    """
    base = int(_choice(published, ("torch7", "torch7-train")) == "torch7-train")
    matrix = person_transform(center, scale, rotation, resolution)
    if invert:
        matrix = np.linalg.inv(matrix)
    moved = (np.asarray(points, np.float64) - base) @ matrix[:2, :2].T + matrix[:2, 2]
    return moved.astype(np.int64) + base


def _choice(published: str, choices: tuple[str, ...]) -> str:
    if published not in choices:
        raise OptionError(f"published {published!r} is not one of {', '.join(map(repr, choices))}")
    return published


def _outside(image: np.ndarray, box: tuple[int, ...]) -> RmpeError:
    height, width = image.shape[:2]
    return RmpeError(f"box {box} (xmin, ymin, xmax, ymax) is not inside the image of {width}x{height}; clip it to the "
                     "image first, as grow_boxes does")
