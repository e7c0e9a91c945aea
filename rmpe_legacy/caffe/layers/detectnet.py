"""DetectNet's layers: its augmentation's shapes, and its clustering and scores, which NVIDIA's Caffe has in Python.

Sources: src/caffe/layers/detectnet_transform_layer.cpp and python/caffe/layers/detectnet/{clustering,mean_ap}.py of
NVIDIA/caffe@87a2554, and groupRectangles of OpenCV 4 (modules/objdetect/src/cascadedetect.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.wording import call_of_net

from .base import JUDGES, Layer, Shape, shape_text
from .known_python import known_python
from .registry import register

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
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        try:
            size_x, size_y, stride, self.covered, least, self.eps, self.height, classes = self.numbers(
                self.spec.get("python_param").param_str)
            self.least, self.classes = int(least), int(classes)
            self.grid = int(size_y / int(stride)), int(size_x / int(stride))
            self.cell = size_y / self.grid[0], size_x / self.grid[1]
        except (ValueError, ZeroDivisionError, OverflowError):
            raise self.spec.error(f"its param_str needs numbers: {NUMBERS}") from None
        if self.top_count != self.classes:
            raise self.spec.error(f"needs a top for each of {self.classes} classes, but has {self.top_count}")

    @staticmethod
    def numbers(param_str: str) -> tuple[float, ...]:
        """size_x, size_y, stride, coverage threshold, group threshold, eps, least height and classes."""
        size_x, size_y, stride, covered, least, eps, height, classes = (*map(float, param_str.split(",")), 1)[:8]
        return size_x, size_y, stride, covered, least, eps, height, classes

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
                    raise self.spec.error(f"finds {len(found)} boxes of one class in one image; at most {MOST} are "
                                          "possible")
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


@known_python(("caffe.layers.detectnet.clustering", "ClusterGroundtruth"))
class ClusterGroundtruth(ClusterDetections):
    """Coverage (N, classes, h, w) and boxes (N, 4, h, w) of the truth -> for each class (N, 50, 5): the different boxes
    of the cells that are covered at all, rounded to half precision; the rest is 0.

    The param_str has size_x, size_y, stride and perhaps classes. Differs: the boxes are in the order of their cells;
    published is the order of a Python set.
    """

    not_exportable = "compares boxes one by one"

    @staticmethod
    def numbers(param_str: str) -> tuple[float, ...]:
        size_x, size_y, stride, classes = (*map(int, param_str.split(",")), 1)[:4]
        return size_x, size_y, stride, 0, 0, 0, 0, classes

    def _found(self, cover: np.ndarray, moves: np.ndarray) -> np.ndarray:
        h, w = self.grid
        y, x = np.nonzero(cover[:h, :w] > 0)
        corners = (moves[:, y, x] + np.stack([x * self.cell[1], y * self.cell[0]] * 2)).T
        different = list(dict.fromkeys(map(tuple, corners.tolist())))
        boxes = np.array(different, np.float16).reshape(-1, 4)
        return np.hstack([boxes, np.zeros((len(boxes), 1), np.float16)])


@known_python(("caffe.layers.detectnet.mean_ap", "ScoreDetections"))
class ScoreDetections(Layer):
    """True boxes and found ones (N, 50, 5) -> (N, 50, 5): found boxes that hit, marked 1, those that miss, 2, and true
    boxes that none hit, 3; the rest is 0.

    A true box is hit by the first found box that hits no earlier one and overlaps it by 0.7. Differs: more than 50 are
    an error that names the layer.
    """

    params = ("python_param",)
    bottoms = 2
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 3 or shape[2] < 4 for shape in bottom) or bottom[0][0] != bottom[1][0]:
            raise self.spec.error("needs lists of boxes (N, 50, 5); its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [(bottom[0][0], MOST, 5)]

    def forward(self, truth: Tensor, found: Tensor) -> Tensor:
        top = np.zeros((len(truth), MOST, 5))
        for image, pair in enumerate(zip(truth, found, strict=True)):
            true, boxes = (x.detach().cpu().numpy()[:, :4] for x in pair)
            rows = self._scored(*(x[x.any(1)] for x in (true, boxes)))
            if len(rows) > MOST:
                raise self.spec.error(f"has {len(rows)} boxes in one image; at most {MOST} are possible")
            top[image, : len(rows)] = rows
        return torch.from_numpy(top).to(found)

    @staticmethod
    def _scored(true: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        hit, hits = np.zeros(len(true), bool), np.zeros(len(boxes), bool)
        for i, box in enumerate(true):
            able = np.flatnonzero((_share(boxes, box) >= 0.7) & ~hits)
            if len(able):
                hit[i] = hits[able[0]] = True
        marked = [np.column_stack([x, np.full(len(x), mark)]) for x, mark in
                  ((boxes[hits], 1), (boxes[~hits], 2), (true[~hit], 3))]
        return np.concatenate(marked)


def _share(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (K, 4) with one; 0 where they do not meet."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    common = np.maximum(0, sides).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - common
    return np.divide(common, union, out=np.zeros_like(common), where=common != 0)


@known_python(("caffe.layers.detectnet.mean_ap", "mAP"))
class MeanAveragePrecision(Layer):
    """Marked boxes (N, 50, 5) -> precision times recall, precision and recall, in per cent, (1,) each."""

    params = ("python_param",)
    tops = 3
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 3 or bottom[0][2] != 5:
            raise self.spec.error(f"needs a list of boxes (N, 50, 5), not {shape_text(bottom[0])}")
        return [(1,)] * 3

    def forward(self, boxes: Tensor) -> tuple[Tensor, ...]:
        hits, misses, missed = (int((boxes[..., 4] == mark).sum()) for mark in (1, 2, 3))
        precision, recall = (hits / (hits + other) * 100 if hits else 0.0 for other in (misses, missed))
        return tuple(boxes.new_tensor([x]) for x in (precision * recall / 100, precision, recall))


@register("DetectNetTransformation", form="")
class DetectNetTransformation(Layer):
    """Images (N, 3, h, w) and their boxes -> images (N, 3, image_size_y, image_size_x) and a grid of targets
    (N, 8 + classes, image_size_y / stride, image_size_x / stride).

    It has shapes, and refuses to run: it draws at random how it cuts, turns and colours images, with OpenCV.
    """

    params = ("detectnet_groundtruth_param",)
    bottoms = tops = 2
    refuses = unforced = (0, 1)
    works_in_place = False
    not_exportable = "makes training data"

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("detectnet_groundtruth_param")
        if len(bottom[0]) != 4 or bottom[0][1] != 3 or bottom[0][:1] != bottom[1][:1]:
            raise self.spec.error("needs images (N, 3, h, w) and the same number of box lists; its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        h, w, stride = param.image_size_y, param.image_size_x, param.stride
        if not 0 < stride <= min(h, w):
            raise self.spec.error("needs a stride above 0, and an image_size_x and image_size_y of at least that")
        classes = max(1, len({mapping.dst for mapping in param.object_class}))
        return [(bottom[0][0], 3, h, w), (bottom[1][0], 8 + classes, h // stride, w // stride)]

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        raise self.spec.error("its augmentation is not supported; replace it with Input layers, and call "
                              f"{call_of_net(self.spec.top)}")


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
