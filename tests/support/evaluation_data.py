"""Groups of people and poses, measured and made up, for the tests of rmpe_legacy.evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from paths import TESTS

GOLDEN = TESTS / "golden" / "evaluation"


def split(rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """The rows of each group, of all groups' rows in one array."""
    return np.split(rows, np.cumsum(counts)[:-1])


def groups_of(archive) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Predictions, ground truth and head sizes as mpii_ap_synthetic.npz and ppn_val_arrays.npz hold them."""
    return (split(archive["pred"], archive["pred_n"]), split(archive["gt"], archive["gt_n"]),
            split(archive["head"], archive["gt_n"]))


def made_up_groups(seed: int, count: int = 12) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Random groups with all that can go wrong: nobody there, nothing found, missing joints, ties, exact thresholds."""
    rng = np.random.default_rng(seed)
    predictions, truth, heads = [], [], []
    for _ in range(count):
        people = rng.integers(0, 4)
        gt = rng.integers(0, 60, (people, 14, 2)).astype(float)
        head = rng.choice([8.0, 10.0, 20.0], people)
        found = [gt[rng.integers(people)] if people else np.zeros((14, 2)) for _ in range(rng.integers(0, 5))]
        pred = np.full((len(found), 14, 3), 0.0)
        for i, person in enumerate(found):
            pred[i, :, :2] = person + rng.choice([0, 0, 3, 4, 5, 10], (14, 2)) * rng.choice([-1, 1], (14, 2))
        pred[..., 2] = rng.choice([0.1, 0.25, 0.5, 0.9, -1.0], pred.shape[:2])
        pred[rng.random(pred.shape[:2]) < 0.2] = np.nan
        gt[rng.random(gt.shape[:2]) < 0.2] = np.nan
        gt[rng.random(people) < 0.15] = np.nan
        predictions.append(pred)
        truth.append(gt)
        heads.append(head)
    return predictions, truth, heads


def point(joint: int, *values: float, fields: Sequence[str] = ("x", "y")) -> dict[str, float]:
    """One element of the toolkit's annopoints.point."""
    return {"id": float(joint), **dict(zip(fields, values, strict=True))}
