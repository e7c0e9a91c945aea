"""What the command line writes: text from files with its control characters shown, never sent to the terminal."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.wording import printable


def say(text: object, stream: TextIO | None = None) -> None:
    """Write lines to standard output or another stream. RmpeError if it is closed or full.

    BrokenPipeError says that its reader has gone.
    """
    stream = stream or sys.stdout
    if stream is None:
        raise RmpeError("standard output is closed; there is nowhere to write to")
    _write(stream, f"{text}\n")


def finish() -> None:
    """All that was said reaches its reader, or an RmpeError says why not."""
    if sys.stdout is not None:
        _write(sys.stdout, "")


def tell(text: object) -> None:
    """A note or a complaint: a line on standard error, if there is one."""
    write_error(f"rmpe: {text}")


def write_error(text: str) -> None:
    """Lines on standard error as they are, if there is one."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(_encodable(sys.stderr, f"{text}\n"))
            sys.stderr.flush()
        except (OSError, ValueError):  # nobody can be told
            return


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(_encodable(stream, text))
        if not text:
            stream.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        abandon(stream)
        reason = getattr(error, "strerror", None) or error
        raise RmpeError(f"standard output cannot be written: {reason}") from None


def _encodable(stream: TextIO, text: str) -> str:
    """The text as the stream's encoding can hold it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def abandon(stream: TextIO) -> None:
    """Send what a stream still holds to nowhere: Python would try again at its end, and complain."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no file behind it
        return
