"""Sequences of labels, and connectionist temporal classification.

Sources: {continuation_indicator,labelsequence_accuracy,ctc_loss,ctc_decoder}_layer.cpp and 3rdparty/detail/cpu_ctc.cuh
of dlunion/CC4.0@6fb51e4, and {ctc_loss,ctc_decoder}_layer.cpp of MhLiao/TextBoxes_plusplus@39d4898.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import JUDGES, Count, Layer, Shape, count, shape_text
from .loss import given
from .registry import Choice, chooses, register

Array = np.ndarray


@register("ContinuationIndicator", form="")
class ContinuationIndicator(Layer):
    """Which steps continue a sequence, for LSTM: (time_step, batch), 0 in the first row and 1 in the others. The batch
    is batch_size, or that of a bottom (of DeepDetect, its size along `axis`)."""

    params = ("continuation_indicator_param",)
    bottoms = (0, 1)
    is_constant = True
    exact = True
    refuses = unforced = (0,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("continuation_indicator_param")
        axis = param.axis if "axis" in param.descriptor.fields else 0
        batch = (bottom[0][self.axis(axis, len(bottom[0]))] if bottom and axis else self.nchw(bottom[0])[0] if bottom
                 else param.batch_size if "batch_size" in param.descriptor.fields else 0)
        if not batch or not param.time_step:
            raise self.spec.error("needs time_step, and batch_size or a bottom")
        self.shape = (param.time_step, batch)
        return [self.shape]

    def forward(self, *bottoms: Tensor) -> Tensor:
        top = torch.ones(self.shape, device=bottoms[0].device if bottoms else None)
        top[0] = 0
        return top


@register("LabelsequenceAccuracy", form="")
class LabelsequenceAccuracy(Layer):
    """The share of sequences that are read without a mistake: scores (N, T, C) and labels (N, L) -> a scalar.

    Of the best labels of the steps, repeated ones count once, and blanks not at all.
    """

    params = ("labelsequence_accuracy_param",)
    bottoms = 2
    refuses = unforced = (0, 1)
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 3 or len(bottom[1]) < 2 or bottom[0][0] != bottom[1][0]:
            raise self.spec.error("needs scores (N, T, C) and labels (N, L); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        blank = self.spec.get("labelsequence_accuracy_param").blank_label
        best = x.detach().argmax(2).tolist()
        right = 0
        for read, wanted in zip(best, label.detach().flatten(1).long().tolist(), strict=True):
            before = [blank, *read]
            found = [k for i, k in enumerate(read) if k not in (before[i], blank)]
            right += found == [k for k in wanted if k != blank]
        return x.new_tensor(right / max(1, len(best)))


def alignments(logits: Array, labels: Sequence[int], blank: int, merged: bool = True) -> tuple[float, Array]:
    """The logarithm of the probability that scores (T, C) are read as `labels`, and its negative's gradient for the
    scores, (T, C), all in double precision.

    A label may be read several times running, as one (`merged`) or as several, with blanks between any two. Where no
    reading gives the labels, the gradient is the softmax.
    """
    logits = logits - logits.max(1, keepdims=True)
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    stays = (states == blank) | merged
    skips = states[2:] != blank
    if merged:
        skips &= states[2:] != states[:-2]
    emitted = log[:, states]
    through = _paths(emitted, stays, skips) + _paths(emitted[::-1, ::-1], stays, skips[::-1])[::-1, ::-1] - emitted
    total = float(np.logaddexp.reduce(through[0]))
    share = np.zeros_like(log)
    if np.isfinite(total):
        for state, values in zip(states, np.exp(through - total).T, strict=True):
            share[:, state] += values
    return total, np.exp(log) - share


def _paths(emitted: Array, stays: Array, skips: Array) -> Array:
    """The logarithms of the probabilities of all paths to each state at each step, (T, U)."""
    reach = np.full_like(emitted, -np.inf)
    reach[0, :2] = emitted[0, :2]
    for t in range(1, len(emitted)):
        last = reach[t - 1]
        now = np.where(stays, last, -np.inf)
        now[1:] = np.logaddexp(now[1:], last[:-1])
        now[2:] = np.where(skips, np.logaddexp(now[2:], last[:-2]), now[2:])
        reach[t] = now + emitted[t]
    return reach


@register("CtcLoss", form="")
class CtcLoss(Layer):
    """Connectionist temporal classification as warp-ctc computes it: scores (T, N, C) and labels (N, L) -> a scalar,
    the mean over sequences. Blanks among the labels do not count.

    As published, the gradient is not divided by N. Differs: of a sequence that is too short for its labels, which
    costs 0, the published gradient is what its memory held; here it is 0.
    """

    params = ("ctc_loss_param",)
    bottoms = 2
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES
    refuses = unforced = (1,)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("ctc_loss_param")
        self.blank, self.steps, alphabet = 0, 0, 0
        if self.spec.has("ctc_loss_param"):
            self.blank, self.steps, alphabet = param.blank_label, param.time_step, param.alphabet_size
            if not (self.steps and alphabet):
                raise self.spec.error("needs time_step and alphabet_size, both above 0")
        if len(bottom[0]) != 3 or (alphabet and alphabet != bottom[0][2]) or self.steps > bottom[0][0]:
            raise self.spec.error(f"needs scores (T, N, C) of alphabet_size labels and at least time_step steps; its "
                                  f"bottom is {shape_text(bottom[0])}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 3 or len(bottom[1]) != 2 or bottom[0][1] != bottom[1][0]:
            raise self.spec.error("needs scores (T, N, C) and labels (N, L); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        wanted = label.detach().cpu().long()
        self.check_classes(wanted, x.shape[2])
        scores = x.detach()[: self.steps or None].cpu().double().numpy()
        loss, slope = 0.0, np.zeros(x.shape)
        for n, row in enumerate(wanted.tolist()):
            labels = [k for k in row if k != self.blank]
            if len(labels) + sum(a == b for a, b in pairwise(labels)) > len(scores):
                continue
            total, slope[: len(scores), n] = alignments(scores[:, n], labels, self.blank)
            loss -= total
        return given(x.new_tensor(loss / x.shape[1]), lambda: (torch.from_numpy(slope).to(x), None), x, label)


class _Sequences(Layer):
    """Base of CTC layers with scores (T, N, C) and indicators (T, N), which are 0 where a sequence begins."""

    refuses: tuple[int, ...] = (1, 2)
    unforced: tuple[int, ...] = (1, 2)
    works_in_place = False
    not_exportable = JUDGES

    def check(self, bottom: Sequence[Shape]) -> None:
        """Raise LayerError unless the bottoms are of one number of steps and sequences."""
        if len(bottom[0]) != 3 and (len(bottom[0]) != 4 or bottom[0][3] != 1):
            raise self.spec.error(f"needs scores (T, N, C); its first bottom is {shape_text(bottom[0])}")
        if any(len(shape) < 2 or shape[:2] != bottom[0][:2] or count(shape[2:]) != 1 for shape in bottom[1:]):
            raise self.spec.error("needs indicators and labels of the steps and sequences of its scores, (T, N) each; "
                                  f"its bottoms are {', '.join(map(shape_text, bottom))}")

    @staticmethod
    def lengths(go: Tensor) -> list[int]:
        """How long each sequence is: until a second begins."""
        ends = (go.detach().flatten(1)[1:] + 0.5).trunc() == 0
        steps = torch.arange(1, len(go), device=go.device).unsqueeze(1)
        return torch.where(ends, steps, len(go)).amin(0).tolist() if len(go) > 1 else [len(go)] * go.shape[1]


def blank_of(number: int, classes: int) -> int:
    """The label that is the blank; below 0 it is the last."""
    return number if number >= 0 else classes - 1


def until_negative(spec: LayerSpec, label: Tensor) -> list[list[int]]:
    """The labels (T, N) of each sequence, rounded, until a negative one. Raises LayerError for nan and inf."""
    if not bool(label.isfinite().all()):
        raise spec.error("its labels must be numbers; some are infinite or nan")
    rows = label.detach().flatten(1).T.tolist()
    return [[int(k + 0.5) for k in row[: next((t for t, k in enumerate(row) if k < 0), len(row))]] for row in rows]


@register("CTCLoss", form="")
class CTCLoss(_Sequences):
    """Connectionist temporal classification: scores (T, N, C), indicators (T, N), 0 where a sequence begins, and labels
    (T, N), negative behind the last -> a scalar, the mean over sequences.

    The first output_delay scores do not count. preprocess_collapse_repeated takes equal labels running for one, and
    without ctc_merge_repeated each reading of a label counts as one. As published, the gradient is not divided by N and
    does not depend on the top's diff, and loss_calculation_t has no effect.
    """

    params = ("ctc_loss_param",)
    bottoms = 3
    is_loss = True
    caffe_source = "ctc_loss_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.param = self.spec.get("ctc_loss_param")
        if self.param.output_delay < 0:
            raise self.spec.error(f"output_delay is {self.param.output_delay}; it must not be negative")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom)
        if self.param.blank_index >= bottom[0][2]:
            raise self.spec.error(f"blank_index {self.param.blank_index} is none of its {bottom[0][2]} labels")
        return [()]

    def forward(self, x: Tensor, go: Tensor, label: Tensor) -> Tensor:
        scores = x.detach().flatten(2).cpu().double().numpy()
        blank = blank_of(self.param.blank_index, scores.shape[2])
        loss, slope = 0.0, np.zeros(scores.shape)
        for n, (steps, labels) in enumerate(zip(self.lengths(go), until_negative(self.spec, label), strict=True)):
            begin = self.param.output_delay
            if not labels and steps <= 1:
                continue
            if not labels or len(labels) > steps - begin:
                raise self.spec.error(f"sequence {n} has {len(labels)} labels and {steps} steps, output_delay {begin}; "
                                      "it needs a label, and a step for each label")
            wanted = self._wanted(labels, blank, scores.shape[2])
            total, slope[begin:steps, n] = alignments(scores[begin:steps, n], wanted, blank,
                                                      self.param.ctc_merge_repeated)
            loss -= total
        slopes = torch.from_numpy(slope).view(x.shape).to(x)
        return given(x.new_tensor(loss / x.shape[1]), lambda: (slopes, None, None), x, go, label, weighted=False)

    def _wanted(self, labels: Sequence[int], blank: int, classes: int) -> list[int]:
        """The labels until the first that is none. Raises LayerError if there are some behind it."""
        if self.param.preprocess_collapse_repeated:
            labels = [k for i, k in enumerate(labels) if i == 0 or k != labels[i - 1]]
        end = next((i for i, k in enumerate(labels) if k >= classes or k == blank), len(labels))
        if any(k < classes and k != blank for k in labels[end:]):
            raise self.spec.error(f"its labels {list(labels)} go on behind the blank, {blank}; end a sequence by a "
                                  "negative number")
        return list(labels[:end])


def read(best: Sequence[int], blank: int, merged: bool) -> list[int]:
    """The labels that the best ones of the steps give: without blanks; `merged`, equal ones running count once."""
    return [k for i, k in enumerate(best) if k != blank and not (merged and i and k == best[i - 1])]


def edits(a: Sequence[int], b: Sequence[int]) -> int:
    """How many labels must be put in, left out or replaced to make one sequence of the other."""
    row = list(range(len(b) + 1))
    for i, k in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (k != other))
    return row[-1]


@register("CTCGreedyDecoder", form="")
class CTCGreedyDecoder(_Sequences):
    """What the best labels of the steps read: scores (T, N, C), indicators (T, N), 0 where a sequence begins, and
    perhaps labels (T, N) -> the labels (N, T, 1, 1), -1 behind the last; perhaps the negative sum of the scores of each
    sequence (N, 1, 1, 1); and with labels 1 less the mean share of edits, (1, 1, 1, 1)."""

    params = ("ctc_decoder_param",)
    bottoms: Count = (2, 3)
    tops: Count = (1, 3)
    refuses = unforced = (0, 1, 2)
    not_exportable = ""
    is_discontinuous = True
    caffe_source = "ctc_decoder_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.not_exportable = JUDGES if len(bottom) > 2 else ""

    def reading(self, classes: int) -> tuple[int, bool]:
        """The blank label, and whether labels that repeat are one."""
        param = self.spec.get("ctc_decoder_param")
        return blank_of(param.blank_index, classes), param.ctc_merge_repeated

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(bottom)
        t, n = bottom[0][:2]
        score, accuracy = (n, 1, 1, 1), (1, 1, 1, 1)
        tops = {(2, 2): [score], (3, 2): [accuracy], (3, 3): [score, accuracy]}.get((len(bottom), self.top_count), [])
        if len(tops) + 1 != self.top_count:
            raise self.spec.error("with two bottoms it gives labels and scores, with three also the accuracy; it is "
                                  f"given {self.top_count} tops")
        return [(n, t, 1, 1), *tops]

    def forward(self, x: Tensor, go: Tensor, *label: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().flatten(2)
        blank, merges = self.reading(x.shape[2])
        value, best = x.max(2)
        found, score, top = [], x.new_zeros(x.shape[1]), x.new_full((x.shape[1], len(x)), -1)
        for n, steps in enumerate(self.lengths(go)):
            found.append(read(best[:steps, n].tolist(), blank, merges))
            score[n] = -value[:steps, n].sum()
            top[n, : len(found[n])] = x.new_tensor(found[n])
        tops = [top.view(*top.shape, 1, 1)]
        if self.top_count == 3 or (self.top_count == 2 and not label):
            tops.append(score.view(-1, 1, 1, 1))
        if label and self.top_count > 1:
            wanted = until_negative(self.spec, label[0])
            shares = [edits(a, b) / max(len(a), len(b), 1) for a, b in zip(wanted, found, strict=True)]
            tops.append(x.new_tensor(1 - sum(shares) / len(shares)).view(1, 1, 1, 1))
        return tuple(tops)


class _WholeGreedyDecoder(Layer):
    """Base: what the best labels of all steps read: scores (T, N, C) -> the labels (N, T, 1, 1), -1 behind the last; or
    with labels (N, L) too -> 1 less the mean share of edits, and the share of sequences without any, (1, 2, 1, 1).
    Blanks among the labels do not count, nor what stands behind a negative one."""

    bottoms: Count = (1, 2)
    works_in_place = False
    unforced = (0, 1)
    is_discontinuous = True
    caffe_source = "ctc_decoder_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.not_exportable = JUDGES if len(bottom) > 1 else ""

    def reading(self, classes: int) -> tuple[int, bool]:
        """The blank label, and whether labels that repeat are one."""
        raise NotImplementedError

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, *labels = bottom
        labelled = all(len(label) > 1 and label[:1] == scores[1:2] for label in labels)
        if len(scores) < 3 or count(scores[3:]) != 1 or not labelled:
            raise self.spec.error("needs scores (T, N, C), and labels (N, L) or none; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(1, 2, 1, 1) if len(bottom) > 1 else (scores[1], scores[0], 1, 1)]

    def forward(self, x: Tensor, *label: Tensor) -> Tensor:
        blank, merges = self.reading(x.shape[2])
        found = [read(best, blank, merges) for best in x.detach().flatten(2).argmax(2).T.tolist()]
        if not label:
            top = x.new_full((x.shape[1], len(x)), -1)
            for n, labels in enumerate(found):
                top[n, : len(labels)] = x.new_tensor(labels)
            return top.view(*top.shape, 1, 1)
        wanted = [[k for k in row if k != blank] for row in until_negative(self.spec, label[0].flatten(1).T)]
        differences = [edits(a, b) for a, b in zip(wanted, found, strict=True)]
        shares = [d / max(len(a), len(b), 1) for d, a, b in zip(differences, wanted, found, strict=True)]
        whole = sum(d == 0 and bool(a) for d, a in zip(differences, wanted, strict=True))
        return x.new_tensor([1 - sum(shares) / len(shares), whole / len(found)]).view(1, 2, 1, 1)


@register("CTCGreedyDecoder", form="cc4")
class WholeGreedyDecoder(_WholeGreedyDecoder):
    """As the base says; labels that repeat are one."""

    params = ("ctc_loss_param",)

    def reading(self, classes: int) -> tuple[int, bool]:
        return blank_of(self.spec.get("ctc_loss_param").blank_label, classes), True


@register("CTCGreedyDecoder", form="ocr")
class OcrGreedyDecoder(_WholeGreedyDecoder):
    """As the base says. Source: ctc_decoder_layer.cpp of senlinuc/caffe_ocr@81642f6."""

    params = ("ctc_decoder_param",)

    def reading(self, classes: int) -> tuple[int, bool]:
        param = self.spec.get("ctc_decoder_param")
        return blank_of(param.blank_index, classes), param.ctc_merge_repeated


@chooses("CTCGreedyDecoder")
def _choose(spec: LayerSpec) -> Choice:
    """One bottom, or the parameters of a loss, are CC4.0's."""
    own = len(spec.bottom) == 1 or spec.has("ctc_loss_param")
    return Choice("cc4", ("", "ocr")) if own else Choice("", ("cc4", "ocr"))
