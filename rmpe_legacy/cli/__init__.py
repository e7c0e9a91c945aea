"""rmpe: inspect, run, convert and evaluate the original RMPE networks."""

from __future__ import annotations

import argparse
import atexit
import gc
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from traceback import format_exception

from rmpe_legacy.errors import OptionError, RmpeError
from rmpe_legacy.optional import optional

from .examples import EXAMPLES_HEAD, epilog
from .parser import Parser
from .terminal import ERROR, LOGGER, OK, USAGE, abandon, finish, say, start_logging, tell, write_error

# Each command is a module here with add_arguments(parser) and run(args), whose docstring is the command's help. Modules
# import torch and everything that needs it inside run, because `rmpe nms` must start quickly.
COMMANDS = (
    "show",
    "draw",
    "layers",
    "dialects",
    "forward",
    "detect",
    "pose",
    "demo",
    "serve",
    "nms",
    "evaluate",
    "reproduce",
    "pgpg",
    "train-pose",
    "convert",
    "verify",
    "hash",
    "models",
    "identify",
    "train",
    "test",
    "time",
    "make-lmdb",
    "run",
    "prototxt",
    "plugin",
    "gpu-check",
)

# At its exit, Python looks for reference cycles in everything, which takes a fifth as long as importing torch.
atexit.register(gc.freeze)


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps paragraphs, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(EXAMPLES_HEAD):
            return text
        return "\n\n".join(super(_HelpFormatter, self)._fill_text(each, width, indent) for each in text.split("\n\n"))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser("rmpe", description=__doc__)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--verbose", action="store_true", help="with --version: also the build and the libraries")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".{name.replace('-', '_')}", __package__)
        text = inspect.cleandoc(module.run.__doc__)
        command = commands.add_parser(name, help=text.partition("\n")[0], description=text, epilog=epilog(name),
                                      formatter_class=_HelpFormatter)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
        _add_log_options(command)
    return parser


def _add_log_options(command: argparse.ArgumentParser) -> None:
    """Add -q and -v to a command, or to each of its kinds."""
    kinds = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    for each in [kind for action in kinds for kind in action.choices.values()] or [command]:
        if "-v" not in each._option_string_actions and "-q" not in each._option_string_actions:
            level = each.add_mutually_exclusive_group()
            level.add_argument("-q", "--quiet", action="store_true", help="print only errors on standard error, no "
                               "notes, warnings or progress")
            level.add_argument("-v", "--verbose", action="store_true", help="also print time and memory, and "
                               "the traceback behind an error, on standard error")


def print_version(args: argparse.Namespace) -> None:
    from .version import version_text

    say(version_text(args.verbose))


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: an error, with a sentence on standard error. 2: wrong usage. 3: done in part, as some images could not
    be read. For verify, 1 means that the networks differ, and 2 also that an error occurred.
    """
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
        optional("argcomplete", "shell completion").autocomplete(parser)
    args = parser.parse_args(argv)
    if "run" not in args and not args.version:
        parser.print_help(sys.stderr)
        return USAGE
    warnings.showwarning = print_each_warning_once()
    start_logging(getattr(args, "quiet", False), args.verbose)
    started = perf_counter()
    try:
        run = print_version if args.version else args.run
        code: int | None = run(args)
        finish()
        LOGGER.debug("finished in %.1f s, %s", perf_counter() - started, _peak_memory())
        return code or OK
    except RmpeError as error:  # the message is the whole story; any other exception is our bug
        if args.verbose and error.__cause__ is not None:
            write_error("".join(format_exception(error.__cause__)).rstrip())
        tell(error)
        return USAGE if isinstance(error, OptionError) else getattr(args, "code_of_mistakes", ERROR)
    except MemoryError:
        tell("not enough memory")
        return getattr(args, "code_of_mistakes", ERROR)
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, like `head`
        abandon(sys.stdout)
    return 0


def print_each_warning_once() -> Callable[..., None]:
    """Return a replacement for warnings.showwarning. A command that reads a network twice warns about it once."""
    printed: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            LOGGER.warning("warning: %s", message)

    return show


def _peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "peak memory unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return f"peak memory {peak / 1e6:.0f} MB"
