"""rmpe evaluate."""

from __future__ import annotations

import argparse

from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="mpii|pckh|coco", required=True)
    mpii = kinds.add_parser("mpii", help="MPII multi-person AP, as the official Matlab toolkit computes it")
    mpii.add_argument("predictions", help="a .mat with pred, a pred.txt (or its folder), or JSON with 16 "
                      "joints per person")
    mpii.add_argument("ground_truth", help="a .mat with annolist or RELEASE, an annotation list (.txt), or JSON")
    mpii.add_argument("--groups", metavar="FILE", help="groups_v12.mat for RELEASE, or MPI_MP_*_annotations.json "
                      "with the image names of an annolist")
    mpii.add_argument("--split", choices=("train", "test"), default="train", help="which split of RELEASE to use "
                      "(default: train)")
    pckh = kinds.add_parser("pckh", help="PCKh for single-person poses")
    pckh.add_argument("predictions", help="an .h5 or .mat with preds, or a .npy, of shape (people, 16, 2)")
    pckh.add_argument("ground_truth", help="the hourglass's valid.h5, or detections_our_format.mat")
    pckh.add_argument("--protocol", choices=("official", "tompson", "demo", "all"), default="all",
                      help="the program to follow (default: all)")
    coco = kinds.add_parser("coco", help="COCO keypoint AP, by pycocotools")
    coco.add_argument("predictions", help="a results file: JSON with 17 joints per person")
    coco.add_argument("ground_truth", help="person_keypoints_*.json")
    for kind in (mpii, pckh, coco):
        kind.add_argument("--output", metavar="DIR", help="folder for the numbers (JSON) and curves (PNG)")
        kind.add_argument("--name", help="name of the method in the table (default: the name of the predictions file)")


def run(args: argparse.Namespace) -> None:
    """Evaluate poses against ground truth and print the official table; with --output, also write JSON and curves."""
    from rmpe_legacy.evaluation.evaluate import evaluate as run

    options = {key: getattr(args, key) for key in ("groups", "split", "protocol") if hasattr(args, key)}
    say(run(args.kind, args.predictions, args.ground_truth, args.output, name=args.name, **options))
