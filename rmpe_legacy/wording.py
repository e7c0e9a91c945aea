"""Text for messages: counts and lists, safe printing of names from files, and suggestions for typos."""

from __future__ import annotations

import json
import keyword
import os
import re
import traceback
from collections.abc import Iterable, Sequence
from html import escape

MAX_SHOWN = 100  # characters of a name or value in a message
MAX_LISTED = 5  # names that one sentence lists

_PLURALS = {"box": "boxes"}
# C0 but tab and line feed, DEL, C1; marks that turn the direction of writing; half surrogate pairs; two that are no
# characters, which XML cannot contain.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
                      r"\ufffe\uffff]")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_OURS = os.path.dirname(__file__) + os.sep


def printable(text: str) -> str:
    """Escape every character that could control a terminal or that is not valid UTF-8, except line feeds and tabs."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as the surrogateescape handler stores it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """Escape line feeds and tabs too, so that a name in a file cannot begin another line or column."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def html_text(text: str) -> str:
    """Format text for an element or attribute of HTML or XML: it can neither add markup nor mislead a reader."""
    return escape(printable(text))


def shorten(text: str, most: int = MAX_SHOWN) -> str:
    """Format a name or value from a file for a message: printable, on one line, and at most `most` characters."""
    if len(text) > most:
        text = text[: most - 3] + "..."
    return one_line(text)


def shorten_list(names: Sequence[str]) -> str:
    """Join names with commas; of a long list the first few, and the number of the rest."""
    shown = ", ".join(map(shorten, names[:MAX_LISTED]))
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED} more"


def call_of_net(names: Iterable[str]) -> str:
    """Format a call of a network with these inputs, shortened if there are many: ``net(data=..., **{"a b": ...})``."""
    names = list(names)
    odd = [name for name in names if not name.isidentifier() or keyword.iskeyword(name)]
    given = [f"{name}=..." for name in names if name not in odd]
    if odd:
        given.append("**{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)}: ..." for name in odd) + "}")
    return f"net({shorten(', '.join(given), 500)})"


def pluralize(count: int, what: str) -> str:
    """Format a count: ``1 image``, ``2 images``."""
    return f"{count} {what if count == 1 else _PLURALS.get(what, f'{what}s')}"


def utf8(name: str) -> str:
    """Make a Caffe name, which may be any bytes, valid UTF-8: other bytes become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe_error(error: BaseException) -> str:
    """Describe an exception of a user's code in one line: its type, message and place.

    The place is the last line of code outside this package, and outside Python and installed libraries if there is one.
    """
    import sysconfig

    libraries = ("<frozen ", *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "purelib", "platlib")))
    said = shorten(str(error).partition("\n")[0], 300)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OURS)]
    frames = [f for f in frames if not f.filename.startswith(libraries)] or frames
    place = "" if isinstance(error, SyntaxError) or not frames else f" ({frames[-1].filename}:{frames[-1].lineno})"
    return f"{type(error).__name__}: {said}{place}"  # a SyntaxError's message has the place


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for an unknown name, "; did you mean 'Pooling'?", or "" if it does not look like a typo.

    A typo is another case, a missing or extra underscore or hyphen, or one or two letters that are doubled, missing,
    added, wrong or swapped. Other similarities do not count: BN is not BNLL.
    """
    if len(name) > MAX_SHOWN:
        return ""
    known = list(known)
    same = [other for other in known if _plain(other) == _plain(name)]
    slips = sorted((distance, other) for other in known if (distance := _slips(name, other)) is not None)
    near = same or [other for _, other in slips]
    return f"; did you mean {near[0]!r}?" if near else ""


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _slips(name: str, other: str) -> int | None:
    """Count the typos between two names, word by word; None if they differ by more than typos."""
    words, others = _WORD.findall(name), _WORD.findall(other)
    if len(words) != len(others):
        return None
    total = 0
    for a, b in zip(map(str.lower, words), map(str.lower, others), strict=True):
        if a == b:
            continue
        slips = _distance(a, b)
        if _undoubled(a) != _undoubled(b) and (a.isdigit() or a[0] != b[0] or slips > (max(len(a), len(b)) // 4)):
            return None
        total += slips
    return total if 0 < total <= 2 else None


def _undoubled(word: str) -> str:
    return re.sub(r"(.)\1", r"\1", word) if word.isalpha() else word


def _distance(a: str, b: str) -> int:
    """Count the letters to add, drop, replace or swap with a neighbour to turn `a` into `b`."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before, last = last, row
    return last[-1]
