"""Regions to learn from, in Cascade R-CNN. Source: proposal_target_layer.cpp of zhaoweicai/cascade-rcnn@2252f46 and
zhaoweicai/mscnn@534bcac."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .cascade_boxes import moments, overlap
from .registry import register


@register("ProposalTarget", form="")
class ProposalTarget(Layer):
    """Regions (R, 5) and boxes (G, 7 or more) of image, corners, label, ignored -> batch_size regions (B, 5, 1, 1),
    labels (B, 1, 1, 1), targets and two kinds of weights (B, 4 * classes, 1, 1), matched boxes (B, 6, 1, 1), and
    perhaps weights of samples (B, 1, 1, 1).

    Boxes of image -1 are none. Differs: which of too many are taken comes from NumPy's generator, in another order
    than from Caffe's; where nothing can be taken, the region (0, 0, 0, 31, 31) is, not one drawn at random.
    """

    params = ("proposal_target_param", "bbox_reg_param")
    bottoms, tops = 2, (6, 7)
    works_in_place = False
    not_exportable = JUDGES
    refuses = unforced = (0, 1)

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("proposal_target_param")
        aware = self.spec.get("bbox_reg_param").cls_aware
        self.classes = self.param.cls_num if aware else 2
        self.mean, self.std = (x.numpy() for x in moments(self))
        if self.param.batch_size < 1 and self.param.batch_size != -1:
            raise self.spec.error("batch_size must be above 0, or -1")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][1:]) != 5 or count(bottom[1][1:]) < 7:
            raise self.spec.error("needs regions (R, 5) and boxes (G, 7); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        n = max(bottom[0][0], 1) if self.param.batch_size == -1 else self.param.batch_size
        return [(n, k, 1, 1) for k in (5, 1, *[4 * self.classes] * 3, 6, 1)][: self.top_count]

    def forward(self, rois: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        p = self.param
        regions = rois.detach().reshape(len(rois), -1).cpu().numpy()
        truth = boxes.detach().reshape(len(boxes), -1).cpu().numpy()
        truth = truth[truth[:, 0].astype(int) != -1]
        known = p.descriptor.fields
        if "append_gtbox" not in known or p.append_gtbox:
            regions = np.vstack([regions, truth[:, :5]])
        match, best = _matched(regions, truth)
        ignored = np.append(truth[:, 6] != 0, False)[match]
        yes = np.flatnonzero((best >= p.fg_thr) & ~ignored)
        near = (best >= p.bg_thr_lw) & (best < p.bg_thr_hg)
        no, rest = np.flatnonzero(near & (best < p.fg_thr)), np.flatnonzero(~near & (best < p.fg_thr))
        total = len(yes) + len(no) if p.batch_size == -1 else p.batch_size
        wanted = min(len(yes) if p.batch_size == -1 else math.floor(p.fg_fraction * p.batch_size + 0.5), len(yes))
        yes = _drawn(yes, wanted)
        others = total - wanted
        if len(no) > others:
            no = _drawn(no, others)
        elif "pickup_discard" not in known or p.pickup_discard:
            no = np.append(no, rest[: others - len(no)])
        kept = np.append(yes, no)
        if not len(kept):
            regions, match, best = np.array([[0, 0, 0, 31, 31]], regions.dtype), np.array([-1]), np.zeros(1)
            kept = np.array([0])
        tops = self._tops(regions[kept], match[kept], best[kept], truth, len(yes))
        return tuple(torch.from_numpy(x[:, :, None, None].astype(np.float32)).to(rois) for x in tops)[: self.top_count]

    def _tops(self, regions: np.ndarray, match: np.ndarray, best: np.ndarray, truth: np.ndarray,
              positive: int) -> list[np.ndarray]:
        p, n = self.param, len(regions)
        labels = np.zeros(n, int)
        labels[:positive] = truth[match[:positive], 5]
        targets, weights, boxes = np.zeros((n, 4 * self.classes)), np.zeros((n, 4 * self.classes)), np.zeros((n, 6))
        fields = p.descriptor.fields
        low, high = (p.bbox_thr_lw, p.bbox_thr_hg) if "bbox_thr_lw" in fields else (0, math.inf)
        for i in np.flatnonzero(labels > 0):
            box = truth[match[i], 1:5]
            size, other = regions[i, 3:] - regions[i, 1:3] + 1, box[2:] - box[:2] + 1
            centre, goal = regions[i, 1:3] + 0.5 * size, box[:2] + 0.5 * other
            move = np.concatenate([(goal - centre) / size, np.log(other / size)])
            column = 4 * (labels[i] if self.spec.get("bbox_reg_param").cls_aware else 1)
            if column + 4 > targets.shape[1]:
                raise self.spec.error(f"a box has label {labels[i]}, but cls_num is {self.classes}")
            targets[i, column : column + 4] = (move - self.mean) / self.std
            weights[i, column : column + 4] = low <= best[i] <= high
            boxes[i] = [labels[i], *box, best[i]]
        return [regions, labels[:, None], targets, weights, weights, boxes, self._samples(labels, best)[:, None]]

    def _samples(self, labels: np.ndarray, best: np.ndarray) -> np.ndarray:
        share = self.param.fg_fraction
        weight = np.where(labels > 0, best, 1) if self.param.iou_weighted else np.ones(len(labels))
        yes, no = weight[labels > 0].sum(), weight[labels <= 0].sum()
        if yes:
            weight = np.where(labels > 0, weight * share * len(labels) / yes,
                              weight * (1 - share) * len(labels) / (no or 1))
        return weight


def _matched(regions: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each region the box of its image that it overlaps most, -1 without any, and by how much."""
    if not len(truth):
        return np.full(len(regions), -1), np.zeros(len(regions))
    shared = overlap(regions[:, None, 1:5], truth[None, :, 1:5])
    shared = np.where(regions[:, None, 0] == truth[None, :, 0], shared, -1)
    match, best = shared.argmax(1), shared.max(1)
    return np.where(best < 0, -1, match), np.maximum(best, 0)


def _drawn(found: np.ndarray, wanted: int) -> np.ndarray:
    return np.random.permutation(found)[:wanted] if len(found) > wanted else found
