"""Greedy non-maximum suppression, for any notion of what is too close."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def first_apart(number: int, too_close: Callable[[int, np.ndarray], np.ndarray], most: int = 0) -> list[int]:
    """Keep the first of so many candidates, best first, and each that is not too close to one that was kept.

    Args:
        number: Number of candidates.
        too_close: Called with a kept candidate and the later ones that are left (K,); tells which of these go, (K,).
        most: Number to keep at most; all if that is 0.
    """
    alive = np.arange(number)
    kept: list[int] = []
    while alive.size and not (most and len(kept) == most):
        i, alive = alive[0], alive[1:]
        kept.append(int(i))
        alive = alive[~too_close(i, alive)]
    return kept
