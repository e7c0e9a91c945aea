"""The values of a prototxt: numbers, and escapes in strings."""

from __future__ import annotations

import re
from collections.abc import Callable

from .schema import Field, float32

INT_RANGE = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_ESCAPED = dict(zip("abfnrtv", b"\a\b\f\n\r\t\v", strict=True))


def reader_of_numbers(field: Field | None) -> Callable[[str, str], float | None] | None:
    """Return a function that converts a decimal number and its fraction to a field's value, or None for other fields.

    The function returns None if the field cannot hold the value. `field` is None in a message without a type.
    """
    if field is None:
        return lambda number, fraction: float(number) if fraction else int(number)
    if field.type == "float":
        return lambda number, fraction: float32(float(number))
    if field.type == "double":
        return lambda number, fraction: float(number)
    if field.type not in INT_RANGE:
        return None
    low, high = INT_RANGE[field.type]
    return lambda number, fraction: int(number) if not fraction and low <= int(number) <= high else None


def parse_integer(token: str) -> int | None:
    """A whole number in decimal, hexadecimal or (leading 0) octal; None for anything else."""
    try:
        if token[:2] in ("0x", "0X"):
            return int(token, 16)
        return int(token, 8) if len(token) > 1 and token[0] == "0" and token.isdigit() else int(token)
    except ValueError:
        return None


def parse_number(kind: str, token: str) -> float | None:
    """A token as a floating-point number; None where it is none."""
    if kind == "name":
        return float(token) if token.lower() in ("inf", "infinity", "nan") else None
    if kind != "number":
        return None
    whole = parse_integer(token) if token[0] == "0" else None
    try:
        return float(whole) if whole is not None else float(token.rstrip("fF"))
    except OverflowError:
        return float("inf")


def unescape(match: re.Match) -> bytes:
    octal, hexadecimal, short, long, letter = match.groups()
    if octal:
        return bytes([int(octal, 8) & 255])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if letter:
        return bytes([_ESCAPED.get(letter, ord(letter))])
    return chr(int(short or long, 16)).encode("utf-8", "surrogatepass")
