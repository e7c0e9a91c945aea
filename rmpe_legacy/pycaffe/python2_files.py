"""Files as Python 2 had them, where text was bytes: one opened without "b" may hold either, and pickles have both."""

from __future__ import annotations

import codecs
import io
import pickle
from functools import wraps
from typing import Any

_LOOK = 1 << 16  # bytes that tell text from anything else


def open_file(name: Any, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
    """``open`` as in Python 2: reading returns text if the file starts as text, otherwise bytes; writing accepts both.
    """
    if "b" in mode or options or not isinstance(name, str):
        return open(name, mode, buffering, **options)
    if mode.strip("tU") == "r" and (encoding := _encoding(name)) is None:
        return open(name, "rb", buffering)
    if mode.strip("tU") == "r":
        return open(name, encoding=encoding)
    return _TextAndBytes(open(name, mode.replace("t", "") + "b"), encoding="utf-8", line_buffering=buffering == 1)


class _TextAndBytes(io.TextIOWrapper):
    """A file of text that bytes can be written into too: ``pickle.dump(values, open(name, "w"))``."""

    def write(self, text: Any) -> int:
        if isinstance(text, str):
            return super().write(text)
        self.flush()
        written: Any = self.buffer.write(text)
        return written


def _encoding(name: str) -> str | None:
    """The encoding of a file of text; None where its beginning is none."""
    with open(name, "rb") as file:
        start = file.read(_LOOK)
    if b"\0" in start:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "latin-1" if all(byte >= 32 or byte in b"\t\n\r\f" for byte in start) else None
    return "utf-8"


def restore_pickle() -> None:
    """Let ``pickle.load`` and ``loads`` read Python 2 pickles, also from files opened as text; their byte strings
    become text.
    """
    for name in ("load", "loads"):
        today = getattr(pickle, name)
        if not hasattr(today, "__wrapped__"):
            setattr(pickle, name, _reading_latin1(today))


def _reading_latin1(read: Any) -> Any:
    @wraps(read)
    def reading(source: Any, **options: Any) -> Any:
        raw = source.buffer if isinstance(source, io.TextIOWrapper) else source
        return read(raw.encode("latin-1") if isinstance(raw, str) else raw, **{"encoding": "latin-1", **options})

    return reading
