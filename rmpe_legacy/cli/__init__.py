"""rmpe: inspect, run, convert and evaluate the original RMPE networks."""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib import import_module

from rmpe_legacy.errors import RmpeError

from .terminal import abandon, finish, say, tell

# Each command is a module here with add_arguments(parser) and run(args), whose docstring is the command's help. Modules
# import torch and everything that needs it inside run, because `rmpe nms` must start quickly.
COMMANDS = (
    "show",
    "layers",
    "dialects",
    "forward",
    "detect",
    "pose",
    "demo",
    "nms",
    "evaluate",
    "reproduce",
    "pgpg",
    "train-pose",
    "convert",
    "verify",
    "hash",
    "train",
    "test",
    "time",
    "make-lmdb",
    "run",
    "prototxt",
    "gpu-check",
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser("rmpe", description=__doc__)
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--verbose", action="store_true", help="with --version: also the build and the libraries")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name in COMMANDS:
        module = import_module(f".{name.replace('-', '_')}", __package__)
        command = commands.add_parser(name, help=module.run.__doc__.partition("\n")[0], description=module.run.__doc__)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
    return parser


def print_version(args: argparse.Namespace) -> None:
    from .version import version_text

    say(version_text(args.verbose))


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 for success, 1 after an error, 2 if some images were skipped.

    For verify, 1 means that the networks differ, and 2 that an error occurred.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if "run" not in args and not args.version:
        parser.print_help(sys.stderr)
        return 2
    warnings.showwarning = _print_warning
    try:
        run = print_version if args.version else args.run
        code: int | None = run(args)
        finish()
        return code or 0
    except RmpeError as error:  # the message is the whole story; any other exception is our bug
        tell(error)
        return getattr(args, "code_of_mistakes", 1)
    except MemoryError:
        tell("not enough memory")
        return getattr(args, "code_of_mistakes", 1)
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has closed it, like `head`
        abandon(sys.stdout)
    return 0


def _print_warning(message, category, filename, lineno, file=None, line=None) -> None:
    tell(f"warning: {message}")
