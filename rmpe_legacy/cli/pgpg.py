"""rmpe pgpg."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rmpe_legacy.errors import OptionError

from .options import add_network_options, detector_options, seed
from .terminal import say
from .train_pose import add_annotation_options

if TYPE_CHECKING:
    from rmpe_legacy.training.people import Person
    from rmpe_legacy.training.pgpg import Pairs


def add_arguments(command: argparse.ArgumentParser) -> None:
    kinds = command.add_subparsers(dest="kind", metavar="fit|sample|draw", required=True)
    fit = kinds.add_parser("fit", help="fit the mixtures to a detector's boxes and the true boxes")
    data = fit.add_mutually_exclusive_group(required=True)
    data.add_argument("--annotations", metavar="FILE", help="people, as for rmpe train-pose")
    data.add_argument("--drawn", type=seed, metavar="SEED", help="use synthetic people, and the boxes that --detector "
                      "finds (SEED selects the images)")
    fit.add_argument("--detections", metavar="DIR", help="a detector's boxes in the images (index.txt, score.txt, "
                     "test-bbox.h5); rmpe detect writes them")
    add_annotation_options(fit)
    fit.add_argument("--pictures", type=int, default=600, metavar="N", help="number of images with --drawn (default: "
                     "%(default)s)")
    add_network_options(fit, "detector")
    fit.add_argument("--atomic-poses", type=int, default=16, metavar="K", help="number of clusters of torso-aligned "
                     "poses (default: %(default)s; the paper does not state its number)")
    fit.add_argument("--gaussians", type=int, default=3, metavar="N", help="largest number of Gaussians in each "
                     "mixture (default: %(default)s)")
    fit.add_argument("--seed", type=seed, default=0, help="seed of the clustering and the fit (default: 0)")
    fit.add_argument("--output", required=True, metavar="FILE.json")
    sample = kinds.add_parser("sample", help="print boxes for annotated people, one per line: image xmin ymin xmax "
                              "ymax")
    sample.add_argument("model", metavar="FILE.json")
    sample.add_argument("--annotations", required=True, metavar="FILE", help="annotated people, in any form that rmpe "
                        "train-pose reads")
    sample.add_argument("--images", required=True, metavar="DIR", help="the folder of their images; boxes end at the "
                        "image borders")
    add_annotation_options(sample)
    sample.add_argument("--boxes", choices=("mixture", "gaussian"), default="mixture", help="the paper's mixtures, or "
                        "the published program's Gaussians and patches (default: mixture)")
    sample.add_argument("--count", type=int, default=1, metavar="N", help="number of boxes for each person (default: "
                        "1)")
    sample.add_argument("--seed", type=seed, default=0)
    draw = kinds.add_parser("draw", help="draw the atomic poses with sampled boxes")
    draw.add_argument("model", metavar="FILE.json")
    draw.add_argument("--output", required=True, metavar="FILE.png")
    draw.add_argument("--seed", type=seed, default=0)


def run(args: argparse.Namespace) -> None:
    """Model how a detector's boxes differ from the true ones (PGPG): fit the model, sample boxes from it, draw it."""
    {"fit": _fit, "sample": _sample, "draw": _draw}[args.kind](args)


def _fit(args: argparse.Namespace) -> None:
    from rmpe_legacy.files import check_places
    from rmpe_legacy.training.pgpg import fit_pgpg, write_pgpg

    check_places(args.output)
    pairs = _pairs(args)
    model = fit_pgpg(pairs, args.atomic_poses, args.gaussians, args.seed)
    write_pgpg(args.output, model)
    say(f"{len(pairs)} detections belong to a person, {model.pairs} of them to one with a torso\n"
        f"offsets, as parts of the sides: mean {_four(model.mean)}, standard deviation {_four(model.std)}\n"
        f"{len(model.atomic_poses)} atomic poses written to {args.output}")


def _four(values) -> str:
    return "(" + ", ".join(f"{name} {value:+.4f}" for name, value in zip(
        ("xmin", "ymin", "xmax", "ymax"), values, strict=True)) + ")"


def _pairs(args: argparse.Namespace) -> Pairs:
    from rmpe_legacy.pose.demo_models import demo_model
    from rmpe_legacy.pose.detect import load_detector
    from rmpe_legacy.pose.published import get_recipe
    from rmpe_legacy.training.drawn_detections import drawn_pairs
    from rmpe_legacy.training.proposals import pairs_of

    if args.drawn is not None:
        if args.detections:
            raise OptionError("--detections belongs to --annotations; with --drawn, --detector finds the boxes")
        if args.pictures < 1:
            raise OptionError(f"--pictures {args.pictures} is less than 1")
        detector = load_detector(*(args.detector or demo_model("detector")), options=detector_options(args))
        return drawn_pairs(detector, args.drawn, args.pictures, get_recipe("demo-test").threshold)
    if not args.detections:
        raise OptionError("--annotations needs --detections, a detector's boxes in the same images")
    return pairs_of(args.detections, _people(args))


def _people(args: argparse.Namespace) -> list[Person]:
    from rmpe_legacy.training.annotations import read_annotations

    return read_annotations(args.annotations, args.groups, args.split)


def _sample(args: argparse.Namespace) -> None:
    import numpy as np

    from rmpe_legacy.training.pgpg import read_pgpg
    from rmpe_legacy.training.sources import load_picture

    if args.count < 1:
        raise OptionError(f"count {args.count} is less than 1")
    model, rng = read_pgpg(args.model), np.random.default_rng(args.seed)
    sampler = model if args.boxes == "mixture" else model.published()
    for person in _people(args):
        height, width = load_picture(str(Path(args.images) / person.image)).shape[:2]
        for _ in range(args.count):
            box = sampler.sample(rng, person, (width, height)).crop
            say(" ".join([json.dumps(person.image, ensure_ascii=False), *(f"{value:.2f}" for value in box)]))


def _draw(args: argparse.Namespace) -> None:
    from rmpe_legacy.files import check_places, whole_file
    from rmpe_legacy.training.pgpg import read_pgpg
    from rmpe_legacy.training.pgpg_figure import draw_pgpg

    check_places(args.output)
    picture = draw_pgpg(read_pgpg(args.model), args.seed)
    with whole_file(args.output) as file:
        file.write(picture)
    say(f"written to {args.output}")
