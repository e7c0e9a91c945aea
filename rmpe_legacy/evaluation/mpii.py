"""MPII multi-person AP, to the numbers of the official Matlab toolkit.

Source: evaluateAP.m, assignGTmulti.m, getRPC.m, VOCap.m and genTableAP.m of evalMPII.zip (verbatim in
anibali/eval-mpii-pose@938ef9a, eval/). Its unexpected behaviour is reproduced and listed in
docs/evaluation.md; the lines that do so are marked "Quirk".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.errors import EvaluationError

from .joints import EVALUATED, column_means

MATCH_DISTANCE = 0.5  # relative to the reference head size; a joint at exactly this distance matches
HEAD_BIAS = 0.6  # reference head size / diagonal of the head rectangle (util_get_head_size.m: 0.8 * 0.75)


@dataclass(frozen=True, eq=False)
class MultiPersonAP:
    """The result for one set of groups. The order of joints is ``joints.EVALUATED``; values are per cent."""

    joint_ap: np.ndarray  # (14,) float64; NaN for a joint that is predicted but nowhere annotated
    annotated: np.ndarray  # (14,) int64: annotated joints that counted
    curves: tuple[np.ndarray, ...]  # per joint (n, 3): recall, precision and score, from the best score on

    @property
    def mean(self) -> float:
        """The mean over the 14 joints: "Total" in the table, mAP in the papers."""
        return float(np.mean(self.joint_ap))

    @property
    def table(self) -> dict[str, float]:
        """The eight columns that the toolkit prints: pairs of joints, then Total."""
        return {**column_means(self.joint_ap, EVALUATED), "Total": self.mean}

    def printed(self, name: str = "") -> str:
        """Return the two lines that genTableAP.m prints for a method of this name."""
        row = "& {}  & {}  & {}  & {}  & {}  & {} & {} & {} \\\\".format(*map(matlab_1f, self.table.values()))
        return f"{' ' * len(name)}  &Head & Shoulder & Elbow & Wrist & Hip & Knee  & Ankle & Total\\\\\n{name}{row}"


def multi_person_ap(predictions: Sequence[np.ndarray], ground_truth: Sequence[np.ndarray],
                    head_sizes: Sequence[np.ndarray]) -> MultiPersonAP:
    """Compute the AP of the 14 evaluated joints over groups of people, as the official toolkit does.

    The joints are those of ``joints.EVALUATED``, in that order. A joint whose x or y is NaN is missing. P and G may be
    0.

    Args:
        predictions: For each group (P, 14, 3): x and y in pixels, and a score.
        ground_truth: For each group (G, 14, 2), in pixels.
        head_sizes: For each group (G,), in pixels: 0.6 of the diagonal of each person's head rectangle.

    Raises:
        EvaluationError: The three do not match.
    """
    if not len(predictions) == len(ground_truth) == len(head_sizes):
        raise EvaluationError(f"predictions have {len(predictions)} groups, ground truth {len(ground_truth)} and head "
                              f"sizes {len(head_sizes)}; the numbers must be equal, in the same order")
    pred, pred_counts = _stack(predictions, (14, 3), "predictions")
    gt, gt_counts = _stack(ground_truth, (14, 2), "ground truth")
    heads, head_counts = _stack(head_sizes, (), "head sizes")
    if (gt_counts != head_counts).any():
        i = np.flatnonzero(gt_counts != head_counts)[0]
        raise EvaluationError(f"group {i + 1} has {gt_counts[i]} persons but {head_counts[i]} head sizes")
    annotated = ~np.isnan(gt).any(axis=2)
    # Quirk: the toolkit processes people only inside a loop over pairs. People of a group without predictions are not
    # counted as missed, and predictions of a group without people are not counted as wrong.
    counted = annotated[np.repeat(pred_counts > 0, gt_counts)].sum(axis=0)
    present = ~np.isnan(pred[..., :2]).any(axis=2) & np.repeat(gt_counts > 0, pred_counts)[:, None]
    correct = _assign(pred[..., :2], pred_counts, gt, gt_counts, heads, annotated)
    curves = tuple(_curve(pred[present[:, j], j, 2], correct[present[:, j], j], counted[j]) for j in range(14))
    joint_ap = np.array([100 * _average_precision(curve[:, 0], curve[:, 1]) for curve in curves])
    return MultiPersonAP(joint_ap, counted, curves)


def _stack(arrays: Sequence[np.ndarray], shape: tuple[int, ...], what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of all groups in one float64 array, and their number per group."""
    rows = [np.zeros((0, *shape))]
    for i, array in enumerate(arrays):
        try:
            array = np.asarray(array, np.float64)
        except (TypeError, ValueError):
            raise EvaluationError(f"{what} of group {i + 1} are not an array of numbers") from None
        if array.shape == (0,):  # an empty list
            array = array.reshape(0, *shape)
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            needed = "(people, " + "".join(f"{n}, " for n in shape).rstrip(" ,") + ")" if shape else "(people,)"
            raise EvaluationError(f"{what} of group {i + 1} are {array.shape}; expected {needed}")
        rows.append(array)
    return np.concatenate(rows), np.array([len(r) for r in rows[1:]], np.int64)


def _assign(pred_xy: np.ndarray, pred_counts: np.ndarray, gt: np.ndarray, gt_counts: np.ndarray, heads: np.ndarray,
            annotated: np.ndarray) -> np.ndarray:
    """Return which predicted joints match the person that their pose is assigned to: (P, 14) bool.

    A pose selects the person of whose annotated joints it matches the largest fraction; each person is assigned the
    best of these poses if it matches any joint. Scores do not matter. Ties go to the first.
    """
    correct = np.zeros(pred_xy.shape[:2], bool)
    pair_pred, pair_gt, starts = _pairs(pred_counts, gt_counts)
    if not len(starts):
        return correct
    dx, dy = np.moveaxis(pred_xy[pair_pred] - gt[pair_gt], -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.sqrt(dx * dx + dy * dy) / heads[pair_gt, None] <= MATCH_DISTANCE  # False if either is missing
        share = hit.sum(axis=1) / annotated.sum(axis=1)[pair_gt]
    share[np.isnan(share)] = -1  # Quirk: 0/0 for a person without joints, which Matlab's max ignores
    bids = _first_maxima(share, starts)
    persons, values = pair_gt[bids], share[bids]
    best_first = np.lexsort((bids, -values, persons))
    _, first = np.unique(persons[best_first], return_index=True)
    taken = bids[best_first[first]]
    taken = taken[share[taken] > 0]
    correct[pair_pred[taken]] = hit[taken]
    return correct


def _pairs(pred_counts: np.ndarray, gt_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of a prediction and a person of its group, ordered by prediction, and where each one's start."""
    partners = np.repeat(gt_counts, pred_counts)  # per prediction
    first_partner = np.repeat(np.cumsum(gt_counts) - gt_counts, pred_counts)
    starts = np.cumsum(partners) - partners
    pair_pred = np.repeat(np.arange(len(partners)), partners)
    pair_gt = np.arange(len(pair_pred)) + (first_partner - starts)[pair_pred]
    return pair_pred, pair_gt, starts[partners > 0]


def _first_maxima(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the index of the first maximum of each run values[starts[i]:starts[i + 1]]."""
    largest = np.repeat(np.maximum.reduceat(values, starts), np.diff(starts, append=len(values)))
    return np.minimum.reduceat(np.where(values == largest, np.arange(len(values)), len(values)), starts)


def _curve(scores: np.ndarray, correct: np.ndarray, annotated: int) -> np.ndarray:
    """Return recall, precision and score after each prediction, best score first: (n, 3) (getRPC.m)."""
    # Matlab's descending sort is stable and puts NaN before all numbers.
    order = np.lexsort((-scores, ~np.isnan(scores)))
    hits = np.cumsum(correct[order])
    with np.errstate(invalid="ignore"):
        recall = hits / np.float64(annotated)  # Quirk: 0/0 = NaN if the joint is never annotated
    return np.stack([recall, hits / np.arange(1, len(hits) + 1), scores[order]], axis=1)


def _average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area under the precision envelope, at every recall (VOCap.m, as in VOC 2010)."""
    recall = np.concatenate([[0], recall, [1]])
    envelope = np.maximum.accumulate(np.concatenate([precision, [0]])[::-1])[::-1]
    steps = np.diff(recall)
    return float((steps * envelope)[steps != 0].sum())


def matlab_1f(value: float) -> str:
    """Format a number as Matlab's %1.1f does."""
    return "NaN" if np.isnan(value) else f"{value:1.1f}"
