"""True and false detections of YOLO v2. Source: eval_detection_layer.cpp of intel/caffe@44d5363."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .region_loss import overlaps
from .registry import register

LEAST = 0.005  # a score below it is dropped
BOXES = 5  # of a cell


@register("EvalDetection", form="intel")
class EvalDetection(Layer):
    """Maps (N, num_object * (5 + num_class), side, side) and boxes (1, 1, G, 8), as AnnotatedData gives them ->
    (N, num_class + 4 * side^2 * num_object): how many boxes each class has, then label, score, true and false positive
    of each detection, class by class; 0 for the rest.

    Detections of all classes together are suppressed at `nms`; below 0, as published, there are none. A detection is
    true if the box of its class that it overlaps most, by threshold or more, has not been taken; if it overlaps none
    so far it is neither true nor false. Of equal scores the first goes first.
    """

    params = ("eval_detection_param",)
    bottoms = (2, None)  # the published layer reads two and takes more
    works_in_place = False
    not_exportable = JUDGES
    refuses = unforced = (0, 1)

    def setup(self, *bottom: Shape) -> None:
        self.param = p = self.spec.get("eval_detection_param")
        if p.num_object != BOXES or len(p.biases) < 2 * BOXES:
            raise self.spec.error(f"needs num_object {BOXES}, which the published code assumes, and {2 * BOXES} biases")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        p = self.param
        if len(bottom[0]) != 4 or tuple(bottom[0][1:]) != (BOXES * (5 + p.num_class), p.side, p.side) or (
                count(bottom[1]) % 8):
            raise self.spec.error(f"needs maps of {BOXES * (5 + p.num_class)} x {p.side} x {p.side} and boxes of 8 "
                                  f"values; its bottoms are {shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(bottom[0][0], p.num_class + p.side**2 * BOXES * 4)]

    def forward(self, x: Tensor, label: Tensor, *_: Tensor) -> Tensor:
        p, n = self.param, len(x)
        rows = label.detach().reshape(-1, 8)
        rows = rows[rows[:, 0] != -1]
        low, high = rows[:, 3:5], rows[:, 5:7]
        truth = torch.cat([rows[:, :1], rows[:, 1:2] - 1, (low + high) / 2, high - low], 1)
        top = x.new_zeros(self.reshape(tuple(x.shape), tuple(label.shape))[0])
        for image in range(n):
            own = truth[truth[:, 0].long() == image, 1:]
            for kind in own[:, 0].long().tolist():
                if not 0 <= kind < p.num_class:
                    raise self.spec.error(f"a box has label {kind + 1}; its classes go from 1 to {p.num_class}")
                top[image, kind] += 1
            found = self._judged(*self._boxes(x.detach()[image]), own)
            top[image, p.num_class : p.num_class + found.numel()] = found.flatten()
        return top

    def _boxes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (K, 4), labels and scores that are left, best first."""
        p = self.param
        if p.nms < 0:
            return x.new_zeros(0, 4), x.new_zeros(0, dtype=torch.int64), x.new_zeros(0)
        raw = x.view(BOXES, 5 + p.num_class, p.side, p.side).permute(2, 3, 0, 1)
        cell = torch.arange(p.side, dtype=x.dtype, device=x.device)
        bias = x.new_tensor(list(p.biases)[: 2 * BOXES]).view(BOXES, 2)
        across, down = cell.view(1, -1, 1) + raw[..., 0].sigmoid(), cell.view(-1, 1, 1) + raw[..., 1].sigmoid()
        place = torch.stack([across, down], -1)
        boxes = torch.cat([place, raw[..., 2:4].exp() * bias], -1).reshape(-1, 4) / p.side
        best, labels = raw[..., 5:].softmax(-1).reshape(-1, p.num_class).max(1)
        score = raw[..., 4].sigmoid().flatten()
        score = {"OBJ": score, "PROB": best, "MULTIPLY": score * best}[p.score_type]
        order = score.argsort(descending=True, stable=True)
        boxes, labels, score = boxes[order], labels[order], score[order]
        alive = torch.ones(len(boxes), dtype=torch.bool, device=x.device)
        for i in range(len(boxes)):
            if alive[i]:
                alive[i + 1 :] &= ~(overlaps(boxes[i], boxes[i + 1 :]) >= p.nms)
        alive &= score >= LEAST
        return boxes[alive], labels[alive], score[alive]

    def _judged(self, boxes: Tensor, labels: Tensor, scores: Tensor, truth: Tensor) -> Tensor:
        """Rows of label, score, true and false, the labels in order."""
        out = boxes.new_zeros(len(boxes), 4)
        order = labels.argsort(stable=True)
        taken: set[int] = set()
        for row, k in enumerate(order.tolist()):
            out[row, 0], out[row, 1] = labels[k].to(out), scores[k]
            same = (truth[:, 0].long() == labels[k]).nonzero().flatten()
            if not len(same):
                out[row, 3] = 1
                continue
            shared = overlaps(boxes[k], truth[same, 1:])
            best = int(same[shared.argmax()])
            if shared.max() >= self.param.threshold:
                out[row, 3 if best in taken else 2] = 1
                taken.add(best)
        return out
