"""YOLO v2's predictions and boxes, one image at a time. Sources: detection_output_layer.cpp and bbox_util.hpp of
gklz1982/caffe-yolov2@ebb2702 and BirdeeChen/caffe_yolo_v2@6a1e658, and region_layer.cpp of the latter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register
from .rpn import arrays
from .suppression import first_apart

ROW = 7  # image, label, confidence, middle x and y, width, height


@register("DetectionOutput", form="yolov2")
class YoloV2DetectionOutput(Layer):
    """YOLO v2: (1, num_box * (5 + classes), side, side) -> rows (1, 1, K, 7), in the order of their places.

    The best class of each box counts whose confidence is at least confidence_threshold; of two boxes of any classes
    that overlap by nms_threshold or more, the later one goes. Without any box, a row of 0 and -1.
    """

    params = ("detection_output_param",)
    bottoms = tops = 1
    works_in_place = False
    chooses_rows = True
    unforced = (0,)
    caffe_source = "detection_output_layer.cpp"
    classes_field = "num_classes"

    def setup(self, *bottom: Shape) -> None:
        param = self.param = self.spec.get("detection_output_param")
        self.classes = getattr(param, self.classes_field)
        if not param.has(self.classes_field) or self.classes < 1 or len(param.biases) < 2 * param.num_box:
            raise self.spec.error(f"needs {self.classes_field}, and two biases for each of num_box boxes")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        wanted = (1, self.param.num_box * (5 + self.classes), self.param.side, self.param.side)
        if bottom[0] != wanted:
            raise self.spec.error(f"needs a bottom of {shape_text(wanted)}: num_box * (5 + {self.classes_field}) "
                                  f"channels, of side x side; it is {shape_text(bottom[0])}")
        return [(1, 1, self.spec.rows, ROW)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray:
        """A map of which few places give boxes."""
        return rng.normal(-2, 2, bottom[0])

    def forward(self, x: Tensor) -> Tensor:
        side, boxes = self.param.side, self.param.num_box
        x = x.detach().view(boxes, 5 + self.classes, side, side).permute(2, 3, 0, 1)
        cell = torch.arange(side, dtype=x.dtype, device=x.device)
        bias = x.new_tensor(list(self.param.biases)[: 2 * boxes]).view(boxes, 2)
        middle_x = (cell.view(1, -1, 1) + torch.sigmoid(x[..., 0])) / side
        middle_y = (cell.view(-1, 1, 1) + torch.sigmoid(x[..., 1])) / side
        size = torch.exp(x[..., 2:4]) * bias / side
        sure, (score, label) = torch.sigmoid(x[..., 4]), x[..., 5:].softmax(-1).max(-1)
        head = [torch.zeros_like(sure), label.to(x.dtype), sure * score, middle_x, middle_y]
        rows = torch.cat([torch.stack(head, -1), size], -1)
        found = rows[..., 2] >= self.param.confidence_threshold
        rows, sure = rows[found], sure[found]
        rows = rows[self._kept(*arrays(rows[:, 3:], sure))]
        if not len(rows):
            rows = x.new_full((1, ROW), -1)
            rows[:, 0] = 0
        return rows.view(1, 1, -1, ROW)

    def _kept(self, boxes: np.ndarray, sure: np.ndarray) -> list[int]:
        """Which boxes (K, 4) stay. `sure` (K,) is the confidence in an object."""
        low, high = _corners(boxes)
        return first_apart(len(boxes), lambda i, others: _overlaps(low, high, i, others) >= self.param.nms_threshold)


@register("DetectionOutput", form="yolov2-region")
class RegionDetectionOutput(YoloV2DetectionOutput):
    """The same, with `classes`; of two boxes that overlap, the one goes in which the confidence in an object is less,
    of equal ones the first."""

    classes_field = "classes"

    def _kept(self, boxes: np.ndarray, sure: np.ndarray) -> list[int]:
        low, high = _corners(boxes)
        left = np.ones(len(boxes), dtype=bool)
        for i in range(len(boxes)):
            if left[i]:
                others = i + 1 + np.flatnonzero(left[i + 1 :])
                close = others[_overlaps(low, high, i, others) >= self.param.nms_threshold]
                better = np.flatnonzero(sure[close] >= sure[i])
                left[i] = not better.size
                left[close[: better[0]] if better.size else close] = False
        return np.flatnonzero(left & (sure > 0)).tolist()


def _corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of boxes (K, 4), middles and sizes, cut at the image's edges: (K, 2) each."""
    half = boxes[:, 2:] / 2
    return np.maximum(boxes[:, :2] - half, 0), np.minimum(boxes[:, :2] + half, 1)


def _overlaps(low: np.ndarray, high: np.ndarray, i: int, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with others, each given by its corners (K, 2)."""
    sides = np.minimum(high[i], high[others]) - np.maximum(low[i], low[others])
    common = np.where((sides > 0).all(1), sides.prod(1), 0)
    area = np.where((high >= low).all(1), (high - low).prod(1), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(common > 0, common / (area[i] + area[others] - common), 0)


@register("Region", form="")
class Region(Layer):
    """YOLO v2's predictions, place by place: (N, boxes_of_each_grid * (5 + classes), H, W) -> a blob of that shape that
    holds, for each place and box, four coordinates, the confidence in an object through a sigmoid, and the classes.

    With `softmax`, the classes are probabilities. Differs: the published code never reads `softmax`, so that memory
    decides. No gradient.
    """

    params = ("region_param",)
    bottoms = tops = 1
    works_in_place = False
    unforced = (0,)
    caffe_source = "region_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("region_param")
        if self.param.coords != 4:
            raise self.spec.error(f"coords must be 4, not {self.param.coords}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.param.boxes_of_each_grid * (5 + self.param.classes)
        if len(bottom[0]) != 4 or bottom[0][1] != channels:
            raise self.spec.error(f"needs a bottom (N, boxes_of_each_grid * (5 + classes) = {channels}, H, W), not "
                                  f"{shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        each = x.detach().flatten(2).transpose(1, 2).reshape(-1, 5 + self.param.classes)
        classes = each[:, 5:].softmax(1) if self.param.softmax else each[:, 5:]
        return torch.cat([each[:, :4], torch.sigmoid(each[:, 4:5]), classes], 1).view(x.shape)
