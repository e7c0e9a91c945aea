"""rmpe nms."""

from __future__ import annotations

import argparse

from .options import add_format_option
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--proposals", required=True, metavar="DIR", help="a folder with index.txt, score.txt and "
                         "test-bbox.h5")
    command.add_argument("--poses", required=True, metavar="H5", help="the file of the poses, testres.h5")
    command.add_argument("--output", required=True, metavar="DIR", help="output folder for pred.txt, scores.txt, "
                         "scores-proposals.txt and index.txt")
    command.add_argument("--variant", "--published", choices=("batch", "demo", "alphapose"), default="batch",
                         help="the program to follow: batch (batch_nms.py, the default), demo (demo_pose_NMS.py), or "
                         "alphapose, which takes any joint set")
    command.add_argument("--joints", default="mpii16", metavar="SET", help="the joint set of the poses: mpii16 "
                         "(default), coco17, halpe26 or a JSON file; all but mpii16 need --variant alphapose")
    add_format_option(command)
    command.add_argument("--image-sizes", metavar="FILE", help="a text file with `name width height` per line, to "
                         "grow the boxes as the demo does (with --variant demo)")


def run(args: argparse.Namespace) -> None:
    """Merge poses into persons with the published pose NMS, and write the results in the authors' formats."""
    from rmpe_legacy.pose.joints import read_joint_set
    from rmpe_legacy.runs.nms_files import run_nms

    say(run_nms(args.proposals, args.poses, args.output, args.variant, args.image_sizes,
                joints=read_joint_set(args.joints), formats=args.format))
