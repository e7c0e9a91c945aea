"""Boxes moved by a stage's prediction. Source: decode_bbox_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .cascade_boxes import from_priors, moments
from .gradient import severed
from .registry import register
from .roi import random_regions


@register("DecodeBBox", form="")
class DecodeBBox(Layer):
    """Box deltas (R, 8), only the last four of which are used, and regions (R, 5) -> regions (R, 5, 1, 1).

    In TRAIN, regions without a size go, and with a third bottom of matched boxes (R, K) those that overlap theirs by
    gt_iou_thr or more, which its last column says.
    """

    params = ("decode_bbox_param",)
    bottoms = (2, 3)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        self.mean, self.std = moments(self)
        self.not_exportable = "drops regions by their values in phase TRAIN" if self.spec.phase == "TRAIN" else ""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if (count(bottom[0][1:]), count(bottom[1][1:])) != (8, 5) or any(b[:1] != bottom[0][:1] for b in bottom):
            raise self.spec.error("needs box deltas (R, 8) and regions (R, 5); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        if len(bottom) > 2 and self.spec.phase != "TRAIN":
            raise self.spec.error("takes its third bottom in phase TRAIN only")
        return [(bottom[1][0], 5, 1, 1)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        return random_regions(bottom[1], 1, 480, 640, rng) if index == 1 else None

    def forward(self, moves: Tensor, regions: Tensor, matched: Tensor | None = None) -> Tensor:
        flat = regions.detach().reshape(len(regions), 5)
        boxes = from_priors(moves.detach().reshape(len(moves), 2, 4)[:, 1:], flat[:, 1:], self.mean, self.std)[:, 0]
        top = torch.cat([flat[:, :1], boxes], 1)
        if self.spec.phase == "TRAIN":
            good = (boxes[:, :2] <= boxes[:, 2:]).all(1)
            if matched is not None:
                limit = self.spec.get("decode_bbox_param").gt_iou_thr
                good &= matched.detach().reshape(len(matched), -1)[:, -1] < limit
            top = top[good]
            if not len(top):
                raise self.spec.error("keeps none of its regions; the published layer aborts in this case")
        bottoms = (moves, regions) if matched is None else (moves, regions, matched)
        return severed(top.view(len(top), 5, 1, 1), *bottoms)
