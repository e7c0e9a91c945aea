"""rmpe layers."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("type", nargs="?", metavar="TYPE", help="show one type in detail, for example Convolution")
    command.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> None:
    """List the layer types with their golden cases from the real Caffe, or one type with its parameters and cases."""
    import json

    from .layer_report import describe_layer, describe_layers, layer_details, layers_table, read_evidence

    evidence = read_evidence()
    if args.type is None:
        say(json.dumps(layers_table(evidence), indent=1) if args.json else describe_layers(evidence))
    else:
        details = layer_details(args.type, evidence)
        say(json.dumps(details, indent=1) if args.json else describe_layer(details))
