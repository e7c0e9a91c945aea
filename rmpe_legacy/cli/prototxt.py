"""rmpe prototxt."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME",
                         help="for example ssd500 or ssd500/train; without it, list the names")


def run(args: argparse.Namespace) -> None:
    """Print the prototxt of one of this project's networks, or list them."""
    from rmpe_legacy.prototxts import find, names

    if args.name is None:
        say("\n".join(names()))
    else:
        say(find(args.name).read_text(encoding="utf-8").removesuffix("\n"))
