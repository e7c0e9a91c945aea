"""Pieces of Python source: numbers, tuples and arguments as one would write them by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from ..graph import Dim, Dims


def number(value: float) -> str:
    """Return a number in short form: a float has only the digits that float32 needs."""
    if isinstance(value, int | np.integer):
        return str(int(value))
    if not np.isfinite(value):
        return f'float("{value}")'
    short = float(str(np.float32(value)))
    value = short if np.float32(short) == np.float32(value) and float(np.float32(value)) == value else float(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else repr(value)


def numbers(values: Iterable[float] | Tensor) -> str:
    """Return a list of numbers."""
    return f"[{', '.join(number(float(value)) for value in values)}]"


def bracketed(value: float) -> str:
    """Return a number as an operand: in brackets if it is negative."""
    return f"({number(value)})" if value < 0 else number(value)


def sizes(values: Sequence[int]) -> str:
    """Return one size per axis: a single number if all are equal, else a tuple."""
    return str(values[0]) if len(set(values)) == 1 else pair(values)


def pair(values: Iterable[object]) -> str:
    """Return a tuple of several numbers."""
    return f"({', '.join(map(str, values))})"


def arguments(*positional: object, **settings: tuple[str, str]) -> str:
    """Return the arguments of a call. A setting, given as (value, default), is left out if the two are equal."""
    return ", ".join([*map(str, positional),
                      *(f"{name}={value}" for name, (value, default) in settings.items() if value != default)])


def reshape_arguments(x: str, have: Dims, want: Dims) -> str:
    """Return the arguments of a reshape of `x`: a size that depends on the batch is read from x, or is -1."""

    def one(i: int, dim: Dim) -> str:
        return str(dim) if isinstance(dim, int) else f"{x}.shape[{i}]" if have[i : i + 1] == (dim,) else "-1"

    return ", ".join(one(i, dim) for i, dim in enumerate(want)) or "()"
