"""Counts in sentences."""

from __future__ import annotations

_PLURALS = {"box": "boxes"}


def many(count: int, what: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count} {what if count == 1 else _PLURALS.get(what, f'{what}s')}"
