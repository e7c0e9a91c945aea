"""Shared by the training commands: log lines on standard error, and Ctrl-C that saves a snapshot."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .terminal import say

if TYPE_CHECKING:
    from rmpe_legacy.caffe.solver.solver import Action


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            say(self.format(record), sys.stderr)


@contextmanager
def training_log() -> Iterator[None]:
    """Print the solvers' log to standard error, one line per entry with date and time."""
    log, handler = logging.getLogger("rmpe_legacy"), _Lines()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class Interrupt:
    """Ctrl-C during training: the first stops it after the iteration, with a snapshot; the second at once."""

    def __init__(self) -> None:
        self.seen = False

    def action(self) -> Action:
        """Return what a solver should do now."""
        return "stop" if self.seen else "none"

    def _note(self, *_: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM while the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
