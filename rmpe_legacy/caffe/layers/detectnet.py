"""DetectNet's clustering of boxes, which NVIDIA's Caffe has in Python.

Sources: python/caffe/layers/detectnet/clustering.py of NVIDIA/caffe@87a2554, and groupRectangles of OpenCV 4
(modules/objdetect/src/cascadedetect.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .known_python import known_python

MOST = 50  # boxes of one class in one image
NUMBERS = "size_x, size_y, stride, coverage threshold, group threshold, eps, least height and perhaps classes"


@known_python(("caffe.layers.detectnet.clustering", "ClusterDetections"))
class ClusterDetections(Layer):
    """Coverage (N, classes, h, w) and boxes (N, 4, h, w) seen from their cells -> for each class (N, 50, 5): left, top,
    right, bottom, and the logarithm of the number of cells that agree, rounded to half precision; the rest is 0.

    The param_str has numbers alone: size_x, size_y, stride, coverage threshold, group threshold, eps, least height and
    classes. Differs: more than 50 boxes are an error that names the layer.
    """

    params = ("python_param",)
    bottoms = 2
    tops = (1, None)
    works_in_place = False
    not_exportable = "groups boxes one by one"

    def setup(self, *bottom: Shape) -> None:
        try:
            *numbers, = map(float, self.spec.get("python_param").param_str.split(","))
            size_x, size_y, stride, self.covered, least, self.eps, self.height, classes = (*numbers, 1)[:8]
            self.least, self.classes = int(least), int(classes)
            self.grid = int(size_y / int(stride)), int(size_x / int(stride))
            self.cell = size_y / self.grid[0], size_x / self.grid[1]
        except (ValueError, ZeroDivisionError, OverflowError):
            raise self.spec.error(f"its param_str needs numbers: {NUMBERS}") from None
        if self.top_count != self.classes:
            raise self.spec.error(f"needs a top for each of {self.classes} classes, but has {self.top_count}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        cover, boxes = bottom
        if len(cover) != 4 or cover[1] != self.classes or boxes != (cover[0], 4, *cover[2:]):
            raise self.spec.error(f"needs coverage (N, {self.classes}, h, w) and boxes (N, 4, h, w), not "
                                  + " and ".join(map(shape_text, bottom)))
        return [(cover[0], MOST, 5)] * self.classes

    def forward(self, cover: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        each, moves = cover.detach().cpu().double().numpy(), boxes.detach().cpu().double().numpy()
        tops = np.zeros((self.classes, len(each), MOST, 5), np.float32)
        for image in range(len(each)):
            for c in range(self.classes):
                found = self._found(each[image, c], moves[image])
                if len(found) > MOST:
                    raise self.spec.error(f"finds {len(found)} boxes of one class in one image; {MOST} are the most")
                tops[c, image, : len(found)] = found
        return tuple(torch.from_numpy(top).to(cover) for top in tops)

    def _found(self, cover: np.ndarray, moves: np.ndarray) -> np.ndarray:
        h, w = self.grid
        y, x = np.nonzero(cover[:h, :w] >= np.float32(self.covered))
        corners = moves[:, y, x] + np.stack([x * self.cell[1], y * self.cell[0]] * 2)
        if not corners.any():
            return np.zeros((0, 5), np.float16)
        rects = np.concatenate([corners[:2], corners[2:] - corners[:2]]).T
        groups, counts = group_rectangles(np.trunc(rects.clip(-1e9, 1e9)), self.least, self.eps)
        tall = groups[:, 3] >= self.height
        groups, counts = groups[tall], counts[tall]
        return np.column_stack([groups[:, :2], groups[:, :2] + groups[:, 2:], np.log(counts)]).astype(np.float16)


def group_rectangles(rects: np.ndarray, least: int, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Average rectangles (K, 4) of left, top, width and height that lie close together, as OpenCV does.

    Returns:
        The averages of groups of more than `least`, (G, 4) whole numbers, and how many rectangles each has, (G,).
        A group inside a larger one is left out. With least 0 the rectangles themselves.
    """
    if least <= 0 or not len(rects):
        return rects, np.ones(len(rects))
    labels = _alike(rects, eps)
    counts = np.bincount(labels)
    sums = np.stack([np.bincount(labels, rects[:, i]) for i in range(4)], 1)
    means = np.rint(sums.astype(np.float32) * (np.float32(1) / counts.astype(np.float32))[:, None]).astype(np.float64)
    kept = np.flatnonzero(counts > least)
    means, counts = means[kept], counts[kept]
    margin = np.rint(means[:, 2:] * eps)
    low, high = means[:, :2] - margin, means[:, :2] + means[:, 2:] + margin
    alone = []
    for i, (mean, n) in enumerate(zip(means, counts, strict=True)):
        inside = ((mean[:2] >= low) & (mean[:2] + mean[2:] <= high)).all(1) & ((counts > max(3, n)) | (n < 3))
        inside[i] = False
        alone.append(not inside.any())
    return means[alone], counts[alone]


def _alike(rects: np.ndarray, eps: float) -> np.ndarray:
    """Number the groups of rectangles that are close to each other, directly or through others, (K,)."""
    labels = np.full(len(rects), -1)
    corners = np.concatenate([rects[:, :2], rects[:, :2] + rects[:, 2:]], 1)
    for first in range(len(rects)):
        if labels[first] >= 0:
            continue
        labels[first], waiting = (group := labels.max() + 1), [first]
        while waiting:
            i = waiting.pop()
            free = np.flatnonzero(labels < 0)
            reach = eps * np.minimum(rects[i, 2:], rects[free, 2:]).sum(1) * 0.5
            close = free[(np.abs(corners[free] - corners[i]) <= reach[:, None]).all(1)]
            labels[close] = group
            waiting.extend(close)
    return labels
