"""What values meant in Python 2, as functions that translated sources call: arithmetic, and numbers as text.

Python 2 divided integers as integers, rounded halves away from zero, and wrote 12 digits of a float where it made text
for people: in ``print``, ``str``, ``"%s"`` and ``"{}".format``. NumPy counted an array of one value as a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .python2_files import open_file


def python2_names() -> dict[str, Any]:
    """What a translated source needs among its global names."""
    return {"__python2_divide__": divide, "__python2_divide_in_place__": divide_in_place,
            "__python2_remainder__": remainder, "__python2_negative__": negative, "__python2_round__": round_half_away,
            "__python2_item__": item, "__python2_index__": whole_index, "__python2_slice__": slice,
            "__python2_element__": element, "__python2_int__": to_int, "__python2_float__": to_float,
            "__python2_str__": to_str, "__python2_printed__": printed, "__python2_format__": format_method,
            "__python2_tostring__": tostring, "__python2_open__": open_file}


# --- numbers --------------------------------------------------------------------------------------------------------


def divide(a: Any, b: Any) -> Any:
    """``a / b``: rounded down where both are whole numbers, or arrays of such."""
    return a // b if _is_whole(a) and _is_whole(b) else a / b


def divide_in_place(a: Any, b: Any) -> Any:
    """``a /= b`` in the same sense; the value that `a` gets."""
    if _is_whole(a) and _is_whole(b):
        a //= b
    else:
        a /= b
    return a


def round_half_away(number: Any, digits: int = 0) -> float:
    """``round`` of Python 2: a float, halves away from zero."""
    value = float(number)
    if not math.isfinite(value):
        return value
    scale = 10.0 ** digits
    whole = math.floor(abs(value) * scale)
    whole += abs(value) * scale - whole >= 0.5  # exactly: adding 0.5 first would round
    return math.copysign(whole / scale, value)


def to_int(*args: Any) -> int:
    """``int``, of an array of one value too, which today's NumPy refuses."""
    return int(*map(_single, args))


def to_float(*args: Any) -> float:
    """``float`` in the same sense."""
    return float(*map(_single, args))


def element(holder: Any, value: Any) -> Any:
    """What ``holder[...] = value`` stores: in an array, an array of one value counts as the value."""
    if isinstance(holder, np.ndarray) and holder.dtype != object and isinstance(value, np.ndarray) and value.size == 1:
        return value.reshape(())
    return value


def negative(value: Any) -> Any:
    """``-value``; of truth values, the opposite ones."""
    if isinstance(value, np.ndarray | np.bool_) and value.dtype == bool:
        return ~value
    return -value


def item(holder: Any, index: Any) -> Any:
    """``holder[index]``, where an array takes floats too and drops their fractions."""
    if isinstance(holder, np.ndarray):
        index = whole_index(holder, index)
    return holder[index]


def whole_index(holder: Any, index: Any) -> Any:
    """The index that ``holder[index]`` stands for."""
    if not isinstance(holder, np.ndarray):
        return index
    if type(index) is tuple:
        return tuple(map(_whole, index))
    return _whole(index)


def take_float_sizes() -> None:
    """Let ``np.zeros((2.0, 3))`` and its like drop the fractions of sizes, as NumPy did before 1.12."""
    for name, place in (("zeros", 0), ("ones", 0), ("empty", 0), ("full", 0), ("linspace", 2)):
        if (today := getattr(np, name)).__module__ != __name__:
            setattr(np, name, _taking_float_sizes(today, place, "num" if place else "shape"))


def _taking_float_sizes(function: Callable[..., Any], place: int, keyword: str) -> Callable[..., Any]:
    @wraps(function)
    def taking(*args: Any, **options: Any) -> Any:
        if len(args) > place:
            args = (*args[:place], _whole_sizes(args[place]), *args[place + 1:])
        elif keyword in options:
            options[keyword] = _whole_sizes(options[keyword])
        return function(*args, **options)

    taking.__module__ = __name__
    return taking


def _whole_sizes(sizes: Any) -> Any:
    return tuple(map(_whole, sizes)) if isinstance(sizes, tuple | list) else _whole(sizes)


def _whole(index: Any) -> Any:
    if isinstance(index, float | np.floating):
        return int(index)
    if type(index) is slice:
        return slice(_whole(index.start), _whole(index.stop), _whole(index.step))
    return index


def _single(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) or (isinstance(value, np.ndarray) and value.dtype.kind in "iub")


# --- text -----------------------------------------------------------------------------------------------------------


class _Number(float):
    """A float that writes itself as Python 2's did, unless a format asks for something else."""

    digits = 12

    def __str__(self) -> str:
        return float_text(float(self), self.digits)

    def __format__(self, spec: str) -> str:
        return float.__format__(self, spec) if spec else float_text(float(self), 12)


class _ShortNumber(_Number):
    """NumPy's float32 and float16, whose ``str`` had 8 digits or 5; ``format`` made Python's float of them first."""

    def __new__(cls, value: np.floating) -> _ShortNumber:
        made = super().__new__(cls, value)
        made.digits = 5 if isinstance(value, np.float16) else 8
        return made


def float_text(value: float, digits: int = 12) -> str:
    """The digits that Python 2's ``str`` wrote: an exponent from 1e11 on (for 12 digits), else at least one decimal."""
    text = f"{value:.{digits}g}"
    if not text.lstrip("-").isdigit():
        return text
    if len(text.lstrip("-")) < digits:
        return f"{text}.0"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def to_str(*args: Any) -> Any:
    """``str``. Bytes are text if they hold ASCII characters alone, and else stay what they are."""
    if len(args) == 1 and isinstance(args[0], bytes | bytearray):
        return to_text(args[0])
    return str(*map(printed, args))


def to_text(value: bytes | bytearray) -> str | bytes:
    """Bytes as text if they hold ASCII characters alone, and else as they are."""
    is_text = value.isascii() and all(byte >= 32 or byte in b"\t\n\r\f" for byte in value)
    return value.decode("ascii") if is_text else bytes(value)


def tostring(holder: Any) -> Any:
    """``holder.tostring()``, which NumPy's and Python's arrays have no more."""
    return holder.tostring() if hasattr(holder, "tostring") else holder.tobytes()


def remainder(a: Any, b: Any) -> Any:
    """``a % b``, which for text is a format."""
    if not isinstance(a, str):
        return a % b
    if isinstance(b, tuple):
        return a % tuple(map(printed, b))
    return a % ({key: printed(value) for key, value in b.items()} if type(b) is dict else printed(b))


def format_method(holder: Any, *args: Any, **named: Any) -> Any:
    """``holder.format(...)``, which for text is a format."""
    if isinstance(holder, str):
        return holder.format(*map(printed, args), **{name: printed(value) for name, value in named.items()})
    return holder.format(*args, **named)


def printed(value: Any) -> Any:
    """What ``print`` is given: a float as one that writes itself as it did then, text for bytes that hold some;
    anything else as it is."""
    if isinstance(value, bytes):
        return to_text(value)
    if isinstance(value, np.float32 | np.float16):
        return _ShortNumber(value)
    return _Number(value) if type(value) is float or isinstance(value, np.float64) else value
