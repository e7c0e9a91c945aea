"""rmpe nms."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5")
    command.add_argument("--poses", required=True, metavar="H5", help="the pose network's results, testres.h5")
    command.add_argument("--output", required=True, metavar="DIR", help="where pred.txt, scores.txt, "
                         "scores-proposals.txt and index.txt go")
    command.add_argument("--variant", choices=("batch", "demo"), default="batch",
                         help="batch_nms.py (default) or demo_pose_NMS.py")
    command.add_argument("--image-sizes", metavar="FILE", help="text, `name width height` per line: grow the boxes as "
                         "the demo did (with --variant demo)")


def run(args: argparse.Namespace) -> None:
    """Merge the pose network's poses into persons, as the published pose NMS does, and write the authors' files."""
    from rmpe_legacy.runs.nms_files import run_nms

    say(run_nms(args.proposals, args.poses, args.output, args.variant, args.image_sizes))
