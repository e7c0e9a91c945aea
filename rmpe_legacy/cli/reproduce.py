"""rmpe reproduce."""

from __future__ import annotations

import argparse
from pathlib import Path

from .batch import run_on_images
from .options import add_image_options, add_network_options
from .terminal import say, tell
from .training_log import Interrupt


def add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="mpii|coco|demo|ablation", required=True)
    mpii = kinds.add_parser("mpii", help="Table 3, MPII validation; and why Table 1 cannot be measured")
    mpii.add_argument("--images", required=True, metavar="DIR", help="MPII's pictures")
    add_network_options(mpii, "detector", "pose", shipped=False)
    mpii.add_argument("--proposals", metavar="DIR", help="a detector's boxes (index.txt, score.txt, test-bbox.h5), in "
                      "place of --detector")
    mpii.add_argument("--ground-truth", metavar="FILE", help="as for rmpe evaluate mpii")
    mpii.add_argument("--groups", metavar="FILE", help="as for rmpe evaluate mpii")
    mpii.add_argument("--split", choices=("train", "test"), default="train", help="of RELEASE (default: train)")
    mpii.add_argument("--row", default="full", metavar="NAME", help="the row of Table 3 that the pose network was "
                      "trained for (default: full); rows of several runs with one --output stand in one table")
    mpii.add_argument("--report", metavar="OUT.html", help="a page that shows every step")
    add_image_options(mpii, published=None, threads=1)
    coco = kinds.add_parser("coco", help="Table 2; and why nobody can measure it")
    coco.add_argument("--predictions", metavar="FILE", help="results with COCO's 17 joints, JSON")
    coco.add_argument("--ground-truth", metavar="FILE", help="person_keypoints_*.json")
    drawn = kinds.add_parser("demo", help="the same steps on drawn people, whose joints are known")
    add_network_options(drawn, "detector", "pose")
    drawn.add_argument("--pictures", type=int, metavar="N", help="how many (default: 300, or 24 with --quick)")
    drawn.add_argument("--quick", action="store_true", help="only the first rows, of the detector's own boxes")
    drawn.add_argument("--world", type=int, default=1_000_003, metavar="SEED", help="other pictures (default: "
                       "%(default)s)")
    add_image_options(drawn, published="demo-test", threads=1)
    add_ablation_arguments(kinds.add_parser("ablation", help="Table 3 in the drawn world: trains and judges each row"))


def add_ablation_arguments(ablation: argparse.ArgumentParser) -> None:
    ablation.add_argument("--output", required=True, metavar="DIR", help="where networks and snapshots go; an "
                          "interrupted training goes on from its last one")
    ablation.add_argument("--results", default="benchmarks/ablation", metavar="DIR", help="where each finished row and "
                          "seed leaves a small file, and the table and the figure go; a row that has one is not "
                          "trained again (default: %(default)s)")
    ablation.add_argument("--budget", choices=("quick", "small", "full"), default="full", help="how long each row is "
                          "trained, and how it is judged: a minute in all, half an hour, or some hours (default: full)")
    ablation.add_argument("--quick", dest="budget", action="store_const", const="quick", help="--budget quick")
    ablation.add_argument("--row", action="append", metavar="NAME", help="only this row; repeatable")
    ablation.add_argument("--seed", action="append", type=int, metavar="N", help="only this seed, from 1 on; "
                          "repeatable")
    ablation.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    ablation.add_argument("--threads", type=int, default=1, metavar="N", help="of the processor (default: 1)")


def run_ablation(args: argparse.Namespace) -> int:
    """Train and judge what has no result yet; then the table of all results."""
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
        tell("stopped; the same command goes on where it stopped")
        return 130
    return 0


def run(args: argparse.Namespace) -> int:
    """The paper's recipe, from pictures to its tables: paper | measured | difference, and why a row cannot be measured.

    Also with several processes: torchrun --nproc-per-node N -m rmpe_legacy reproduce ...; the files are the same.
    """
    if args.kind == "coco":
        from rmpe_legacy.paper.reproduce import reproduce_coco

        say(reproduce_coco(args.predictions, args.ground_truth).text)
        return 0
    if args.kind == "ablation":
        return run_ablation(args)
    if args.kind == "demo":
        from rmpe_legacy.paper.reproduce_demo import reproduce_demo

        return run_on_images(args, lambda options: reproduce_demo(args.detector, args.pose, options, args.pictures,
                                                                     args.world, args.quick))
    from rmpe_legacy.paper.reproduce import MpiiFiles, reproduce_mpii

    if args.published is None:
        args.published = "torch7" if len(args.pose) == 1 else "demo-test"
    paths = {name: Path(value) if (value := getattr(args, name)) else None
             for name in ("images", "proposals", "ground_truth", "groups", "report")}
    given = MpiiFiles(paths["images"], args.pose, args.detector, paths["proposals"], paths["ground_truth"],
                      paths["groups"], args.split, args.row)
    return run_on_images(args, lambda options: reproduce_mpii(given, options, paths["report"]))
