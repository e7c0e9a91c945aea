"""Log lines as Caffe writes them, on standard error with glog's prefix, so that programs that parse its logs work.

A line: ``I1128 15:04:05.123456 25210 solver.py:204] Iteration 100, loss = 0.5``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from datetime import datetime

from rmpe_legacy.errors import RmpeError

from .terminal import write_error

LETTERS = {logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class _Glog(logging.Handler):
    """Writes records in glog's form; each line of a message gets the prefix, as parsers read the time of every line."""

    def emit(self, record: logging.LogRecord) -> None:
        head = (f"{LETTERS.get(record.levelno, 'I')}{datetime.fromtimestamp(record.created):%m%d %H:%M:%S.%f} "
                f"{record.process:5d} {record.filename}:{record.lineno}] ")
        write_error("\n".join(head + line for line in record.getMessage().split("\n")))


def run_logged(command: Callable[[logging.Logger], int | None], quiet: bool = False) -> int:
    """Run a command that logs as Caffe does; its exit code. An RmpeError becomes a line of the log, and code 1.

    quiet: leave out what only informs: of several processes one is enough to tell it.
    """
    package, handler = logging.getLogger("rmpe_legacy"), _Glog()
    package.addHandler(handler)
    level, show = package.level, warnings.showwarning
    package.setLevel(logging.WARNING if quiet else logging.INFO)
    log = logging.getLogger(__name__)
    warnings.showwarning = lambda message, *_, **__: log.warning("%s", message)
    try:
        return command(log) or 0
    except RmpeError as error:
        log.critical("%s", error)
        return 1
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        warnings.showwarning = show
