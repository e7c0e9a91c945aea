"""rmpe run."""

from __future__ import annotations

import argparse
import sys
import traceback
from types import TracebackType

from rmpe_legacy.errors import RmpeError

from .terminal import write_error


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--py2", action="store_true", help="translate the script, and the modules beside it that it "
                         "imports, from Python 2")
    command.add_argument("--dialect", default="auto", metavar="NAME",
                         help="the Caffe fork that the script was written for; see `rmpe dialects` (default: for each "
                         "file, the first that knows everything in it)")
    command.add_argument("--de-transform", choices=("paper", "published-identity", "published-ignored"),
                         default="published-identity", help="what `de_transform: true` means in a SpatialTransformer "
                         "(default: %(default)s, which the published Caffe computes)")
    command.add_argument("--figures", metavar="DIR", help="save in this folder what matplotlib and OpenCV would show "
                         "in windows, and the figures of a notebook")
    command.add_argument("script", help="a .py or .ipynb file; it can run any code")
    command.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")


def run(args: argparse.Namespace) -> int:
    """Run a script or notebook that imports caffe, unchanged, using this package's caffe module."""
    from rmpe_legacy import pycaffe
    from rmpe_legacy.pycaffe.script import run_file

    pycaffe.configure(args.dialect, args.de_transform)
    try:
        run_file(args.script, args.args, args.py2, args.figures)
    except SystemExit as error:  # the script's own
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        write_error(str(error.code))
        return 1
    except (Exception, RecursionError) as error:
        if isinstance(error, RmpeError) and not _frames(error):
            raise
        write_error(_report(error))
        return 1
    return 0


def _report(error: BaseException) -> str:
    """The script's traceback, without our frames above it, and below it where the error is a sentence or that of an
    operation of Python 2."""
    error.__traceback__ = _frames(error)
    if isinstance(error, RmpeError) or _innermost(error) == "rmpe_legacy.pycaffe.python2_values":
        _end_in_the_script(error.__traceback__)
    return "".join(traceback.format_exception(error)).rstrip()


def _innermost(error: BaseException) -> str:
    """The module that raised the error; empty if that is not known."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(modules[-1]) if modules else ""


def _end_in_the_script(place: TracebackType | None) -> None:
    """Cut a traceback off below the last frame that is not ours: the script's, or its Python layer's."""
    last = None
    while place is not None:
        if not place.tb_frame.f_globals.get("__name__", "").startswith("rmpe_legacy."):
            last = place
        place = place.tb_next
    if last is not None:
        last.tb_next = None


def _frames(error: BaseException) -> TracebackType | None:
    """The traceback from the script's first frame on; None if it did not come to run."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_globals.get("__name__", "").startswith("rmpe_legacy."):
        place = place.tb_next
    return place if place is not None and place.tb_frame.f_globals is vars(sys.modules["__main__"]) else None
