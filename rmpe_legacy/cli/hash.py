"""rmpe hash."""

from __future__ import annotations

import argparse
from dataclasses import replace

from .options import add_de_transform_option, add_net_options, load_plugins, setting_of
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="+", help="weights of any kind, a prototxt, both, or a .t7")
    add_net_options(command)
    add_de_transform_option(command)


def run(args: argparse.Namespace) -> None:
    """Say what a network and its weights are by their content alone, in whichever files they come."""
    from rmpe_legacy.compare.content_hash import identify

    load_plugins(args.plugin)
    setting = replace(setting_of(args), allow_python=None)  # what a network is does not depend on running its modules
    for what, digits in identify(args.source, setting).items():
        say(f"{what:<8} {digits}")
