"""The loss and the accuracy of MS-CNN's maps.

Sources: detection_{loss,accuracy}_layer.cpp of zhaoweicai/mscnn@534bcac.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.ops.losses import FLT_MIN

from .base import Shape, shape_text
from .box_output import common_share
from .cascade_boxes import bounds, from_fields
from .detection_group import MapsWithTruth, box_loss, joined_loss, mean_or_none
from .registry import register


class _Map(MapsWithTruth):
    """Bottoms: a map (N, K + 4, H, W) of K scores and four moves, and its truth (N, 6, H, W)."""

    bottoms = 2
    refuses: tuple[int, ...] = (1,)
    unforced: tuple[int, ...] = (1,)

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if not (self.param.field_w and self.param.field_h and self.param.downsample_rate):
            raise self.spec.error("needs field_w, field_h and downsample_rate, above 0")

    def check(self, x: Shape, truth: Shape) -> None:
        one_size = len(x) == len(truth) == 4 and (x[0], *x[2:]) == (truth[0], *truth[2:])
        if not one_size or self.param.coord_num != 4 or (x[1], truth[1]) != (self.param.cls_num + 4, 6):
            raise self.spec.error(f"needs maps of the same size with {self.param.cls_num} scores and 4 box deltas, and "
                                  f"with 6 true values; its bottoms are {shape_text(x)} and {shape_text(truth)}")
        if self.param.objectness and self.param.cls_num != 2:
            raise self.spec.error("with objectness, cls_num must be 2")

    def fields(self, x: Tensor) -> Tensor:
        """(N, 2), width first."""
        return x.new_tensor([[self.param.field_w, self.param.field_h]]).expand(len(x), 2)


@register("DetectionLoss", form="")
class DetectionLoss(_Map):
    """-> (1, 1, 1, 2): the loss, and lambda times the loss of the boxes in it. Only the first has a gradient.

    Of each image it takes all positives, and of negatives that overlap no box by bg_threshold bg_multiple times as
    many: at random, the hardest of each class (bootstrap), half and half (mixture), or with another sample_mode all.
    Moves are bounded before they are compared, and their gradient is not.

    Differs: random numbers come from NumPy's generator; with pos_neg_weighted and no negatives, the published gradient
    is nan where it is 0 here.
    """

    params = ("detection_loss_param", "loss_param")
    is_loss = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(1, 1, 1, 2)]

    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        truth, scores, moves = truth.detach(), x[:, :-4], x[:, -4:]
        raw, label = self.labels(truth)
        taken = self._taken(scores.detach(), label, truth[:, 5])
        weight = self._weights(label, taken, truth[:, 5])
        listed = torch.ones_like(taken) if self.ignore is None else label != self.ignore
        counted = listed & (taken | (label != 0))
        number = max(int(counted.sum()), 1)
        prob = scores.detach().softmax(1)
        at_label = prob.gather(1, label.unsqueeze(1))[:, 0]
        conf = torch.where(counted, -at_label.clamp(min=FLT_MIN).log() * weight, 0).sum() / number
        to_scores = prob.scatter_add(1, label.unsqueeze(1), torch.full_like(at_label, -1).unsqueeze(1))
        to_scores = torch.where(counted.unsqueeze(1), to_scores * weight.unsqueeze(1), 0) / number
        boxes, to_moves = box_loss(moves.detach(), truth, self.boxed(raw), self.fields(x), self.param.downsample_rate,
                                   (self.mean, self.std), bounds(self, self.param), self.param.bb_smooth)
        return joined_loss((scores, conf, to_scores), (moves, boxes, to_moves), getattr(self.param, "lambda"))

    def _taken(self, scores: Tensor, label: Tensor, shared: Tensor) -> Tensor:
        """Which negatives of (N, H, W) count."""
        mode, able = self.param.sample_mode, (label == 0) & (shared < self.param.bg_threshold)
        if mode not in ("random", "bootstrap", "mixture"):
            return able
        share = self.param.bg_multiple * (0.5 if mode == "mixture" else 1)
        taken = np.zeros((len(label), label[0].numel()), bool)
        for i, row in enumerate(taken):
            able_here, label_here = able[i].flatten().cpu().numpy(), label[i].flatten().cpu().numpy()
            if mode != "bootstrap":
                wanted = max(int((label_here != 0).sum() * share), 4 * (self.param.cls_num - 1))
                drawn = np.random.randint(len(row), size=wanted)
                row[drawn] |= able_here[drawn]
            if mode != "random":
                places = np.flatnonzero(able_here)
                for k in range(1, self.param.cls_num):
                    wanted = max(4, int((label_here == k).sum() * share))
                    score = scores[i, k].flatten().cpu().numpy()[places]
                    row[places[np.lexsort((places, score))[::-1][:wanted]]] = True
        return torch.from_numpy(taken).view(label.shape).to(label.device)

    def _weights(self, label: Tensor, taken: Tensor, shared: Tensor) -> Tensor:
        weight = torch.ones_like(shared)
        if self.param.iou_weighted:
            weight = torch.where(label != 0, shared, weight)
        if not self.param.pos_neg_weighted:
            return weight
        positive = label != 0
        sums = weight[positive].sum(), weight[~positive & taken].sum()
        if sums[0] == 0:
            return weight
        part = 1 / (1 + self.param.bg_multiple)
        number = int(taken.sum()) + int(positive.sum())
        return weight * torch.where(positive, part * number / sums[0], (1 - part) * number / sums[1])


@register("DetectionAccuracy", form="")
class DetectionAccuracy(_Map):
    """-> (1, 1, 1, 2): the share of places with the right class among the top_k best, of all and of those with a box;
    and (1, 1, 1, 1), the mean overlap of these. -1 where there are none."""

    params = ("detection_accuracy_param", "loss_param")
    tops = (1, 2)
    refuses = unforced = (0, 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(1, 1, 1, 2), (1, 1, 1, 1)][: self.top_count]

    def forward(self, x: Tensor, truth: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, truth = x.detach(), truth.detach()
        (raw, label), scores = self.labels(truth), x[:, :-4]
        own = scores.gather(1, label.unsqueeze(1))
        later = torch.arange(scores.shape[1], device=x.device).view(1, -1, 1, 1) > label.unsqueeze(1)
        right = ((scores > own) | ((scores == own) & later)).sum(1) < self.param.top_k
        counted = (label != 0) | (truth[:, 5] < self.param.bg_threshold)
        if self.ignore is not None:
            counted &= label != self.ignore
        shares = [mean_or_none(right[where].to(x)) for where in (counted, counted & (label != 0))]
        boxed = self.boxed(raw)
        found = torch.stack(from_fields(x[:, -4:], self.fields(x), self.param.downsample_rate, self.mean, self.std,
                                        bounds(self, self.param)), -1)[boxed]
        true = torch.cat([truth[:, 1:3] - truth[:, 3:5] / 2, truth[:, 3:5]], 1).movedim(1, -1)[boxed]
        shared = torch.from_numpy(common_share(found.cpu().numpy(), true.cpu().numpy(), "IOU")).to(x)
        tops = torch.stack(shares).view(1, 1, 1, 2), mean_or_none(shared).view(1, 1, 1, 1)
        return tops if self.top_count == 2 else tops[0]
