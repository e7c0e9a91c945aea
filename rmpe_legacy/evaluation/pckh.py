"""PCKh for single-person poses, in the three protocols in use, which differ in the second decimal.

"official": the MPII toolkit: evaluatePCKh.m, computePCK.m, getDistPCKh.m, genTablePCK.m (verbatim in
    anibali/eval-mpii-pose@938ef9a, eval/). 14 joints; Head is the mean of neck and head top.
"tompson": the script that Tompson et al. published and most papers use: eval_PCKh.m and eval_PCKh.py of
    bearpaw/pytorch-pose. Head is the head top alone; a joint at exactly the threshold misses.
"demo": the hourglass demo and its training code, util.lua:132-185 of multi-human-pose@094e29b. 16 joints; a joint
    with x or y up to 1 counts as not annotated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.errors import EvaluationError

from .joints import COLUMNS, EVALUATED, EVALUATED_IDS, MPII, column_means
from .mpii import matlab_1f

THRESHOLD = 0.5  # of the reference head size
_FINE = np.append(np.arange(50) * 0.01, THRESHOLD)  # 0:0.01:0.5
_COARSE = np.append(np.arange(10) * 0.05, THRESHOLD)  # the demo's eleven points
_UPPER_BODY = slice(6, 12)  # wrists, elbows and shoulders among the 14


@dataclass(frozen=True, eq=False)
class PCKh:
    """The result of one protocol; values are per cent, NaN for a joint that is nowhere annotated."""

    protocol: str
    joints: tuple[str, ...]  # names of the J joints that the protocol evaluates
    per_joint: np.ndarray  # (J,) float64
    annotated: np.ndarray  # (J,) int64
    table: dict[str, float]  # the columns of the protocol's tables
    thresholds: np.ndarray  # (T,) float64, 0 to 0.5
    curves: np.ndarray  # (T, J): per_joint at each threshold
    total_curve: np.ndarray  # (T,): "official": all joints pooled; otherwise the mean over joints

    @property
    def auc(self) -> float:
        """The area under total_curve in per cent, with thresholds scaled to 0..1.

        Differs: area_under_curve.m integrates the same polygon by adaptive quadrature, this is its exact area.
        """
        x, y = self.thresholds / self.thresholds[-1], self.total_curve
        return float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum())

    def printed(self, name: str = "") -> str:
        """Return the lines that the protocol's own tool prints for a method of this name."""
        return _PRINTERS[self.protocol](self, name)


def pckh(predictions: np.ndarray, ground_truth: np.ndarray, head_sizes: np.ndarray,
         protocol: str = "official") -> PCKh:
    """Compute the PCKh@0.5 of N persons in one of PROTOCOLS.

    Args:
        predictions: (N, 16, 2) in pixels, joints by MPII's id; NaN counts as a miss.
        ground_truth: (N, 16, 2) in pixels; NaN: not annotated.
        head_sizes: (N,) in pixels: 0.6 of the diagonal of the head rectangle.
        protocol: One of PROTOCOLS.

    Raises:
        EvaluationError: The arrays do not match.
    """
    if protocol not in PROTOCOLS:
        raise EvaluationError(f"PCKh protocol {protocol!r} is not one of {', '.join(PROTOCOLS)}")
    pred, gt = _persons(predictions, "predictions"), _persons(ground_truth, "ground truth")
    heads = np.asarray(head_sizes, np.float64)
    if len(pred) != len(gt) or heads.shape != (len(gt),):
        raise EvaluationError(f"{len(pred)} predictions, {len(gt)} persons and head sizes {heads.shape}; expected one "
                              "of each per person, in the same order")
    diff = pred - gt
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.sqrt((diff * diff).sum(axis=2)) / heads[:, None]
    # Quirk: with a head size of 0 a perfect joint is 0/0, which the official toolkit treats as not annotated.
    undefined = np.isnan(pred).any(axis=2) if protocol == "official" else np.isnan(distance)
    distance[undefined] = np.inf
    distance[np.isnan(gt).any(axis=2)] = np.nan  # not annotated
    return PROTOCOLS[protocol](distance, gt)


def _persons(joints: np.ndarray, what: str) -> np.ndarray:
    try:
        joints = np.asarray(joints, np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"{what} are not an array of numbers") from None
    if joints.ndim != 3 or joints.shape[1:] != (len(MPII), 2):
        raise EvaluationError(f"{what} are {joints.shape}; expected (persons, {len(MPII)}, 2), in the order of MPII's "
                              "joint ids")
    return joints


def _official(distance: np.ndarray, _: np.ndarray) -> PCKh:
    distance = distance[:, EVALUATED_IDS]
    curves = _rates(distance, _FINE)
    total = _rates(distance.reshape(-1, 1), _FINE)[:, 0]
    upper = _rates(distance[:, _UPPER_BODY].reshape(-1, 1), _FINE)[-1, 0]
    table = {**column_means(curves[-1], EVALUATED), "UBody": float(upper), "Total": float(total[-1])}
    return PCKh("official", EVALUATED, curves[-1], _count(distance), table, _FINE, curves, total)


def _tompson(distance: np.ndarray, _: np.ndarray) -> PCKh:
    curves = _rates(distance, _FINE, np.less)
    counts, values, ids = _count(distance), curves[-1], list(EVALUATED_IDS)
    hits = _rates(distance[:, ids].reshape(-1, 1), _FINE, np.less)
    table = {**column_means(values, MPII), "Head": float(values[MPII.index("head")]),
             "Mean14": float(values[ids].mean()),
             "Pooled14": float(hits[-1, 0])}  # what HRNet's copy of the script calls Mean
    return PCKh("tompson", MPII, values, counts, table, _FINE, curves, curves[:, ids].mean(axis=1))


def _demo(distance: np.ndarray, gt: np.ndarray) -> PCKh:
    with np.errstate(invalid="ignore"):
        distance[~(gt > 1).all(axis=2)] = np.nan
    # Differs: a joint that is never annotated is NaN; in the demo it is -1, which enters the means.
    curves = _rates(distance, _COARSE)
    values = curves[-1]
    table = {**column_means(values, MPII), "Mean14": float(values[list(EVALUATED_IDS)].mean()),
             "Mean16": float(values.mean())}
    return PCKh("demo", MPII, values, _count(distance), table, _COARSE, curves, curves.mean(axis=1))


def _count(distance: np.ndarray) -> np.ndarray:
    return (~np.isnan(distance)).sum(axis=0)


def _rates(distance: np.ndarray, thresholds: np.ndarray,
           hit: Callable[[np.ndarray, float], np.ndarray] = np.less_equal) -> np.ndarray:
    """Return the percentage of annotated joints within each threshold, (T, J), from distances (N, J)."""
    with np.errstate(invalid="ignore"):
        hits = np.array([hit(distance, t).sum(axis=0) for t in thresholds])
        return 100 * (hits / _count(distance).astype(np.float64))


def _print_official(result: PCKh, name: str) -> str:
    row = "& {}  & {}  & {}  & {}  & {}  & {} & {} & {} & {} \\\\".format(*map(matlab_1f, result.table.values()))
    return (f"{' ' * len(name)}  &Head & Shoulder & Elbow & Wrist & Hip & Knee  & Ankle & UBody & Total \\\\\n"
            f"{name}{row}\n{name}, AUC: {matlab_1f(result.auc)}")


def _print_tompson(result: PCKh, name: str) -> str:
    row = "{:.2f}  {:.2f}     {:.2f}  {:.2f}   {:.2f}   {:.2f}   {:.2f}   {:.2f}".format(
        *(result.table[column] for column in (*COLUMNS, "Mean14")))
    return (f"Prediction file: {name}\n\n"
            f"Head,   Shoulder, Elbow,  Wrist,   Hip ,     Knee  , Ankle ,  Mean\n{row}")


def _print_demo(result: PCKh, name: str) -> str:
    """Return the demo's six plots, in fractions; the demo omits the hips."""
    shown = ("Head", "Knee", "Ankle", "Shoulder", "Elbow", "Wrist")
    return "\n".join(f"{title}\t\n{name}\t{result.table[title] / 100:.14g}\t" for title in shown)


PROTOCOLS: dict[str, Callable[[np.ndarray, np.ndarray], PCKh]] = {
    "official": _official, "tompson": _tompson, "demo": _demo}
_PRINTERS = {"official": _print_official, "tompson": _print_tompson, "demo": _print_demo}
