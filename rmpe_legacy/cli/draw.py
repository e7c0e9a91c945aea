"""rmpe draw."""

from __future__ import annotations

import argparse

from .options import add_net_options, load_plugins
from .short_lived import without_garbage_collection
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("prototxt", help="the network, for example prototxt/sppe_sstn/deploy.prototxt")
    command.add_argument("output", help="the drawing; the suffix selects the format: .svg, .png, .html (with the table "
                         "of layers), or .dot for Graphviz")
    command.add_argument("--until", action="append", default=[], metavar="BLOB",
                         help="draw only the layers that this blob depends on; repeatable")
    add_net_options(command)


@without_garbage_collection()
def run(args: argparse.Namespace) -> None:
    """Draw a network: layers with their shapes, parameters, phases and shared weights, grouped by block.

    Graphviz arranges the drawing if its program dot is installed; otherwise networkx does.
    """
    from rmpe_legacy.caffe.drawing import draw_network

    load_plugins(args.plugin)
    say(draw_network(args.prototxt, args.output, args.phase, args.level, args.stage, args.dialect, args.until))
