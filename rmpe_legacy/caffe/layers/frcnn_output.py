"""Detections from the last stage. Source: frcnn_output_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .cascade_boxes import best_first, from_priors, kept, moments
from .registry import register
from .roi import random_regions


@register("FrcnnOutput", form="")
class FrcnnOutput(Layer):
    """Probabilities (R, K), moves (R, 4K), or (R, 8) without cls_aware, regions (R, 5 or 6) and the image's size
    (1, 2) -> rows (D + 1, 7, 1, 1) of image, x1, y1, x2, y2, label, score, the first of them 0 and then -1.

    Each class is suppressed separately at iou_thr; max_det_num keeps the best of all. It takes one image at a time,
    and writes no files here: save_output_param has no effect.
    """

    params = ("frcnn_output_param", "bbox_reg_param")
    bottoms = 4
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("frcnn_output_param")
        self.aware = self.spec.get("bbox_reg_param").cls_aware
        self.mean, self.std = moments(self)
        if self.param.has("save_output_param") and self.param.save_output_param.output_directory:
            self.set_aside("save_output_param writes files, which is not supported; remove it")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        probability, moves, regions, size = (count(shape[1:]) for shape in bottom)
        if moves != (4 * probability if self.aware else 8) or regions not in (5, 6) or size != 2 or len(
                {shape[0] for shape in bottom[:3]}) != 1:
            raise self.spec.error("needs probabilities (R, K), box deltas, regions (R, 5) and a size (1, 2); its "
                                  "bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(self.spec.rows, 7, 1, 1)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        if index == 2:
            return random_regions(bottom[2], 1, 480, 640, rng) if count(bottom[2][1:]) == 5 else None
        return np.array([480, 640]).reshape(bottom[3]) if index == 3 else None

    def forward(self, probability: Tensor, moves: Tensor, regions: Tensor, size: Tensor) -> Tensor:
        scores = probability.detach().reshape(len(probability), -1)
        flat = regions.detach().reshape(len(regions), -1)
        if len(flat) and flat[:, 0].any():
            raise self.spec.error("takes one image at a time, but its regions belong to several")
        height, width = size.detach().flatten()[:2]
        boxes = from_priors(moves.detach().reshape(len(moves), -1, 4), flat[:, 1:5], self.mean, self.std)
        ends = torch.minimum(boxes[..., 2:], torch.stack([width, height]))
        boxes = torch.cat([boxes[..., :2].clamp(min=0), ends], -1)
        rows = [self._of_class(c, boxes[:, c if self.aware else 1].cpu().numpy(), scores[:, c].cpu().numpy())
                for c in range(1, scores.shape[1])]
        every = np.concatenate(rows) if rows else np.zeros((0, 7), np.float32)
        if self.param.max_det_num and len(every) > self.param.max_det_num:
            best = best_first(every[:, 6])[: self.param.max_det_num]
            every = every[best[np.argsort(every[best, 5], kind="stable")]]
        first = np.array([[0, *[-1] * 6]], every.dtype)
        return torch.from_numpy(np.concatenate([first, every])).to(probability).view(-1, 7, 1, 1)

    def _of_class(self, label: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        good = np.flatnonzero(scores >= self.param.conf_thr)
        order = good[best_first(scores[good])]
        chosen = order[kept(boxes[order], self.param.iou_thr, self.param.nms_type)]
        return np.hstack([np.zeros((len(chosen), 1), boxes.dtype), boxes[chosen],
                          np.full((len(chosen), 1), label, boxes.dtype), scores[chosen, None]])
