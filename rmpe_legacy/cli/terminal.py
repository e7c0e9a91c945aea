"""Terminal output. Control characters in text from files are escaped."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.wording import printable


def say(text: object, stream: TextIO | None = None) -> None:
    """Print to standard output or another stream.

    Raises:
        RmpeError: The stream is closed or full.
        BrokenPipeError: Its reader has closed it.
    """
    stream = stream or sys.stdout
    if stream is None:
        raise RmpeError("standard output is closed, so nothing can be printed")
    _write(stream, f"{text}\n")


def finish() -> None:
    """Flush standard output. Raises RmpeError if that fails."""
    if sys.stdout is not None:
        _write(sys.stdout, "")


def tell(text: object) -> None:
    """Print a note or an error to standard error, if it is open."""
    write_error(f"rmpe: {text}")


def write_error(text: str) -> None:
    """Print lines to standard error as they are, if it is open."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(_encodable(sys.stderr, f"{text}\n"))
            sys.stderr.flush()
        except (OSError, ValueError):  # there is nowhere to report it
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
    """Escape what the stream's encoding cannot represent."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def abandon(stream: TextIO) -> None:
    """Discard what a stream has buffered; otherwise Python retries at exit and prints an error."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # the stream has no file descriptor
        return
