"""Batches of a network's size, for ``forward_all`` and ``forward_backward_all``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rmpe_legacy.errors import InputError


def batches(values: Mapping[str, Any], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield values by name, (n, ...) each, in batches (size, ...), the last filled up with zeros."""
    for begin in range(0, item_count(values) if values else 0, size):
        batch = {name: np.asarray(items[begin:begin + size]) for name, items in values.items()}
        yield {name: np.concatenate([items, np.zeros((size - len(items), *items.shape[1:]), items.dtype)])
               if len(items) < size else items for name, items in batch.items()}


def item_count(values: Mapping[str, Any]) -> int:
    """Return how many items are given. Raises InputError if there are no values."""
    if not values:
        raise InputError("no values are given; give the network's inputs by name")
    return len(next(iter(values.values())))
