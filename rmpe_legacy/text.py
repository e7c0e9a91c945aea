"""Counts, lists and names in sentences and files."""

from __future__ import annotations

from collections.abc import Sequence

_PLURALS = {"box": "boxes"}
MOST_NAMES = 5  # that one sentence lists


def many(count: int, what: str) -> str:
    """``1 picture``, ``2 pictures``."""
    return f"{count} {what if count == 1 else _PLURALS.get(what, f'{what}s')}"


def shortened(names: Sequence[str]) -> str:
    """Names separated by commas; of a long list the first few, and how many there are."""
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"


def utf8(name: str) -> str:
    """A name of Caffe's, which may be any bytes, as valid UTF-8: what is not UTF-8 in it becomes \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
