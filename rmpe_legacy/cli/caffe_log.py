"""Log lines as Caffe writes them, on standard error with glog's prefix, so that programs that parse its logs work.

A line: ``I1128 15:04:05.123456 25210 solver.py:204] Iteration 100, loss = 0.5``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rmpe_legacy.errors import RmpeError

from .terminal import LOGGER, write_error

if TYPE_CHECKING:
    from rmpe_legacy.caffe.solver.solver import Solver

LETTERS = {logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class _Glog(logging.Handler):
    """Writes records in glog's form; each line of a message gets the prefix, as parsers read the time of every line."""

    def emit(self, record: logging.LogRecord) -> None:
        head = (f"{LETTERS.get(record.levelno, 'I')}{datetime.fromtimestamp(record.created):%m%d %H:%M:%S.%f} "
                f"{record.process:5d} {record.filename}:{record.lineno}] ")
        write_error("\n".join(head + line for line in record.getMessage().split("\n")))


def run_logged(command: Callable[[logging.Logger], int | None], quiet: bool = False) -> int:
    """Run a command with the package's log in Caffe's form; return its exit code, 1 for an RmpeError, which it logs.

    quiet: Leave out notes. Of several processes that train together, one is enough to write them.
    """
    handlers, level, show = LOGGER.handlers, LOGGER.level, warnings.showwarning
    LOGGER.handlers = [_Glog()]
    if quiet:
        LOGGER.setLevel(max(level, logging.WARNING))
    log = logging.getLogger(__name__)
    warnings.showwarning = lambda message, *_, **__: log.warning("%s", message)
    try:
        return command(log) or 0
    except RmpeError as error:
        log.critical("%s", error)
        return 1
    finally:
        LOGGER.handlers = handlers
        LOGGER.setLevel(level)
        warnings.showwarning = show


@contextmanager
def snapshot_named(solver: Solver) -> Iterator[None]:
    """Let an error that ends a run of several processes name the snapshot to resume from."""
    try:
        yield
    except RmpeError as error:
        if solver.world.size > 1 and solver.last_snapshot:
            raise RmpeError(f"{error}; to resume, give --snapshot {solver.last_snapshot}") from None
        raise
