"""rmpe pose."""

from __future__ import annotations

import argparse

from .batch import run_on_images
from .options import add_format_option, add_image_options, add_network_options, add_workers_option


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--proposals", "--boxes", required=True, metavar="DIR|FILE", help="a folder with index.txt, "
                         "score.txt and test-bbox.h5, as written by rmpe detect; or COCO-style detections (JSON with "
                         "image_id, bbox, score)")
    command.add_argument("--images", required=True, metavar="DIR", help="the folder of the images that index.txt "
                         "lists. With a detections file, all images in the folder are processed")
    command.add_argument("--recursive", action="store_true", help="search subfolders too (only with a detections file)")
    add_network_options(command, "pose")
    add_format_option(command)
    add_image_options(command)
    add_workers_option(command)


def run(args: argparse.Namespace) -> int:
    """Estimate a pose in each box, as predict/main.lua does, and write testres.h5.

    --format writes each box's pose as a person, because this command runs no pose NMS.
    """
    from rmpe_legacy.runs.commands import run_pose

    return run_on_images(args, lambda options: run_pose(args.proposals, args.images, args.pose, options))
