"""Boxes from YOLO's maps. Sources: yolo_detection_output_layer.cpp and yolov3_detection_output_layer.cpp of
eric612/MobileNet-YOLO@69b4441."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register

ROW = 7  # image, label, confidence, left, top, right, bottom
MOST_OBJECTS = 200  # about; in each of the typical values


class _Found(NamedTuple):
    """Boxes (B, 4), centre and size, and K candidates: a score, a label and the number of its box each."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    which: Tensor


class _YoloOutput(Layer):
    """What both have in common: maps in, rows (1, 1, N, 7) out, of all images together."""

    works_in_place = False
    chooses_rows = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        for shape in bottom:
            if len(shape) != 4 or shape[1] != self.boxes * (5 + self.classes):
                raise self.spec.error(f"needs bottoms (N, num_box * (5 + num_classes) = "
                                      f"{self.boxes * (5 + self.classes)}, H, W), not {shape_text(shape)}")
        return [(1, 1, self.spec.rows, ROW)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray:
        """Maps of which at most some hundred boxes have an object."""
        maps = rng.normal(-2, 2, bottom[index])
        n, _, h, w = bottom[index]
        whole = maps.reshape(n, self.boxes, 5 + self.classes, h, w)[:, :, 4]
        whole[rng.random(whole.shape) * whole.size > MOST_OBJECTS] = -20
        return maps

    def kept(self, found: Sequence[_Found], images: int) -> Tensor:
        """The rows of the candidates that no better one covers, best first.

        Without any, a row for each image: its number, then -1. Of equal scores the first goes first. Differs: the
        published sort leaves their order open.
        """
        first = [0, *accumulate(len(each.boxes) for each in found)]
        boxes, scores, labels = (torch.cat([getattr(each, name) for each in found]) for name in
                                 ("boxes", "scores", "labels"))
        which = torch.cat([each.which + start for each, start in zip(found, first, strict=False)])
        best = self._uncovered(boxes.cpu(), which.cpu(), scores.argsort(descending=True, stable=True).cpu())
        if not best:
            rows = boxes.new_full((images, ROW), -1)
            rows[:, 0] = torch.arange(images, device=boxes.device)
            return rows.view(1, 1, images, ROW)
        boxes = boxes[which[best]]
        half = boxes[:, 2:] / 2
        corners = [boxes[:, :2] - half, boxes[:, :2] + half]
        head = torch.stack([torch.zeros_like(scores[best]), labels[best].to(boxes.dtype) + 1, scores[best]], 1)
        return torch.cat([head, *corners], 1).view(1, 1, -1, ROW)

    def _uncovered(self, boxes: Tensor, which: Tensor, order: Tensor) -> list[int]:
        """The candidates that are left. Boxes are compared, not candidates: before a network is trained, each of some
        thousand boxes may be one for each of its labels."""
        is_free = torch.ones(len(boxes), dtype=torch.bool).numpy()
        compared: set[int] = set()
        left = []
        for candidate, box in zip(order.tolist(), which[order].tolist(), strict=True):
            if is_free[box]:
                left.append(candidate)
                if box not in compared:
                    compared.add(box)
                    is_free &= ~(_overlaps(boxes[box], boxes) >= self.nms).numpy()
        return left


def _overlaps(box: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of a box with others, each centre and size."""
    low = torch.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = torch.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    sides = high - low
    common = torch.where((sides < 0).any(1), 0, sides.prod(1))
    return common / (box[2:].prod() + others[:, 2:].prod(1) - common)


@register("YoloDetectionOutput", form="")
class YoloDetectionOutput(_YoloOutput):
    """YOLO v2: the best class of each box whose confidence is at least confidence_threshold.

    Boxes come as (x + sigmoid) / side and exp * bias / side, scores as softmax * sigmoid. As published, maps are
    square, all images are taken as one, image number 0, and a second bottom has the same biases.
    """

    params = ("yolo_detection_output_param",)
    bottoms = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("yolo_detection_output_param")
        self.classes, self.boxes = param.num_classes, param.num_box
        self.threshold, self.nms = param.confidence_threshold, param.nms_threshold
        self.biases = list(param.biases)
        if not param.has("num_classes") or len(self.biases) < 2 * self.boxes:
            raise self.spec.error("needs num_classes, and two biases for each of num_box boxes")

    def anchors(self, bottom: int) -> list[list[float]]:
        """Width and height of each box; as published, the same for both bottoms."""
        return [self.biases[2 * i : 2 * i + 2] for i in range(self.boxes)]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return self.kept([self._boxes(x.detach()) for x in bottoms], len(bottoms[0]))

    def _boxes(self, x: Tensor) -> _Found:
        n, _, h, side = x.shape
        if h != side:
            raise self.spec.error(f"needs square maps, not {h} x {side}")
        x = x.view(n, self.boxes, 5 + self.classes, h, side).permute(0, 3, 4, 1, 2)
        cell = torch.arange(side, dtype=x.dtype, device=x.device)
        bias = x.new_tensor(self.anchors(0))
        across = (cell.view(1, 1, -1, 1) + torch.sigmoid(x[..., 0])) / side
        down = (cell.view(1, -1, 1, 1) + torch.sigmoid(x[..., 1])) / side
        size = torch.exp(x[..., 2:4]) * bias / side
        score, label = x[..., 5:].softmax(-1).max(-1)
        score = torch.sigmoid(x[..., 4]) * score
        keep = score >= self.threshold
        boxes = torch.cat([torch.stack([across, down], -1), size], -1)[keep]
        return _Found(boxes, score[keep], label[keep], torch.arange(len(boxes), device=x.device))


@register("Yolov3DetectionOutput", form="")
class Yolov3DetectionOutput(_YoloOutput):
    """YOLO v3: every class of a box whose sigmoid, times that of the box, is above confidence_threshold.

    Bottom t takes the anchors that its part of `mask` names, divided by the map's size times anchors_scale[t]. As
    published, all images are taken as one, image number 0.
    """

    params = ("yolov3_detection_output_param",)
    bottoms = (1, None)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("yolov3_detection_output_param")
        self.classes, self.boxes = param.num_classes, param.num_box
        self.threshold, self.nms = param.confidence_threshold, param.nms_threshold
        self.biases, self.mask, self.scales = list(param.biases), list(param.mask), list(param.anchors_scale)
        groups = param.mask_group_num
        if param.gaussian_box:
            raise self.spec.error("gaussian_box is not supported: the published CPU code writes outside its memory")
        if not param.has("num_classes") or groups != len(bottom) or len(self.scales) < groups:
            raise self.spec.error(f"needs num_classes, and mask_group_num and an anchors_scale for each of its "
                                  f"{len(bottom)} bottoms")
        self.each = len(self.mask) // groups
        if self.each < self.boxes or any(2 * m + 1 >= len(self.biases) for m in self.mask):
            raise self.spec.error("its mask lists fewer than num_box anchors per bottom, or anchors without biases")

    def anchors(self, bottom: int) -> list[list[float]]:
        """Width and height of each box of a bottom, from those that its part of `mask` names."""
        return [self.biases[2 * m : 2 * m + 2] for m in self.mask[bottom * self.each :][: self.boxes]]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return self.kept([self._boxes(x.detach(), t) for t, x in enumerate(bottoms)], len(bottoms[0]))

    def _boxes(self, x: Tensor, t: int) -> _Found:
        n, _, h, w = x.shape
        x = x.view(n, self.boxes, 5 + self.classes, h, w).permute(0, 3, 4, 1, 2)
        bias = x.new_tensor(self.anchors(t))
        across = (torch.arange(w, dtype=x.dtype, device=x.device).view(1, 1, -1, 1) + torch.sigmoid(x[..., 0])) / w
        down = (torch.arange(h, dtype=x.dtype, device=x.device).view(1, -1, 1, 1) + torch.sigmoid(x[..., 1])) / h
        size = torch.exp(x[..., 2:4]) * bias / x.new_tensor([w * self.scales[t], h * self.scales[t]])
        score = torch.sigmoid(x[..., 5:]) * torch.sigmoid(x[..., 4:5])
        keep = score > self.threshold
        boxes = torch.cat([torch.stack([across, down], -1), size], -1)
        labels = torch.arange(self.classes, device=x.device).expand_as(score)
        some = keep.any(-1)
        which = (some.flatten().cumsum(0) - 1).view(*some.shape, 1).expand_as(score)
        return _Found(boxes[some], score[keep], labels[keep], which[keep])
