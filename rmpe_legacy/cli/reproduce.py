"""rmpe reproduce."""

from __future__ import annotations

import argparse
from pathlib import Path

from rmpe_legacy.errors import OptionError

from .batch import run_on_images
from .interrupt import Interrupt
from .options import add_image_options, add_network_options
from .terminal import say, tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="mpii|coco|demo|ablation", required=True)
    mpii = kinds.add_parser("mpii", help="Table 3 (MPII validation), and why Table 1 cannot be reproduced")
    mpii.add_argument("--images", required=True, metavar="DIR", help="MPII's images")
    add_network_options(mpii, "detector", "pose", has_default=False)
    mpii.add_argument("--proposals", metavar="DIR", help="a detector's boxes (index.txt, score.txt, test-bbox.h5), "
                      "instead of --detector")
    mpii.add_argument("--ground-truth", metavar="FILE", help="see rmpe evaluate mpii --help")
    mpii.add_argument("--groups", metavar="FILE", help="see rmpe evaluate mpii --help")
    mpii.add_argument("--split", choices=("train", "test"), default="train", help="which split of RELEASE to use "
                      "(default: train)")
    mpii.add_argument("--row", default="full", metavar="NAME", help="the row of Table 3 that the pose network was "
                      "trained for (default: full); runs with the same --output fill one table")
    mpii.add_argument("--report", metavar="OUT.html", help="write an HTML report that shows every step")
    add_image_options(mpii, published=None, threads=1)
    coco = kinds.add_parser("coco", help="Table 2, and why it cannot be reproduced")
    coco.add_argument("--predictions", metavar="FILE", help="results with COCO's 17 joints (JSON)")
    coco.add_argument("--ground-truth", metavar="FILE", help="person_keypoints_*.json")
    coco.add_argument("--images", metavar="DIR", help="run --pose on these images and evaluate the results, instead of "
                      "--predictions")
    coco.add_argument("--boxes", metavar="FILE|DIR", help="use the boxes of another detector, instead of --detector; "
                      "see rmpe demo --help")
    add_network_options(coco, "detector", "pose")
    add_image_options(coco, published="demo-test", output="rmpe_coco")
    drawn = kinds.add_parser("demo", help="the same steps on synthetic people, whose true joints are known")
    add_network_options(drawn, "detector", "pose")
    drawn.add_argument("--images", "--pictures", type=int, metavar="N",
                       help="number of images to draw (default: 300, or 24 with --quick)")
    drawn.add_argument("--quick", action="store_true", help="use only detected boxes, not disturbed or true ones, and "
                       "fewer images")
    drawn.add_argument("--world", type=int, default=1_000_003, metavar="SEED",
                       help="seed of the synthetic images (default: %(default)s)")
    add_image_options(drawn, published="demo-test", threads=1)
    add_ablation_arguments(kinds.add_parser("ablation", help="Table 3 on synthetic people: trains every row"))


def add_ablation_arguments(ablation: argparse.ArgumentParser) -> None:
    ablation.add_argument("--output", required=True, metavar="DIR", help="folder for networks and snapshots; an "
                          "interrupted training resumes from the last snapshot")
    ablation.add_argument("--results", default="benchmarks/ablation", metavar="DIR", help="folder for the result of "
                          "each row and seed, the table and the figure; rows that have a result are not trained again "
                          "(default: %(default)s)")
    ablation.add_argument("--budget", choices=("quick", "small", "medium", "full"), default="full",
                          help="how long to train and evaluate: in total a minute, half an hour, two hours, or ten "
                          "hours of one core (default: %(default)s)")
    ablation.add_argument("--quick", dest="budget", action="store_const", const="quick", help="the same as --budget "
                          "quick")
    ablation.add_argument("--row", action="append", metavar="NAME", help="only this row; repeatable")
    ablation.add_argument("--seed", action="append", type=int, metavar="N", help="only this seed, from 1; repeatable")
    ablation.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    ablation.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")


def run_ablation(args: argparse.Namespace) -> int:
    """Train and evaluate every row without a result, then print the table of all results."""
    from rmpe_legacy.paper.ablation import BUDGETS, Ablation, Progress
    from rmpe_legacy.paper.ablation_table import write_ablation
    from rmpe_legacy.runs.commands import Options

    Options(Path(args.output), device=args.device, threads=args.threads).start()
    interrupt = Interrupt()
    ablation = Ablation(BUDGETS[args.budget], Path(args.output), Path(args.results), Progress(tell, interrupt.action),
                        args.device)
    with interrupt.heeded():
        ablation.run(args.row, args.seed)
    say(write_ablation(ablation))
    if interrupt.seen:
        tell("stopped; run the same command again to resume")
        return 130
    return 0


def run(args: argparse.Namespace) -> int:
    """Run the paper's recipe and compare the results with its tables.

    Each row shows paper, measured and difference, or why the row cannot be measured.

    Several processes write the same files as one: torchrun --nproc-per-node N -m rmpe_legacy reproduce ...
    """
    if args.kind == "coco":
        from rmpe_legacy.paper.reproduce_coco import reproduce_coco, run_and_reproduce_coco

        if args.images:
            if args.predictions or not (args.pose and args.ground_truth):
                raise OptionError("--images needs a pose network (--pose) and the annotations (--ground-truth), and no "
                                  "--predictions")
            return run_on_images(args, lambda options: run_and_reproduce_coco(
                args.images, args.boxes, args.detector, args.pose, args.ground_truth, options))
        say(reproduce_coco(args.predictions, args.ground_truth).text)
        return 0
    if args.kind == "ablation":
        return run_ablation(args)
    if args.kind == "demo":
        from rmpe_legacy.paper.reproduce_demo import reproduce_demo

        return run_on_images(args, lambda options: reproduce_demo(args.detector, args.pose, options, args.images,
                                                                     args.world, args.quick))
    from rmpe_legacy.paper.reproduce import MpiiFiles, reproduce_mpii

    paths = {name: Path(value) if (value := getattr(args, name)) else None
             for name in ("proposals", "ground_truth", "groups", "report")}
    given = MpiiFiles(Path(args.images), args.pose, args.detector, paths["proposals"], paths["ground_truth"],
                      paths["groups"], args.split, args.row)
    return run_on_images(args, lambda options: reproduce_mpii(given, options, paths["report"]))
