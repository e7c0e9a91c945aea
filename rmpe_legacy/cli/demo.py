"""rmpe demo."""

from __future__ import annotations

import argparse
from pathlib import Path

from .batch import run_on_images
from .options import add_image_options, add_network_options


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("inputs", nargs="+", metavar="IMAGE|DIR|VIDEO")
    add_network_options(command, "detector", "pose")
    command.add_argument("--report", metavar="OUT.html", help="a page that shows every step on every picture")
    add_image_options(command, output="rmpe_output")


def run(args: argparse.Namespace) -> int:
    """The whole of RMPE: from pictures or videos to annotated pictures, poses as JSON and in the authors' files."""
    from rmpe_legacy.runs.commands import run_demo

    report = Path(args.report) if args.report else None
    return run_on_images(args, lambda options: run_demo(args.inputs, args.detector, args.pose, options, report))
