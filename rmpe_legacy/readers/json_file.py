"""Reads JSON files, refusing values that Python cannot compute with or write again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import reading, refuse_device

MAX_BYTES = 1 << 30
_NO_BYTE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")  # others represent a byte that is not UTF-8


def read_json(path: str | PathLike, most: int = MAX_BYTES) -> Any:
    """Read a JSON file of at most `most` bytes. An integer of 20 or more digits becomes a float, as in JavaScript.

    Raises:
        FileError: The file is not JSON in UTF-8, or contains a lone surrogate, which cannot be written or printed.
    """
    path = Path(path)
    with reading(path, "JSON file"):
        refuse_device(path)
        text = path.read_text("utf-8") if path.stat().st_size <= most else None
    if text is None:
        raise FileError(f"{path}: is larger than {most >> 20} MB, the limit")
    with reading(path, "JSON file"):
        content = json.loads(text, parse_int=_whole)
    if "\\u" in text and any(_NO_BYTE.search(word) for word in _strings(content)):
        raise FileError(f"{path}: holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character")
    return content


def _whole(text: str) -> int | float:
    return int(text) if len(text) < 20 else float(text)


def _strings(content: Any) -> Iterator[str]:
    """Yield every string, including keys."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def finite_numbers(value: Any) -> np.ndarray | None:
    """Return a list of finite numbers as (N,) float64; None for anything else."""
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and np.isfinite(numbers).all() else None
