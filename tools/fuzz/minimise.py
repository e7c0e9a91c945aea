"""A smaller input that still shows the same."""

from __future__ import annotations

import time
from collections.abc import Callable

CHANGES = (b"", b"\0")  # what a piece may become: nothing, or zeros of its length


def minimise(data: bytes, same: Callable[[bytes], bool], seconds: float) -> bytes:
    """Leave out, then blank, ever smaller pieces as long as `same` says yes, until nothing changes or time is up."""
    end = time.monotonic() + seconds
    for change in CHANGES:
        size = max(1, len(data) // 2)
        while size:
            at, shorter = 0, False
            while at < len(data) and time.monotonic() < end:
                piece = data[at : at + size]
                candidate = data[:at] + change * len(piece) + data[at + size :]
                if candidate != data and same(candidate):
                    data, shorter = candidate, True
                    at += len(change) * size
                else:
                    at += size
            if not shorter or size > 1:
                size //= 2
            if time.monotonic() >= end:
                return data
    return data
