"""rmpe detect."""

from __future__ import annotations

import argparse

from .batch import run_on_images
from .options import add_image_options, add_network_options, add_pictures_option, add_workers_option


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("inputs", nargs="+", metavar="IMAGE|DIR|VIDEO|PATTERN|CAMERA", help="files, folders, patterns "
                         "such as 'photos/*.jpg', videos, or a camera's number: 0")
    command.add_argument("--recursive", action="store_true", help="search subfolders too")
    add_network_options(command, "detector")
    add_image_options(command)
    add_pictures_option(command)
    add_workers_option(command)


def run(args: argparse.Namespace) -> int:
    """Find people in images; write their boxes in the authors' formats and as JSON, and draw them."""
    from rmpe_legacy.runs.commands import run_detect

    return run_on_images(args, lambda options: run_detect(args.inputs, args.detector, options))
