"""Mean average precision of DetectionEvaluate's rows over a test net's batches, as a solver with eval_type "detection".

Sources: Solver::TestDetection (solver.cpp:404-523), ComputeAP (bbox_util.cpp:991-1072) of RMPE@5188c23.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rmpe_legacy.errors import NetError

log = logging.getLogger(__name__)
AP_VERSIONS = ("11point", "MaxIntegral", "Integral")
EPSILON = 1e-6
ROW = 5  # image, label, score, true positive, false positive; or -1, label, number of true boxes


class DetectionScores:
    """The rows of a DetectionEvaluate output, collected batch by batch."""

    def __init__(self) -> None:
        self._positives: dict[int, int] = defaultdict(int)  # label -> true boxes
        self._rows: dict[int, list[tuple[float, int]]] = defaultdict(list)  # label -> (score, is a true positive)

    def add(self, blob: np.ndarray) -> None:
        """Add one batch, (1, 1, rows, 5).

        Raises:
            NetError: The blob has another shape.
        """
        if blob.ndim != 4 or blob.shape[3] != ROW:
            raise NetError(f"a test net with eval_type \"detection\" must output rows of {ROW} values, as "
                           f"DetectionEvaluate does; this output is {' x '.join(map(str, blob.shape))}")
        for image, label, score, hit, miss in blob[0, 0]:
            if int(image) == -1:
                self._positives[int(label)] += int(score)
            elif int(hit) or int(miss):  # neither: it met a difficult box, which does not count
                self._rows[int(label)].append((float(score), int(hit)))

    def mean_ap(self, version: str) -> float:
        """Return the mean AP, 0 to 1, over all labels that have true boxes. A label without detections counts as 0,
        with a warning.

        Args:
            version: How to compute each AP: one of AP_VERSIONS.

        Raises:
            NetError: There is no such version, or a true box was found twice.
        """
        total = np.float32(0)
        for label in sorted(self._positives):
            if label in self._rows:
                total += np.float32(average_precision(self._rows[label], self._positives[label], version))
            else:
                log.warning("Missing true_pos for label: %d", label)
        return float(total / np.float32(len(self._positives))) if self._positives else float("nan")


def average_precision(rows: Sequence[tuple[float, int]], positives: int, version: str) -> float:
    """Return the average precision of one label, 0 to 1.

    Args:
        rows: (score, 1 if it is a true positive, otherwise 0) of each detection.
        positives: Number of true boxes.
        version: How to compute the AP: one of AP_VERSIONS.

    Raises:
        NetError: There is no such version, or there are more true positives than true boxes.
    """
    if version not in AP_VERSIONS:
        raise NetError(f"ap_version {version!r} is not one of {', '.join(AP_VERSIONS)}")
    if not rows or not positives:
        return 0.0
    scores = np.array([score for score, _ in rows], np.float32)
    hits = np.array([hit for _, hit in rows])[np.argsort(-scores, kind="stable")].cumsum()
    if hits[-1] > positives:
        raise NetError(f"{hits[-1]} true positives for {positives} true boxes; each may be found only once")
    precision = hits.astype(np.float32) / np.arange(1, len(hits) + 1, dtype=np.float32)
    recall = hits.astype(np.float32) / np.float32(positives)
    return float({"11point": _eleven_point, "MaxIntegral": _max_integral, "Integral": _integral}[version](
        precision, recall))


def _eleven_point(precision: np.ndarray, recall: np.ndarray) -> np.float32:
    """VOC 2007: the mean of the largest precision at recalls of 0, 0.1, ..., 1."""
    best = [precision[recall.astype(np.float64) >= j / 10].max(initial=0) for j in range(11)]  # in double, as C++
    total = np.float32(0)
    for value in reversed(best):
        total += np.float32(value) / np.float32(11)
    return total


def _max_integral(precision: np.ndarray, recall: np.ndarray) -> np.float32:
    """VOC 2012: the area below the largest precision at this recall or beyond; each step counts with its left end."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall)
    return np.float32((best[:-1] * steps)[steps > EPSILON].sum() + best[0] * recall[0])


def _integral(precision: np.ndarray, recall: np.ndarray) -> np.float32:
    """The area below the precision itself."""
    steps = np.abs(np.diff(recall, prepend=np.float32(0)))
    return np.float32((precision * steps)[steps > EPSILON].sum())
