"""The values of a prototxt: numbers, and escapes in strings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from .schema import Field, float32

INT_RANGE = {"int32": (-(1 << 31), (1 << 31) - 1), "uint32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_NAME = r"([A-Za-z_][A-Za-z0-9_]*)"
_WHOLE, _FRACTION = r"-?(?:0|[1-9][0-9]{0,17})", r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
# A field with a plain value, in one match: its name; a string, or a number and what makes that a fraction, or a word.
PLAIN_FIELD = re.compile(
    rf"""\s*{_NAME}:[ \t]*
    (?: "([^"\\\n]*)" (?=\s*[A-Za-z_}}])
      | ({_WHOLE}({_FRACTION})) (?=[\s}}])
      | {_NAME} (?=[\s}}]) )""", re.X | re.A)
_NUMBER = rf":[ \t]*{_WHOLE}{_FRACTION}(?=[\s}}])"
_RUN = re.compile(rf"\s*{_NAME}{_NUMBER}(?:\s*\1{_NUMBER})*", re.A)  # of numbers, under one name
_ESCAPED = dict(zip("abfnrtv", b"\a\b\f\n\r\t\v", strict=True))


def _no_plain_value(match: re.Match, field: Field) -> None:
    """For a field that holds a message."""


def _plain_whole(match: re.Match, field: Field) -> int | None:
    low, high = INT_RANGE[field.type]
    return int(match[3]) if match[3] and not match[4] and low <= int(match[3]) <= high else None


# Type of a field ("": it has none) -> its value from a match of PLAIN_FIELD; None where it needs a closer look.
_READERS: dict[str, Callable[[re.Match, Any], Any]] = {
    **dict.fromkeys(INT_RANGE, _plain_whole),
    "float": lambda match, _: float32(float(match[3])) if match[3] else None,
    "double": lambda match, _: float(match[3]) if match[3] else None,
    "": lambda match, _: None if not match[3] else float(match[3]) if match[4] else int(match[3]),
    "string": lambda match, _: None if match[2] is None else match[2].encode("latin-1").decode("utf-8",
                                                                                               "surrogateescape"),
    "bytes": lambda match, _: None if match[2] is None else match[2].encode("latin-1"),
    "bool": lambda match, _: {"true": True, "false": False}.get(match[5]),
    "enum": lambda match, field: match[5] if match[5] in field.enum.numbers else None,
}


def reader_of_plain(field: Field | None) -> Callable[[re.Match, Any], Any]:
    """Return a function that makes the field's value of a match of PLAIN_FIELD, and of the field.

    The function returns None where the value needs a closer look. `field` is None in a message without a type.
    """
    return _READERS.get("" if field is None else "enum" if field.enum else field.type, _no_plain_value)


def run_of_numbers(text: str, at: int, field: Field | None) -> str:
    """Return the text from here on that gives a field its next values, if they are floating-point or without a type.

    There are thousands in a row where weights or quantisation parameters are in a prototxt.
    """
    match = _RUN.match(text, at) if field is None or field.type in ("float", "double") else None
    return match[0] if match else ""


def numbers_of_run(run: str, name: str, field: Field | None) -> list[float]:
    """The values in what `run_of_numbers` returned."""
    texts = run.replace(f"{name}:", " ").split()
    if field is None:
        return [int(text) if text.lstrip("-").isdecimal() else float(text) for text in texts]
    values = np.array(list(map(float, texts)))
    with np.errstate(over="ignore"):  # a number that is too large becomes infinity, as in float32()
        return (values.astype(np.float32) if field.type == "float" else values).tolist()


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
    """The bytes of an escape in a string."""
    octal, hexadecimal, head, trail, short, long, letter = match.groups()
    if octal:
        return bytes([int(octal, 8) & 255])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if letter:
        return bytes([_ESCAPED.get(letter, ord(letter))])
    if head:  # a surrogate pair
        return bytes.fromhex(head + trail).decode("utf-16-be").encode()
    return chr(int(short or long, 16)).encode("utf-8", "surrogatepass")
