"""Ctrl-C during a training: it stops after the iteration, and leaves a snapshot."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmpe_legacy.caffe.solver.solver import Action


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
