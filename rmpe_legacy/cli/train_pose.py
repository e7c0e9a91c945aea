"""rmpe train-pose."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rmpe_legacy.errors import RmpeError

from .caffe_log import run_logged, snapshot_named
from .interrupt import Interrupt
from .options import seed
from .terminal import say

if TYPE_CHECKING:
    from rmpe_legacy.distributed import World
    from rmpe_legacy.training.boxes import BoxSampler
    from rmpe_legacy.training.people import Person

BOXES = ("mixture", "gaussian", "jitter", "true")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--solver", required=True, metavar="FILE", help="the solver.prototxt; its network needs the "
                         "inputs data, label and, with a parallel SPPE, label_center")
    data = command.add_mutually_exclusive_group(required=True)
    data.add_argument("--annotations", metavar="FILE", help="annotated people: the authors' lists (.txt), annot.h5, "
                      "COCO's person_keypoints_*.json, or MPII's .mat")
    data.add_argument("--drawn", type=seed, metavar="SEED", help="train on synthetic people (SEED selects the images)")
    command.add_argument("--images", metavar="DIR", help="the folder of the images named in --annotations")
    add_annotation_options(command)
    command.add_argument("--boxes", choices=BOXES, help="how to disturb the true boxes: by PGPG's mixture for each "
                         "atomic pose (mixture), by the published Gaussian for each coordinate and patches (gaussian), "
                         "uniformly (jitter), or not at all (true). Default: mixture with --pgpg or --detections, "
                         "gaussian with an annot.h5 that has mu and std")
    pgpg = command.add_mutually_exclusive_group()
    pgpg.add_argument("--pgpg", metavar="FILE", help="a PGPG model written by rmpe pgpg fit")
    pgpg.add_argument("--detections", metavar="DIR", help="a detector's boxes in the images (index.txt, score.txt, "
                      "test-bbox.h5), to fit PGPG to before training")
    begin = command.add_mutually_exclusive_group()
    begin.add_argument("--weights", metavar="W", help="initial weights, for example those of a trained SPPE")
    begin.add_argument("--snapshot", metavar="STATE", help="the .solverstate to resume from")
    command.add_argument("--parallel-weights", metavar="W", help="weights of a trained SPPE for the parallel branch")
    command.add_argument("--published", choices=("torch7", "demo"), default="torch7",
                         help="the program whose cropping, resizing and heatmap targets to follow (default: torch7, "
                         "the authors' training code)")
    command.add_argument("--batch", type=int, metavar="N", help="samples per batch (default: the batch size in the "
                         "prototxt)")
    command.add_argument("--seed", type=seed, default=0, help="seed of the samples (default: 0); the solver's "
                         "random_seed is the seed of the weights")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all)")


def add_annotation_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--groups", metavar="FILE", help="groups for MPII's .mat, as for rmpe evaluate mpii")
    command.add_argument("--split", choices=("train", "test"), default="train", help="which split of MPII's RELEASE to "
                         "use (default: train)")


def run(args: argparse.Namespace) -> int:
    """Train SPPE and SSTN on PGPG samples with a Caffe solver; the STN learns from the heatmaps.

    Ctrl-C saves a snapshot and stops; --snapshot resumes from it. To train in several processes:
    torchrun --nproc-per-node 2 -m rmpe_legacy train-pose ...
    """
    first = os.environ.get("RANK", "0") == "0"
    return run_logged(lambda _log: _train(args), quiet=not first)


def _train(args: argparse.Namespace) -> int:
    from rmpe_legacy.distributed import join_world

    with join_world() as world:
        return _run_training(args, world)


def _run_training(args: argparse.Namespace, world: World) -> int:
    import torch

    from rmpe_legacy.training.sources import AnnotatedPictures, DrawnPeople
    from rmpe_legacy.training.train_pose import PoseTraining, state_file, weights_file

    if args.threads is not None:
        if args.threads < 1:
            raise RmpeError(f"threads {args.threads} is less than 1")
        torch.set_num_threads(args.threads)
    people = _people(args)
    source = (DrawnPeople(args.drawn) if args.drawn is not None else
              AnnotatedPictures(tuple(people), Path(args.images), args.seed))
    interrupt = Interrupt()
    training = PoseTraining(args.solver, source, _sampler(args, people), args.published, args.batch, args.seed,
                            interrupt.action, world.device(args.device), world)
    with interrupt.heeded():
        if args.snapshot is None:
            training.start_from(args.weights, args.parallel_weights)
        with snapshot_named(training.solver):
            finished = training.run(args.snapshot)
    if finished:
        done = f"trained {training.solver.iter} iterations: {weights_file(training.solver)}"
    else:
        done = (f"stopped at iteration {training.solver.iter}; resume with --snapshot {state_file(training.solver)}")
    if world.first:
        say(done)
    return 0 if finished else 130


def _people(args: argparse.Namespace) -> list[Person]:
    """The annotated people; none with --drawn."""
    from rmpe_legacy.training.annotations import read_annotations

    if args.drawn is not None:
        if args.images or args.detections:
            raise RmpeError("--images and --detections belong to --annotations; the synthetic people have their own "
                            "images, and rmpe pgpg fit --drawn fits PGPG to them")
        return []
    if not args.images:
        raise RmpeError("--annotations needs --images, the folder of the images that it names")
    return read_annotations(args.annotations, args.groups, args.split)


def _sampler(args: argparse.Namespace, people: list[Person]) -> BoxSampler:
    """How boxes are disturbed; grown as the program of --published grows detections."""
    import numpy as np

    from rmpe_legacy.training.boxes import JitteredBoxes, PublishedBoxes, TrueBoxes
    from rmpe_legacy.training.pgpg import fit_pgpg, read_pgpg
    from rmpe_legacy.training.proposals import pairs_of

    stored = bool(people) and all(p.offset_mean is not None and p.offset_std is not None for p in people)
    model = read_pgpg(args.pgpg) if args.pgpg else None
    if args.detections:
        model = fit_pgpg(pairs_of(args.detections, people), seed=args.seed)
    boxes = args.boxes or ("mixture" if model else "gaussian" if stored else None)
    if boxes is None:
        raise RmpeError("how a detector's boxes differ from the true ones is not known; give --pgpg FILE, --detections "
                        "DIR, or --boxes true or jitter")
    if boxes == "true":
        return TrueBoxes(args.published)
    if boxes == "jitter":
        return JitteredBoxes(growth=args.published)
    if boxes == "gaussian" and stored and model is None:
        return PublishedBoxes(np.zeros(4), np.zeros(4))  # each person brings its own
    if model is None:
        raise RmpeError(f"--boxes {boxes} needs a PGPG model: give --pgpg FILE or --detections DIR")
    return model.grown_as(args.published) if boxes == "mixture" else model.published()
