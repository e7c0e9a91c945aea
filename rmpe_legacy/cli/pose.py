"""rmpe pose."""

from __future__ import annotations

import argparse

from .batch import run_on_images
from .options import add_image_options, add_network_options


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5, as written by rmpe detect")
    command.add_argument("--images", required=True, metavar="DIR", help="the folder of the images that index.txt lists")
    add_network_options(command, "pose")
    add_image_options(command)


def run(args: argparse.Namespace) -> int:
    """Estimate a pose in each box of a proposals folder, as predict/main.lua does; write testres.h5."""
    from rmpe_legacy.runs.commands import run_pose

    return run_on_images(args, lambda options: run_pose(args.proposals, args.images, args.pose, options))
