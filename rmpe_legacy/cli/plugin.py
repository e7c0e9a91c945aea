"""rmpe plugin."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="new", required=True)
    new = kinds.add_parser("new", help="write a plugin with its test, to fill in")
    new.add_argument("name", metavar="NAME", help="the layer type as it appears in prototxts: MyLayer")
    new.add_argument("--folder", default=".", metavar="DIR", help="where to write the two files (default: the working "
                     "directory)")
    new.add_argument("--field", action="append", metavar="F", help="a field of its message, such as my_layer_param; "
                     "repeatable (default: factor)")


def run(args: argparse.Namespace) -> None:
    """Write a template for your own layer type, for --plugin, and a test of it that passes.

    The layer starts as the identity. Its fields are declared, so a misspelt field in a prototxt is reported.
    """
    from rmpe_legacy.runs.new_plugin import FIELDS, new_plugin

    plugin, test = new_plugin(args.name, args.folder, tuple(args.field or FIELDS))
    say(f"{plugin}: fill in setup, reshape and forward; use it with --plugin {plugin}")
    say(f"{test}: run it with pytest {test}")
