"""rmpe demo."""

from __future__ import annotations

import argparse
from pathlib import Path

from .batch import run_on_images
from .options import add_format_option, add_image_options, add_network_options, add_pictures_option, add_workers_option


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("inputs", nargs="+", metavar="IMAGE|DIR|VIDEO|PATTERN|CAMERA", help="files, folders, patterns "
                         "such as 'photos/*.jpg', videos, or a camera's number: 0")
    command.add_argument("--recursive", action="store_true", help="search subfolders too")
    command.add_argument("--boxes", metavar="FILE|DIR", help="use the boxes of another detector, instead of "
                         "--detector: COCO-style detections (JSON with image_id, bbox, score), or a proposals folder")
    add_network_options(command, "detector", "pose")
    add_format_option(command)
    command.add_argument("--report", metavar="OUT.html", help="write an HTML report that shows every step")
    add_image_options(command, output="rmpe_output")
    add_pictures_option(command)
    add_workers_option(command)


def run(args: argparse.Namespace) -> int:
    """Run all of RMPE on images or videos; write annotated images, and poses as JSON and in the authors' formats."""
    from rmpe_legacy.runs.commands import run_demo

    report = Path(args.report) if args.report else None
    return run_on_images(args, lambda options: run_demo(args.inputs, args.detector, args.pose, options, report,
                                                          args.boxes))
