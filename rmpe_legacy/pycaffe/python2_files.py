"""``open`` as Python 2 had it, where text was bytes: a file opened without "b" may hold either."""

from __future__ import annotations

import codecs
import io
from typing import Any

_LOOK = 1 << 16  # bytes that tell text from anything else


def open_file(name: Any, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
    """``open``: what is read is text if the file begins as text, else bytes; what is written may be either."""
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
