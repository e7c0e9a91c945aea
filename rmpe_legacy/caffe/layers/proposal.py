"""PVANet's region proposals. Sources: src/caffe/layers/proposal_layer.cpp and src/caffe/util/nms.cpp of
sanghoon/caffe@6068dd0 (branch dev_pvanet)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, ranked, shape_text
from .registry import register
from .suppression import first_apart

F32 = np.float32
MAX_ANCHORS = 10_000  # of a cell, so that a small file takes little time; no network has a hundred
FEAT_STRIDE = 16  # the default of the forks that have this layer


def _anchors(base: int, ratios: Sequence[float], scales: Sequence[float]) -> np.ndarray:
    """(ratios * scales, 4) boxes around the first cell."""
    centre, out = F32(0.5) * (F32(base) - F32(1)), []
    for ratio in np.asarray(ratios, F32):
        w = np.trunc(np.sqrt(F32(base * base) / ratio) + F32(0.5))
        h = np.trunc(w * ratio + F32(0.5))
        for scale in np.asarray(scales, F32):
            half = [F32(0.5) * (side * scale - F32(1)) for side in (w, h)]
            out.append([centre - half[0], centre - half[1], centre + half[0], centre + half[1]])
    return np.array(out, F32).reshape(-1, 4)


@register("Proposal", form="")
class Proposal(Layer):
    """Scores (1, 2A, h, w), the objects' in the second half, moves (1, 4A, h, w) and image info (1, 4 or more: height,
    width, scales) -> regions (R, 5), and as a second top their scores (R).

    Boxes are cut at the image's edges; of those that are smaller than min_size times the scale the score becomes 0, as
    published. The pre_nms_topn best are suppressed at nms_thresh, and post_nms_topn kept. Of equal scores the first
    goes first; the published sort leaves their order open.
    """

    params = ("proposal_param",)
    bottoms, tops = 3, (1, 2)
    refuses = unforced = (0, 1, 2)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("proposal_param")
        if not self.param.ratio or not self.param.scale or not all(
                0 < value < math.inf for value in (*self.param.ratio, *self.param.scale)):
            raise self.spec.error("needs a ratio and a scale, above 0")
        # Not the schema's default: a file of several forks is read with frcnn's message of that name, where it is 0.
        self.stride = self.param.feat_stride if self.param.has("feat_stride") else FEAT_STRIDE
        if not self.stride or not self.param.post_nms_topn:
            raise self.spec.error("feat_stride and post_nms_topn must be above 0")
        if len(self.param.ratio) * len(self.param.scale) > MAX_ANCHORS:
            raise self.spec.error(f"its ratio and scale give more than {MAX_ANCHORS} anchors; remove some")
        with np.errstate(over="ignore", invalid="ignore"):
            self.anchors = _anchors(self.param.base_size, self.param.ratio, self.param.scale)
        if not np.isfinite(self.anchors).all():
            raise self.spec.error("its base_size, ratio and scale give anchors of infinite size")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, moves, _ = bottom
        number = len(self.anchors)
        if len(scores) != 4 or (scores[:2], moves[:2], scores[2:]) != ((1, 2 * number), (1, 4 * number), moves[2:]):
            raise self.spec.error(f"needs the scores (1, {2 * number}, h, w) and box deltas (1, {4 * number}, h, w) of "
                                  f"one image; its bottoms are {shape_text(scores)} and {shape_text(moves)}")
        rows = min(self.spec.rows, self.param.post_nms_topn)
        return [(rows, 5), (rows,)][: self.top_count]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> Any:
        """Scores without equal ones; moves; the image's height, width and two scales."""
        if index < 2:
            return rng.normal(0, 0.3, bottom[1]) if index else ranked(bottom[0], rng)
        if index != 2:
            return None
        h, w = (size * self.stride for size in bottom[0][2:])
        return np.resize(np.array([h, w, 1, 1], F32), bottom[2])

    def shifted(self, h: int, w: int) -> np.ndarray:
        """The anchors of all cells, (h * w * A, 4)."""
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).astype(F32) * F32(self.stride)
        return (np.tile(grid, 2)[:, :, None] + self.anchors).reshape(-1, 4)

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> Tensor | tuple[Tensor, ...]:
        if info.numel() < 4:
            raise self.spec.error("needs the height, the width and two scales of the image in its third bottom")
        h, w = scores.shape[2:]
        height, width, scale_h, scale_w = info.detach().flatten()[:4].cpu().numpy().astype(F32)
        delta = moves.detach()[0].view(-1, 4, h, w).permute(2, 3, 0, 1).cpu().numpy().reshape(-1, 4)
        score = scores.detach()[0, len(self.anchors):].permute(1, 2, 0).cpu().numpy().reshape(-1)
        boxes = self.shifted(h, w)
        size = boxes[:, 2:] - boxes[:, :2] + F32(1)
        centre = delta[:, :2] * size + (boxes[:, :2] + F32(0.5) * size)
        half = F32(0.5) * (np.exp(delta[:, 2:]) * size)
        edge = np.array([width, height] * 2, F32) - F32(1)
        boxes = np.maximum(0, np.minimum(np.hstack([centre - half, centre + half]), edge))
        least = F32(self.param.min_size) * np.array([scale_w, scale_h], F32)
        score = score * (boxes[:, 2:] - boxes[:, :2] + F32(1) >= least).all(1)
        order = np.argsort(-score, kind="stable")[: self.param.pre_nms_topn]
        chosen = order[_kept(boxes[order], self.param.nms_thresh, self.param.post_nms_topn)]
        rows = torch.from_numpy(np.hstack([np.zeros((len(chosen), 1), F32), boxes[chosen]])).to(scores)
        return (rows, torch.from_numpy(score[chosen]).to(scores)) if self.top_count == 2 else rows


def _kept(boxes: np.ndarray, limit: np.float32, most: int) -> list[int]:
    """The first `most` boxes, best first, that no better one overlaps by more than `limit`."""
    areas = (boxes[:, 2:] - boxes[:, :2] + F32(1)).prod(1)

    def too_close(i: int, others: np.ndarray) -> np.ndarray:
        low, high = np.maximum(boxes[i, :2], boxes[others, :2]), np.minimum(boxes[i, 2:], boxes[others, 2:])
        common = np.where((low > high).any(1), 0, np.maximum(0, high - low + F32(1)).prod(1))
        return common / (areas[i] + areas[others] - common) > F32(limit)

    return first_apart(len(boxes), too_close, most)
