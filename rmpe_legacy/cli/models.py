"""rmpe models."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", nargs="?", metavar="ID", help="show everything about this file, for example final-model")
    command.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> None:
    """List the published RMPE files: what each contains, where to get it, and which network it fits.

    Nothing is downloaded.
    """
    import json
    from dataclasses import asdict

    from rmpe_legacy.compare.published_models import describe_models, published_models

    if args.json:
        say(json.dumps([asdict(model) for model in published_models() if args.id in (None, model.id)], indent=1))
    else:
        say(describe_models(args.id))
