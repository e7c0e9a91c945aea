"""For commands that end soon."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Do not look for reference cycles meanwhile.

    Importing torch and reading a network create a million objects, nearly all of which stay, and Python would go
    through them again and again: a seventh of the time of `rmpe show`.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
