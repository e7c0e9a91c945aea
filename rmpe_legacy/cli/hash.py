"""rmpe hash."""

from __future__ import annotations

import argparse
from dataclasses import replace

from .options import add_de_transform_option, add_net_options, load_plugins, setting_of
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="+", help="weights in any format, a prototxt, both, or a .t7")
    add_net_options(command)
    add_de_transform_option(command)


def run(args: argparse.Namespace) -> None:
    """Print hashes of a network and its weights that depend on their content only, not on the file format."""
    from rmpe_legacy.compare.content_hash import content_hashes

    load_plugins(args.plugin)
    setting = replace(setting_of(args), allow_python=None)  # the hash does not depend on what the modules do
    for what, digits in content_hashes(args.source, setting).items():
        say(f"{what:<8} {digits}")
