"""rmpe identify."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("files", nargs="+", metavar="FILE", help="weights, a .t7, a .mat or an .h5")


def run(args: argparse.Namespace) -> None:
    """Identify a published file, or the network that its weights fit best, by its content."""
    from rmpe_legacy.compare.published_models import identify_file

    for file in args.files:
        say(identify_file(file))
