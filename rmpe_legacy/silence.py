"""Keep C libraries from writing to the terminal: libpng, libjpeg and onnxruntime print what they also report."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDERR = 2
_lock = threading.Lock()
_inside = 0  # number of open blocks, in all threads
_saved = -1  # a copy of the descriptor during that time


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard everything that the process writes to file descriptor 2 inside the block."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _saved
    with _lock:
        _inside += 1
        if _inside > 1:
            return
        with suppress(OSError, ValueError, AttributeError):  # a closed stream, or none
            sys.stderr.flush()
        with suppress(OSError):  # nothing to silence where the descriptor is closed
            _saved = os.dup(_STDERR)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, _STDERR)
            os.close(nowhere)


def _leave() -> None:
    global _inside, _saved
    with _lock:
        _inside -= 1
        if _inside == 0 and _saved >= 0:
            os.dup2(_saved, _STDERR)
            os.close(_saved)
            _saved = -1
