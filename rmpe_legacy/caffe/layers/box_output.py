"""Regions from MS-CNN's maps. Source: box_output_layer.cpp of zhaoweicai/mscnn@534bcac."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .cascade_boxes import bounds, from_fields, moments, region_tops
from .registry import register
from .suppression import first_apart


def common_share(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """The common part of boxes (.., 4) of left, top, width, height, divided by their union, by the smaller (IOMU) or by
    the first (IOFU)."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    common = np.where((low >= high).any(-1), 0, (high - low).prod(-1))
    sizes = a[..., 2:].prod(-1), b[..., 2:].prod(-1)
    whole = {"IOMU": np.minimum(*sizes), "IOFU": sizes[0] + 0 * sizes[1]}.get(kind, sizes[0] + sizes[1] - common)
    valid = (a[..., 2:] > 0).all(-1) & (b[..., 2:] > 0).all(-1)
    return np.where(valid, common / np.where(whole > 0, whole, 1), 0).astype(a.dtype)


@register("BoxOutput", form="")
class BoxOutput(Layer):
    """Maps (N, K + 4, H, W) of K scores and four moves, one for each field -> regions (R, 5, 1, 1), and as a second top
    the same with scores (R, 6, 1, 1).

    The score is the best score of an object less that of the background. Boxes are cut at the map's size times its
    downsample_rate; small ones and low scores go; the best max_nms_num are suppressed at iou_thr, and
    max_post_nms_num of an image kept. None: the region (0, 1, 1, 10, 10), scores all 0.
    """

    params = ("box_output_param",)
    bottoms, tops = (1, None), (1, 2)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("box_output_param")
        self.windows = list(zip(self.param.field_w, self.param.field_h, self.param.downsample_rate, strict=False))
        given = (self.param.field_w, self.param.field_h, self.param.downsample_rate)
        if any(len(values) != len(bottom) for values in given):
            raise self.spec.error("needs a field_w, a field_h and a downsample_rate for each bottom")
        self.mean, self.std = moments(self)
        self.limits = bounds(self, self.param)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(b) != 4 or b[1] < 6 for b in bottom) or len({b[:2] for b in bottom}) != 1:
            raise self.spec.error("needs maps (N, K + 4, H, W) of the same N and K; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        rows = self.spec.rows
        return [(rows, 5, 1, 1), (rows, 6, 1, 1)][: self.top_count]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        maps = [self._boxes(x.detach(), *field) for x, field in zip(bottoms, self.windows, strict=True)]
        found = []
        for image in range(len(bottoms[0])):
            boxes, scores = (np.concatenate(each) for each in zip(*(each[image] for each in maps), strict=True))
            found.append(self._best(image, boxes, scores))
        return region_tops(np.concatenate(found), bottoms[0], self.top_count)

    def _boxes(self, x: Tensor, field_w: int, field_h: int, stride: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The boxes (K, 4) of each image, left, top, width, height, and their scores (K)."""
        n, _, h, w = x.shape
        score = (x[:, 1:-4].amax(1) - x[:, 0]).reshape(n, -1)
        field = x.new_tensor([[field_w, field_h]]).expand(n, 2)
        left, top, width, height = from_fields(x[:, -4:], field, stride, self.mean, self.std, self.limits)
        left, top = left.clamp(min=0), top.clamp(min=0)
        box = torch.stack([left, top, torch.minimum(width, w * stride - left), torch.minimum(height, h * stride - top)],
                          -1).view(n, -1, 4)
        good = (score >= self.param.fg_thr) & (box[..., 2:] >= self.param.min_size).all(-1)
        return [(box[i][good[i]].cpu().numpy(), score[i][good[i]].cpu().numpy()) for i in range(n)]

    def _best(self, image: int, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The rows (image, x1, y1, x2, y2, score) of one image."""
        order = np.lexsort((np.arange(len(scores)), scores))[::-1]  # of equal ones the later goes first
        order = order[: self.param.max_nms_num or None]
        best = boxes[order]
        chosen = order[first_apart(len(best), lambda i, others: common_share(best[i], best[others], self.param.nms_type)
                                   > self.param.iou_thr)]
        chosen = chosen[: self.param.max_post_nms_num or None]
        corners = boxes[chosen].reshape(-1, 2, 2).cumsum(1, dtype=boxes.dtype).reshape(-1, 4)
        return np.hstack([np.full((len(chosen), 1), image, boxes.dtype), corners, scores[chosen, None]])
