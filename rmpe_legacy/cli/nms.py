"""rmpe nms."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5")
    command.add_argument("--poses", required=True, metavar="H5", help="the poses, testres.h5")
    command.add_argument("--output", required=True, metavar="DIR", help="the folder for pred.txt, scores.txt, "
                         "scores-proposals.txt and index.txt")
    command.add_argument("--variant", choices=("batch", "demo"), default="batch",
                         help="which script to follow: batch_nms.py (default) or demo_pose_NMS.py")
    command.add_argument("--image-sizes", metavar="FILE", help="a text file with `name width height` per line, to "
                         "grow the boxes as the demo does (with --variant demo)")


def run(args: argparse.Namespace) -> None:
    """Merge poses into persons with the published pose NMS, and write the authors' files."""
    from rmpe_legacy.runs.nms_files import run_nms

    say(run_nms(args.proposals, args.poses, args.output, args.variant, args.image_sizes))
