"""Regions from the maps of several strides. Source: box_group_output_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, ranked, shape_text
from .cascade_boxes import best_first, bounds, from_fields, kept, moments, region_tops
from .registry import register


@register("BoxGroupOutput", form="")
class BoxGroupOutput(Layer):
    """Pairs of probabilities (N * G, K, H, W) and moves (N * G, 4, H, W), G fields each -> regions (R, 5, 1, 1), and as
    a second top the same with scores (R, 6, 1, 1).

    The score is 1 less the first probability. Boxes are cut at the map's size times its stride; small ones and low
    scores go; the best max_nms_num are suppressed at iou_thr, and max_post_nms_num of an image kept. None: the
    region (0, 1, 1, 10, 10), scores all 0.
    """

    params = ("box_group_output_param",)
    bottoms, tops = (2, None), (1, 2)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("box_group_output_param")
        self.groups = list(self.param.box_group_param)
        if len(bottom) != 2 * len(self.groups) or any(
                not g.field_w or len(g.field_w) != len(g.field_h) for g in self.groups):
            raise self.spec.error("needs two bottoms for each box_group_param, which needs as many field_w as field_h")
        self.mean, self.std = moments(self)
        self.limits = bounds(self, self.param)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        images = {shape[0] / len(self.groups[i // 2].field_w) for i, shape in enumerate(bottom) if shape}
        if any(len(b) != 4 for b in bottom) or any(m[1] != 4 for m in bottom[1::2]) or len(images) != 1 or any(
                (p[0], *p[2:]) != (m[0], *m[2:]) for p, m in zip(bottom[::2], bottom[1::2], strict=True)):
            raise self.spec.error("needs probabilities (N, K, H, W) and box deltas (N, 4, H, W) in pairs; its bottoms "
                                  "are "
                                  + ", ".join(map(shape_text, bottom)))
        rows = self.spec.rows
        return [(rows, 5, 1, 1), (rows, 6, 1, 1)][: self.top_count]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray:
        """Probabilities without equal ones, and moves."""
        return rng.normal(0, 0.3, bottom[index]) if index % 2 else ranked(bottom[index], rng)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        images = len(bottoms[0]) // len(self.groups[0].field_w)
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(images)]
        for probability, moves, group in zip(bottoms[::2], bottoms[1::2], self.groups, strict=True):
            for image, pair in enumerate(self._boxes(probability.detach(), moves.detach(), group, images)):
                found[image].append(pair)
        rows = [self._best(image, *map(np.concatenate, zip(*pairs, strict=True))) for image, pairs in enumerate(found)]
        return region_tops(np.concatenate(rows), bottoms[0], self.top_count)

    def _boxes(self, probability: Tensor, moves: Tensor, group, images: int) -> list[tuple[np.ndarray, np.ndarray]]:
        fields = moves.new_tensor(list(zip(group.field_w, group.field_h, strict=True))).repeat(images, 1)
        left, top, width, height = from_fields(moves, fields, group.stride, self.mean, self.std, self.limits)
        h, w = moves.shape[2:]
        boxes = torch.stack([left.clamp(min=0), top.clamp(min=0), (left + width - 1).clamp(max=w * group.stride),
                             (top + height - 1).clamp(max=h * group.stride)], -1).view(images, -1, 4)
        score = (1 - probability[:, 0]).reshape(images, -1)
        large = ((boxes[..., 2:] - boxes[..., :2] + 1) >= self.param.min_size).all(-1)
        good = (score >= self.param.fg_thr) & large
        return [(boxes[i][good[i]].cpu().numpy(), score[i][good[i]].cpu().numpy()) for i in range(images)]

    def _best(self, image: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The rows (image, x1, y1, x2, y2, score) of one image."""
        order = best_first(scores)[: self.param.max_nms_num or None]
        chosen = order[kept(boxes[order], self.param.iou_thr, self.param.nms_type)]
        chosen = chosen[: self.param.max_post_nms_num or None]
        return np.hstack([np.full((len(chosen), 1), image, boxes.dtype), boxes[chosen], scores[chosen, None]])
