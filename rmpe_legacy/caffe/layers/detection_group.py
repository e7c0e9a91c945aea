"""The loss and the accuracy of Cascade R-CNN's maps of proposals, and the accuracy of its boxes.

Sources: {detection_group_loss,detection_group_accuracy,bbox_accuracy}_layer.cpp of zhaoweicai/cascade-rcnn@2252f46.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import JUDGES, Layer, Shape, count, shape_text
from .cascade_boxes import bounds, centres, from_fields, moments
from .registry import register


class MapsWithTruth(Layer):
    """Base of layers that compare maps of scores and moves with their truth (.., 6, H, W): label, centre and size of
    the box, overlap."""

    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get(self.params[0])
        loss = self.spec.get("loss_param")
        self.ignore = loss.ignore_label if loss.has("ignore_label") else None
        self.mean, self.std = moments(self)

    def labels(self, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return labels (N, H, W) as they stand, and as classes."""
        raw = truth[:, 0].long()
        classes = raw.clamp(max=1) if self.param.objectness else raw
        self.check_classes(classes, self.param.cls_num)
        return raw, classes

    def boxed(self, raw: Tensor) -> Tensor:
        """Return where labels, as they stand, are those of boxes that count."""
        return (raw != 0) if self.ignore is None else (raw != 0) & (raw != self.ignore)


class _Group(MapsWithTruth):
    """Bottoms: scores (N * G, K, H, W), moves (N * G, 4, H, W), and truth (N * G, 6, H, W). G fields share a map."""

    bottoms = 3
    refuses: tuple[int, ...] = (2,)
    unforced: tuple[int, ...] = (2,)

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if not self.param.field_w or len(self.param.field_w) != len(self.param.field_h):
            raise self.spec.error("needs as many field_w as field_h, one or more")

    def check(self, *bottom: Shape) -> None:
        score, move, truth = bottom
        one_size = len({(shape[0], *shape[2:]) for shape in bottom}) == 1 and score[0] % len(self.param.field_w) == 0
        if not one_size or any(len(shape) != 4 for shape in bottom) or (
                (score[1], move[1], truth[1]) != (self.param.cls_num, 4, 6)):
            raise self.spec.error(f"needs maps of the same size with {self.param.cls_num} class scores, 4 box deltas "
                                  f"and 6 true values; its bottoms are {', '.join(map(shape_text, bottom))}")

    def fields(self, like: Tensor) -> Tensor:
        """(N * G, 2), width first."""
        pairs = list(zip(self.param.field_w, self.param.field_h, strict=True))
        return like.new_tensor(pairs).repeat(len(like) // len(pairs), 1)


class _Joined(torch.autograd.Function):
    """A loss (1, 1, 1, 2) whose first value has these gradients of scores and moves."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, moves: Tensor, top: Tensor, to_scores: Tensor, to_moves: Tensor) -> Tensor:
        ctx.save_for_backward(to_scores, to_moves)
        return top

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        to_scores, to_moves = ctx.saved_tensors
        weight = dy.flatten()[0]
        return to_scores * weight, to_moves * weight, None, None, None


def joined_loss(scores: tuple[Tensor, Tensor, Tensor], moves: tuple[Tensor, Tensor, Tensor], weight: float) -> Tensor:
    """Return (1, 1, 1, 2): the loss of scores plus `weight` times that of moves, and the latter alone.

    scores, moves: The values, their loss, and its gradient.
    """
    (score, of_scores, to_scores), (move, of_moves, to_moves) = scores, moves
    of_moves, to_moves = weight * of_moves, weight * to_moves
    top = torch.stack([of_scores + of_moves, of_moves]).view(1, 1, 1, 2)
    return _Joined.apply(score, move, top, to_scores, to_moves)


@register("DetectionGroupLoss", form="")
class DetectionGroupLoss(_Group):
    """-> (1, 1, 1, 2): the loss, and lambda times the loss of the boxes in it. Only the first has a gradient.

    Of each image it takes positives, and negatives that overlap no box by bg_threshold, bg_multiple times as many
    (min_num_neg at least), or batch_size together: at random, the hardest (bootstrap), or half and half (mixture).
    With field_xyr and field_whr, moves are bounded before they are compared, and their gradient is not.

    Differs: random numbers come from NumPy's generator, in another order than Caffe's.
    """

    params = ("detection_group_loss_param", "loss_param")
    is_loss = True

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        for name, known in (("neg_mining_type", ("random", "bootstrap", "mixture")),
                            ("neg_ranking_type", ("conf_prob", "conf_loss")),
                            ("bbox_loss_type", ("Euclidean_L2", "Smooth_L1"))):
            if getattr(self.param, name) not in known:
                raise self.spec.error(f"{name} is not one of {', '.join(known)}")
        if self.param.batch_size == 0 or self.param.batch_size < -1:
            raise self.spec.error("batch_size must be above 0, or -1")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(1, 1, 1, 2)]

    def forward(self, scores: Tensor, moves: Tensor, truth: Tensor) -> Tensor:
        truth = truth.detach()
        raw, classes = self.labels(truth)
        prob = scores.detach().softmax(1)
        at_label = prob.gather(1, classes.unsqueeze(1))[:, 0]
        hard = 1 - prob[:, 0] if self.param.neg_ranking_type == "conf_prob" else -at_label.clamp(min=FLT_MIN).log()
        keep = self._sampled(raw, truth[:, 5], hard)
        weight = self._weights(raw, keep)
        counted = keep if self.ignore is None else keep & (classes != self.ignore)
        number = max(int(counted.sum()), 1)
        conf = torch.where(counted, -at_label.clamp(min=FLT_MIN).log() * weight, 0).sum() / number
        to_scores = prob.scatter_add(1, classes.unsqueeze(1), torch.full_like(at_label, -1).unsqueeze(1))
        to_scores = to_scores * (counted * weight).unsqueeze(1) / number
        bounded = self.param.has("field_xyr") and self.param.has("field_whr")
        boxes, to_moves = box_loss(moves.detach(), truth, counted & (raw != 0), self.fields(moves), self.param.stride,
                                   (self.mean, self.std), bounds(self, self.param) if bounded else None,
                                   self.param.bbox_loss_type != "Euclidean_L2")
        return joined_loss((scores, conf, to_scores), (moves, boxes, to_moves), getattr(self.param, "lambda"))

    def _sampled(self, raw: Tensor, shared: Tensor, hard: Tensor) -> Tensor:
        """Which places of (N * G, H, W) count, image by image."""
        groups = len(self.param.field_w)
        keep = np.zeros((len(raw) // groups, groups * count(raw.shape[1:])), bool)
        flat = [x.reshape(keep.shape).cpu().numpy() for x in (raw, shared, hard)]
        for row, label, overlap, score in zip(keep, *flat, strict=True):
            yes, no = np.flatnonzero(label > 0), np.flatnonzero((label == 0) & (overlap < self.param.bg_threshold))
            if self.param.batch_size == -1:
                wanted = len(yes)
                others = max(len(yes) * self.param.bg_multiple, self.param.min_num_neg)
            else:
                wanted = min(math.floor(self.param.batch_size / (1 + self.param.bg_multiple) + 0.5), len(yes))
                others = self.param.batch_size - wanted
            row[_drawn(yes, wanted)] = True
            row[self._negatives(no, min(others, len(no)), score[no])] = True
        return torch.from_numpy(keep).view(raw.shape).to(raw.device)

    def _negatives(self, no: np.ndarray, wanted: int, score: np.ndarray) -> np.ndarray:
        kind = self.param.neg_mining_type
        if kind == "random" or wanted >= len(no):
            return _drawn(no, wanted)
        order = no[np.lexsort((no, score))[::-1]]  # the hardest first, of equal ones the later place
        hard = wanted if kind == "bootstrap" else math.floor(wanted * 0.5 + 0.5)
        return np.append(order[:hard], _drawn(order[hard:], wanted - hard))

    def _weights(self, raw: Tensor, keep: Tensor) -> Tensor:
        weight = torch.ones(raw.shape, device=raw.device)
        if self.param.pos_neg_weighted:
            share = 1 / (1 + self.param.bg_multiple)
            total = keep.sum()
            for where, part in ((raw > 0, share), (raw <= 0, 1 - share)):
                number = (keep & where).sum()
                if number:
                    weight[where] = part * total / number
        return weight


def box_loss(moves: Tensor, truth: Tensor, counted: Tensor, fields: Tensor, stride: float,
             scale: tuple[Tensor, Tensor], limits: tuple[float, float, float, float] | None, smooth: bool
             ) -> tuple[Tensor, Tensor]:
    """The mean loss of moves (N, 4, H, W) where `counted`, and its gradient.

    Args:
        moves: What the network gives.
        truth: (N, 6, H, W), of which 1 to 4 are the boxes' centres and sizes.
        counted: (N, H, W).
        fields: (N, 2), width first.
        stride: Of the map's cells in the image.
        scale: Mean and standard deviation of the targets.
        limits: Of moves of the centre and of the logarithm of the size, or None.
        smooth: The absolute value beyond 1 instead of the square.
    """
    n, _, h, w = moves.shape
    fw, fh = fields[:, 0].view(n, 1, 1), fields[:, 1].view(n, 1, 1)
    x, y = centres(h, w, stride, moves)
    goal = torch.stack([(truth[:, 1] - x) / fw, (truth[:, 2] - y) / fh, (truth[:, 3].clamp(min=2) / fw).log(),
                        (truth[:, 4].clamp(min=2) / fh).log()], 1)
    mean, std = (each.to(moves) for each in scale)
    goal = (goal - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1)
    if limits is not None:
        low_xy, high_xy, low_wh, high_wh = limits
        middle, spread = mean.view(2, 2).mean(1).tolist(), std.view(2, 2).prod(1).sqrt().tolist()
        moves = torch.cat([
            moves[:, :2].clamp((low_xy - middle[0]) / spread[0], (high_xy - middle[0]) / spread[0]),
            moves[:, 2:].clamp((low_wh - middle[1]) / spread[1], (high_wh - middle[1]) / spread[1])], 1)
    d = (moves - goal).masked_fill(~counted.unsqueeze(1), 0)
    number = max(4 * int(counted.sum()), 1)
    if not smooth:
        return (0.5 * d * d).sum() / number, d / number
    far = d.abs() >= 1
    return torch.where(far, d.abs() - 0.5, 0.5 * d * d).sum() / number, torch.where(far, d.sign(), d) / number


def _drawn(found: np.ndarray, wanted: int) -> np.ndarray:
    return np.random.permutation(found)[:wanted] if len(found) > wanted else found


@register("DetectionGroupAccuracy", form="")
class DetectionGroupAccuracy(_Group):
    """-> (1, 1, 1, 2): the share of places whose best class is right, of all and of those with a box; and (1, 1, 1, 1),
    the mean overlap of these. -1 where there are none."""

    params = ("detection_group_accuracy_param", "loss_param")
    tops = (1, 2)
    refuses = unforced = (0, 1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(1, 1, 1, 2), (1, 1, 1, 1)][: self.top_count]

    def forward(self, scores: Tensor, moves: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
        scores, moves, truth = scores.detach(), moves.detach(), truth.detach()
        raw, classes = self.labels(truth)
        listed = torch.ones_like(raw, dtype=torch.bool) if self.ignore is None else classes != self.ignore
        counted = listed & ((classes != 0) | (truth[:, 5] < self.param.bg_threshold))
        right = scores.argmax(1) == classes
        object_ = counted & (classes != 0)
        shares = [mean_or_none(right[where].to(scores)) for where in (counted, object_)]
        left, top, width, height = from_fields(moves, self.fields(moves), self.param.stride, self.mean, self.std,
                                               bounds(self, self.param))
        x, y, w, h = truth[:, 1], truth[:, 2], truth[:, 3], truth[:, 4]
        shared = _overlap((left, top, width, height), (x - w / 2, y - h / 2, w, h))
        tops = torch.stack(shares).view(1, 1, 1, 2), mean_or_none(shared[self.boxed(raw)]).view(1, 1, 1, 1)
        return tops[: self.top_count]


def mean_or_none(values: Tensor) -> Tensor:
    """Return the mean, -1 without any values."""
    return values.mean() if len(values) else values.new_tensor(-1)


def _overlap(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Intersection over union of boxes, each left, top, width, height."""
    w = torch.minimum(a[0] + a[2] - 1, b[0] + b[2] - 1) - torch.maximum(a[0], b[0])
    h = torch.minimum(a[1] + a[3] - 1, b[1] + b[3] - 1) - torch.maximum(a[1], b[1])
    common = torch.where((w < 0) | (h < 0), 0, (w + 1) * (h + 1))
    valid = (a[2] > 0) & (a[3] > 0) & (b[2] > 0) & (b[3] > 0)
    return torch.where(valid, common / (a[2] * a[3] + b[2] * b[3] - common), 0)


@register("BboxAccuracy", form="")
class BboxAccuracy(Layer):
    """The mean overlap of moved regions with their boxes, and as a second top that of the regions themselves: moves
    (R, 4K), regions (R, 5), boxes (R, 6) of label, corners and overlap -> (1, 1, 1, 1) each, -1 without any.

    Boxes that a region overlaps by more than 0.975 do not count: these are the boxes themselves.
    """

    params = ("bbox_reg_param",)
    bottoms, tops = 3, (1, 2)
    works_in_place = False
    not_exportable = JUDGES
    refuses = unforced = (0, 1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        moves, regions, boxes = (count(shape[1:]) for shape in bottom)
        if len({shape[:1] for shape in bottom}) != 1 or regions != 5 or boxes < 6 or moves % 4 or (
                not self.spec.get("bbox_reg_param").cls_aware and moves != 8):
            raise self.spec.error("needs box deltas (R, 4K), regions (R, 5) and boxes (R, 6); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        self.mean, self.std = moments(self)
        return [(1, 1, 1, 1)] * self.top_count

    def forward(self, moves: Tensor, regions: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        moves, regions, boxes = (b.detach().reshape(len(b), -1) for b in (moves, regions, boxes))
        label = boxes[:, 0].long()
        rows = ((label > 0) & (boxes[:, -1] <= 0.975)).nonzero().flatten()
        label = label[rows] if self.spec.get("bbox_reg_param").cls_aware else label[rows].clamp(max=1)
        if len(rows) and 4 * int(label.max()) + 4 > moves.shape[1]:
            raise self.spec.error(f"a box has label {label.max()}; its box deltas are for {moves.shape[1] // 4} "
                                  "classes")
        moved = moves[rows].view(len(rows), moves.shape[1] // 4, 4)[torch.arange(len(rows), device=moves.device), label]
        moved = moved * self.std.to(moves) + self.mean.to(moves)
        region, box = regions[rows, 1:], boxes[rows, 1:5]
        size = region[:, 2:] - region[:, :2] + 1
        sides = size * torch.exp(moved[:, 2:])
        corner = moved[:, :2] * size + region[:, :2] + 0.5 * size - sides / 2
        truth = (*box[:, :2].unbind(1), *(box[:, 2:] - box[:, :2] + 1).unbind(1))
        after = _overlap((*corner.unbind(1), *sides.unbind(1)), truth)
        before = _overlap((*region[:, :2].unbind(1), *size.unbind(1)), truth)
        return tuple(mean_or_none(x).view(1, 1, 1, 1) for x in (after, before))[: self.top_count]
