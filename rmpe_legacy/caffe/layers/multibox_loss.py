"""SSD's training loss. Source: multibox_loss_layer.cpp, bbox_util.cpp of RMPE@5188c23 and of the ssd branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.ops.boxes import confidence_losses, confidence_scores, decode_boxes, encode_boxes, pick_hardest
from rmpe_legacy.ops.losses import seen_as, sigmoid_loss_sum, smooth_l1_sum, softmax_loss_sum, take_rows
from rmpe_legacy.ops.matching import (
    GroundTruth,
    count_matched,
    group_by_image,
    match_any_label,
    match_per_label,
    matched,
    split_by_label,
)

from .base import JUDGES, Count, Layer, Shape, shape_text
from .registry import register
from .ssd_common import check_predictions, signed, split_priors

KEPT = 256  # images whose matches are kept from earlier forwards; Caffe's lists grow without limit


@dataclass(frozen=True)
class Batch:
    """The bottoms of one forward. Only the predictions may be on a device other than the CPU."""

    loc: Tensor  # (N, P, L, 4)
    conf: Tensor  # (N, P, C)
    prior: Tensor  # (2, P, 4)
    truth: GroundTruth
    boxes: Tensor  # (1 or N, P, 4): what is matched and encoded, the priors; of RefineDet moved by the first stage
    minable: Tensor  # (1 or N, P): the priors that may be negatives


@dataclass(frozen=True)
class _Matches:
    """The true box matched to each prior, and the priors that count as negatives."""

    match: Tensor  # (N, L, P): index of the true box in its image, -1 for none, -2 for outside the image
    negative: Tensor  # (K): image * P + prior
    matched: int  # divisor of the loss, and rows of its location part
    negatives: int  # rows of its confidence part, besides one per match


class _Rows:
    """Rows of a Caffe blob whose memory outlives a forward: old values show where fewer rows are written."""

    def __init__(self):
        self.memory = torch.zeros(0)

    def lay(self, rows: Tensor, count: int) -> Tensor | None:
        """Return `count` rows that start with these; None if they do not fit in the blob's memory."""
        width = rows.shape[1]
        if count * width > self.memory.numel():
            self.memory = rows.new_zeros(count * width)
        if rows.numel() > self.memory.numel():
            return None
        rest = self.memory[rows.numel() : count * width].view(-1, width).to(rows)
        laid = rows if not len(rest) and len(rows) == count else torch.cat([rows[:count], rest])
        self.memory[: rows.numel()] = rows.detach().flatten().to(self.memory)
        return laid


@register("MultiBoxLoss", dialects=("rmpe", "ssd"))
class MultiBoxLoss(Layer):
    """Location and confidence loss of the priors matched to a true box, and of the hardest unmatched ones.

    Location predictions (N, P * L * 4), confidences (N, P * C), priors (1, 2, P * 4), true boxes (1, 1, G, 8) of
    image, label, an unused number, four corners, difficult -> a scalar. The first two bottoms get gradients.

    As published, only Backward clears the matches: a second forward without a backward in between applies the first
    forward's matches to the second one's values. Where Caffe would abort, this raises. ``forget()`` clears them.
    """

    params = ("multibox_loss_param", "loss_param")
    bottoms: Count = 4
    is_loss = True
    not_exportable = JUDGES
    works_in_place = False
    refuses = (2, 3)
    unforced = (1,)

    # --- options -----------------------------------------------------------------------------------------

    def setup(self, *bottom: Shape) -> None:
        param = self.param = self.spec.get("multibox_loss_param")
        self.is_ssd = self.spec.dialect == "ssd"
        if not param.has("num_classes") or param.num_classes < 1:
            raise self.spec.error("needs num_classes, 1 or more")
        self.classes, self.background = param.num_classes, signed(param.background_label_id)
        self.places = 1 if param.share_location else self.classes
        self.softmax = param.conf_loss_type == "SOFTMAX"
        self.mining = param.mining_type if self.is_ssd else "MAX_NEGATIVE" if param.do_neg_mining else "NONE"
        self.counts = self.spec.propagate_down[:2] or (True, True)  # a part without propagation does not count
        self._check_labels()
        self._check_mining()
        self._loc_rows, self._target_rows, self._conf_rows = _Rows(), _Rows(), _Rows()
        self._last = [torch.zeros(()), torch.zeros(())]  # the location part and the confidence part
        self.forget()

    def _check_labels(self) -> None:
        if self.softmax and not 0 <= self.background < self.classes:
            # Differs: the RMPE fork does not check, and reads outside the box's probabilities.
            raise self.spec.error(f"background_label_id must be within 0 to {self.classes - 1} for SOFTMAX, not "
                                  f"{self.background}")
        needs = 2 if self.background >= 0 else 1
        if self.param.map_object_to_agnostic and self.classes != needs:
            raise self.spec.error(f"map_object_to_agnostic needs num_classes: {needs}, not {self.classes}")

    def _check_mining(self) -> None:
        param = self.param
        if self.is_ssd and param.has("do_neg_mining") and param.do_neg_mining != (self.mining != "NONE"):
            raise self.spec.error(f"do_neg_mining contradicts mining_type {self.mining}; give mining_type alone")
        if self.mining == "NONE":
            return
        if not param.share_location:
            raise self.spec.error("mining needs share_location: true")
        if not self.is_ssd and param.neg_pos_ratio <= 0:
            raise self.spec.error("neg_pos_ratio must be positive")
        if self.mining == "HARD_EXAMPLE" and param.sample_size <= 0:
            raise self.spec.error("sample_size must be positive")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.priors = check_predictions(self, bottom, self.places, self.classes)
        # Labels with a list of matches; -1 stands for all. There are no more than the bottoms have values.
        self.labels = [-1] if self.param.share_location else [c for c in range(self.classes) if c != self.background]
        if self.nchw(bottom[3])[3] != 8:
            raise self.spec.error(f"needs a fourth bottom (1, 1, true boxes, 8), not {shape_text(bottom[3])}")
        return [()]

    def forget(self) -> None:
        """Drop the matches of earlier forwards, as a backward does."""
        self._matches: list[Tensor | None] = []  # per image (L, P); None if it had no true box
        self._negatives: list[Tensor] = []  # per image: its priors

    # --- forward --------------------------------------------------------------------------------------------

    def forward(self, loc: Tensor, conf: Tensor, prior: Tensor, gt: Tensor, *first: Tensor) -> Tensor:
        batch = self._batch(loc, conf, prior, gt, *first)
        found = self._find(batch)
        where = matched(found.match)
        parts = [self._location(batch, found, where), self._confidence(batch, found, where)]
        self._last = [part.detach() for part in parts]
        normalizer = self._normalizer(len(loc), found.matched)
        loss = sum((weight * part / normalizer for weight, part, counted in
                    zip((self.param.loc_weight, 1.0), parts, self.counts, strict=True) if counted), loc.new_zeros(()))
        if loss.requires_grad:
            loss.register_hook(lambda _grad: self.forget())
        return loss

    def _batch(self, loc: Tensor, conf: Tensor, prior: Tensor, gt: Tensor) -> Batch:
        code = self.param.code_type if self._decodes else "CORNER"
        priors = split_priors(self, prior, self.priors, code).cpu().float()
        return Batch(loc.reshape(len(loc), self.priors, self.places, 4),
                     conf.reshape(len(loc), self.priors, self.classes), priors, self._truth(gt, len(loc)), priors[:1],
                     torch.ones(1, self.priors, dtype=torch.bool))

    @property
    def _decodes(self) -> bool:
        """Whether predictions are decoded to boxes, which requires priors with a width and a height."""
        nms = self._suppression
        return not self.param.use_prior_for_matching or (nms is not None and not self.param.use_prior_for_nms)

    def _truth(self, gt: Tensor, images: int) -> GroundTruth:
        rows = gt.detach().reshape(-1, 8)[: self.nchw(tuple(gt.shape))[2]].cpu().float()
        rows = rows[rows[:, 0].trunc() != -1]
        if bool((rows[:, 1].trunc() == self.background).any()):
            raise self.spec.error(f"its true boxes have the background's label, {self.background}")
        if not self.param.use_difficult_gt:
            rows = rows[rows[:, 7] == 0]
        return group_by_image(rows, images)

    def _normalizer(self, images: int, matched: int) -> float:
        loss = self.spec.get("loss_param")
        mode = loss.normalization
        if not loss.has("normalization") and loss.has("normalize"):
            mode = "VALID" if loss.normalize else "BATCH_SIZE"
        return float(max(1, {"FULL": images * self.priors, "VALID": matched, "BATCH_SIZE": images, "NONE": 1}[mode]))

    # --- matching and mining --------------------------------------------------------------------------------

    def _find(self, batch: Batch) -> _Matches:
        """Return this forward's matches and negatives, or those of an earlier forward if no backward came since."""
        images = len(batch.loc)
        match, overlap = self._match(batch)
        own = match
        has_truth = batch.truth.count > 0
        begun = bool(self._matches)
        self._matches += [match[i] if has_truth[i] else None for i in range(images)]
        if begun:
            match = self._earlier_matches(batch, own)
        if not self.is_ssd:
            negative, first = self._negatives_by_score(batch, own, overlap)
            count = int(count_matched(own).sum())
        else:
            match, negative, first = self._mine(batch, match, overlap)
            count = int(count_matched(match).sum())
            self._matches[:images] = [m if old is not None else None
                                      for m, old in zip(match, self._matches, strict=False)]
        del self._matches[max(KEPT, images) :]
        if self.mining == "NONE":
            return _Matches(match, negative, count, 0)
        self._negatives += negative.split(first.diff().tolist())
        del self._negatives[max(KEPT, images) :]
        kept = [prior + i * self.priors for i, prior in enumerate(self._negatives[:images]) if has_truth[i]]
        return _Matches(match, torch.cat([negative[:0], *kept]), count, len(negative))

    def _match(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return matches and overlaps, both (N, L, P)."""
        param = self.param
        how = {"threshold": param.overlap_threshold, "per_prediction": param.match_type == "PER_PREDICTION",
               "inside_only": self.is_ssd and param.ignore_cross_boundary_bbox}
        if not param.use_prior_for_matching:
            box = self._decoded(batch)
            if param.share_location:
                match, overlap = match_any_label(box[:, 0], batch.truth, **how)
                return match.unsqueeze(1), overlap.unsqueeze(1)
            return match_per_label(box, batch.truth, self.labels, **how)
        match, overlap = match_any_label(batch.boxes, batch.truth, **how)
        overlap = overlap.unsqueeze(1).expand(-1, len(self.labels), -1)
        if param.share_location:
            return match.unsqueeze(1), overlap
        return split_by_label(match, batch.truth, self.labels), overlap

    def _decoded(self, batch: Batch) -> Tensor:
        """Return the boxes predicted for each label with matches: (N, L, P, 4)."""
        places = [0] if self.param.share_location else self.labels
        loc = batch.loc.detach()[:, :, places].transpose(1, 2)
        return decode_boxes(loc, batch.prior, self.param.code_type, self.param.encode_variance_in_target)

    def _earlier_matches(self, batch: Batch, own: Tensor) -> Tensor:
        """Return the matches that Caffe still holds: those of the first forward since a backward, per image.

        The RMPE fork uses them if this forward has any match; otherwise, without mining, only those of images with
        a true box.
        """
        compares = self.is_ssd or bool(count_matched(own).any())
        if not compares and self.mining != "NONE":
            return own
        sizes = batch.truth.count.tolist()
        kept = [None if not compares and not size else m for m, size in zip(self._matches, sizes, strict=False)]
        needs_truth = self.is_ssd and self.mining != "NONE"
        reads_label = compares or not self.param.map_object_to_agnostic
        for m, size in zip(kept, sizes, strict=True):
            if m is None:
                continue
            if m.shape != own[0].shape or (needs_truth and not size) or (reads_label and m.numel() and m.max() >= size):
                raise self._does_not_fit()
        return torch.stack([torch.full_like(own[0], -1) if m is None else m for m in kept])

    def _does_not_fit(self) -> Exception:
        return self.spec.error("the matches of an earlier forward are still in use, since no backward has run since "
                               "then, and do not fit this one's true boxes (Caffe aborts here); run a backward after "
                               "each forward, or call forget() on the layer")

    def _negatives_by_score(self, batch: Batch, match: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Mine negatives as the RMPE fork does: by the highest probability of a class other than the background."""
        if self.mining == "NONE":
            return torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        score = confidence_scores(batch.conf, self.background, self.softmax)
        match, overlap = match[:, 0], overlap[:, 0]  # mining implies share_location
        return pick_hardest(score, self._may_be_negative(match, overlap), self._allowed(match))

    def _may_be_negative(self, match: Tensor, overlap: Tensor) -> Tensor:
        return torch.from_numpy((match.numpy() == -1) & (overlap.numpy() < np.float32(self.param.neg_overlap)))

    def _allowed(self, match: Tensor) -> Tensor:
        """Return each image's maximum number of negatives: neg_pos_ratio times its matches, float32, truncated."""
        return (count_matched(match).float() * self.param.neg_pos_ratio).long()

    # --- mining in the ssd branch ---------------------------------------------------------------------------

    @property
    def _suppression(self) -> tuple[float, int] | None:
        """nms_threshold and top_k of mining; None without suppression. As published, top_k defaults to 0."""
        if not self.is_ssd or self.mining == "NONE" or not self.param.has("nms_param"):
            return None
        nms = self.param.nms_param
        return (nms.nms_threshold, nms.top_k) if nms.nms_threshold > 0 else None

    def _mine(self, batch: Batch, match: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mine as the ssd branch does, by loss. Returns the remaining matches, and negatives by image and prior."""
        images = len(match)
        if self.mining == "NONE":
            return match, torch.zeros(0, dtype=torch.int64), torch.zeros(images + 1, dtype=torch.int64)
        one, overlap = match[:, 0], overlap[:, 0]  # mining implies share_location
        listed = torch.tensor([m is not None for m in self._matches[:images]]).unsqueeze(1)
        hard = self.mining == "HARD_EXAMPLE"
        eligible = listed & batch.minable if hard else self._may_be_negative(one, overlap) & listed & batch.minable
        count = torch.full((images,), self.param.sample_size) if hard else self._allowed(one)
        box, (nms_threshold, top_k) = None, self._suppression or (0.0, -1)
        if self._suppression:
            box = batch.prior[:1] if self.param.use_prior_for_nms else self._decoded(batch)[:, 0]
        eligible = eligible.expand_as(one)
        index, first = pick_hardest(self._losses(batch, match), eligible, count, box, nms_threshold, top_k)
        picked = torch.zeros_like(one, dtype=torch.bool)
        picked[torch.arange(images).repeat_interleave(first.diff()), index] = True
        negative = (one == -1) & picked
        if hard:
            match = torch.where((one >= 0) & ~picked, -1, one).unsqueeze(1)
        first = torch.cat([first[:1], negative.sum(1).cumsum(0)])
        return match, negative.nonzero()[:, 1], first

    def _losses(self, batch: Batch, match: Tensor) -> Tensor:
        """Return each prior's current loss, (N, P). The location part counts for HARD_EXAMPLE only."""
        where = image, _, prior = matched(match)
        label = torch.full((len(match), self.priors), self.background)
        label[image, prior] = self._labels_of(batch, match, where, agnostic=False)
        loss = confidence_losses(batch.conf, label, self.softmax)
        if self.mining == "HARD_EXAMPLE" and len(image):
            seen, target = self._loc_pairs(batch, match, where, batch.prior[:1])
            apart = (seen - target).detach()
            size = apart.abs()
            square = (size < 1) | (self.param.loc_loss_type == "L2")
            each = torch.where(square, 0.5 * apart * apart, size - 0.5).sum(1)
            loss[image, prior] += each.cpu().float()
        return loss

    # --- the two parts --------------------------------------------------------------------------------------

    def _location(self, batch: Batch, found: _Matches, where: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of the predicted boxes, summed over the matches."""
        if not found.matched:
            return self._nothing(batch.loc, self._last[0])
        pairs = self._loc_pairs(batch, found.match, where, batch.boxes)
        seen, target = self._loc_rows.lay(pairs[0], found.matched), self._target_rows.lay(pairs[1], found.matched)
        if seen is None or target is None:
            raise self._does_not_fit()
        apart = seen - target
        return smooth_l1_sum(apart) if self.param.loc_loss_type == "SMOOTH_L1" else (apart * apart).sum() * 0.5

    def _nothing(self, predictions: Tensor, last: Tensor) -> Tensor:
        """Return a part of the loss without any prior: 0, with a gradient of 0.

        A published defect: the RMPE fork keeps the last forward's value.
        """
        zero = predictions.flatten()[:0].sum()
        return zero if self.is_ssd else zero + last.to(zero)

    def _loc_pairs(self, batch: Batch, match: Tensor, where: tuple[Tensor, ...], boxes: Tensor
                   ) -> tuple[Tensor, Tensor]:
        """Return each match's prediction and its target, both (M, 4), relative to boxes (1 or N, P, 4)."""
        param, (image, place, prior) = self.param, where
        spot = torch.zeros_like(place) if param.share_location else torch.tensor(self.labels)[place]
        row = (image * self.priors + prior) * self.places + spot
        predicted = take_rows(batch.loc.reshape(-1, 4), row)
        priors = torch.stack([boxes[image if len(boxes) > 1 else 0, prior], batch.prior[1, prior]])
        if (param.encode_variance_in_target or param.code_type != "CENTER_SIZE") and bool((priors[1] <= 0).any()):
            raise self.spec.error("the variances of the priors must be positive")
        truth = batch.truth.box[batch.truth.row(image, match[where])]
        target = encode_boxes(truth, priors, param.code_type, param.encode_variance_in_target).to(predicted)
        if self.is_ssd and param.bp_inside:
            box = priors[0].to(predicted)
            if not param.use_prior_for_matching:
                box = decode_boxes(predicted.detach(), priors, param.code_type, param.encode_variance_in_target)
            predicted = torch.where((box < 0) | (box > 1), target, predicted)
        if param.encode_variance_in_target:
            variance = priors[1].to(predicted)
            # A published defect: the prediction is divided by the variance, but its gradient is not.
            return seen_as(predicted, predicted / variance), target / variance
        return predicted, target

    def _labels_of(self, batch: Batch, match: Tensor, where: tuple[Tensor, ...], agnostic: bool) -> Tensor:
        """Return the target label of each match, (M)."""
        image = where[0]
        if agnostic:
            label = torch.full_like(image, self.background + 1)
        else:
            label = batch.truth.label[batch.truth.row(image, match[where])]
        if bool(((label < 0) | (label >= self.classes)).any()):
            # Differs: the RMPE fork does not check, and reads a neighbour's probability, or outside its memory.
            raise self.spec.error(f"a true box has a label outside 0 to {self.classes - 1}; set num_classes for it")
        return label

    def _confidence(self, batch: Batch, found: _Matches, where: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of the labels, summed over matches and negatives; without mining, over all priors."""
        label = self._labels_of(batch, found.match, where, self.param.map_object_to_agnostic)
        if self.mining == "NONE":
            return self._loss_of_all(batch, where, label)
        count = found.matched + found.negatives
        if not count:
            return self._nothing(batch.conf, self._last[1])
        positive = where[0] * self.priors + where[2]
        both = torch.cat([positive, found.negative])
        order = ((both // self.priors) * 2 + (torch.arange(len(both)) >= len(positive))).argsort(stable=True)
        chosen = take_rows(batch.conf.reshape(-1, self.classes), both[order])
        logits = self._conf_rows.lay(chosen, count)
        if logits is None:
            raise self._does_not_fit()
        label = torch.cat([label, torch.full_like(found.negative, self.background)])[order][:count]
        rows = torch.arange(len(label))
        if self.softmax:
            target = torch.full((count,), self.background)
            target[: len(label)] = label
            return softmax_loss_sum(logits, target.to(logits.device))
        marked = rows * self.classes + label
        if self.is_ssd and not 0 <= self.background < self.classes:
            marked = marked[label != self.background]
        return sigmoid_loss_sum(logits, self._sigmoid_target(count, marked).to(logits))

    def _loss_of_all(self, batch: Batch, where: tuple[Tensor, ...], label: Tensor) -> Tensor:
        image, _, prior = where
        logits = batch.conf.reshape(-1, self.classes)
        if self.softmax:
            # A prior matched for several classes, each by its own prediction, takes the last class's label.
            target = torch.full((len(logits),), self.background)
            target.scatter_reduce_(0, image * self.priors + prior, label, "amax", include_self=False)
            return softmax_loss_sum(logits, target.to(logits.device))
        # A published defect: from one image to the next the targets advance by P, not by P * C, so matches of all
        # images but the first are marked in the wrong rows.
        marked = image * self.priors + prior * self.classes + label
        return sigmoid_loss_sum(logits, self._sigmoid_target(len(logits), marked).to(logits))

    def _sigmoid_target(self, rows: int, marked: Tensor) -> Tensor:
        """Return targets (rows, C): 1 at the `marked` flat indices, elsewhere the background's label, as published."""
        target = torch.full((rows * self.classes,), float(self.background))
        if bool(((marked < 0) | (marked >= len(target))).any()):
            raise self.spec.error(f"background_label_id {self.background} is not one of {self.classes} classes; the "
                                  "published code writes outside its memory here")
        target[marked] = 1
        return target.view(rows, self.classes)
