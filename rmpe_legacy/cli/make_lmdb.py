"""rmpe make-lmdb."""

from __future__ import annotations

import argparse

from rmpe_legacy.errors import OptionError
from rmpe_legacy.wording import pluralize, shorten

from .options import seed
from .terminal import say, tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--coco", metavar="FILE", help="COCO annotations, such as instances_*.json")
    source.add_argument("--mpii", metavar="FILE", help="MPII annotations as for `rmpe evaluate mpii`; a person's box "
                        "is the extent of the joints, enlarged by a twentieth on each side")
    source.add_argument("--boxes", metavar="FILE", help="a list with one line per person: name xmin ymin xmax ymax")
    command.add_argument("--images", required=True, metavar="DIR", help="the folder of the images")
    command.add_argument("output", metavar="OUT", help="the folder of the new LMDB")
    command.add_argument("--label-map", metavar="FILE", help="for --coco: a LabelMap prototxt with the names or ids of "
                         "categories (default: person is 1, and other categories are left out)")
    command.add_argument("--groups", metavar="FILE", help="for --mpii: the names or groups of the images")
    command.add_argument("--split", choices=("train", "test"), default="train", help="for --mpii: which "
                         "split of RELEASE to use (default: %(default)s)")
    command.add_argument("--encode-type", choices=("jpg", "png"), default="jpg",
                         help="re-encode images of other types as this type (default: %(default)s)")
    command.add_argument("--shuffle", type=seed, metavar="SEED", help="shuffle the images (default: the order of FILE)")


def run(args: argparse.Namespace) -> int:
    """Write an LMDB of images with boxes for AnnotatedData, as SSD's create_data.sh does."""
    from rmpe_legacy.runs.make_lmdb import PERSON, coco_images, listed_images, make_lmdb, mpii_images, read_label_map

    if args.coco:
        images = coco_images(args.coco, read_label_map(args.label_map) if args.label_map else PERSON)
    elif args.label_map:
        raise OptionError("--label-map: only COCO annotations have categories; leave it out")
    elif args.boxes:
        images = listed_images(args.boxes)
    else:
        images = mpii_images(args.mpii, args.groups, args.split)
    summary = make_lmdb(images, args.images, args.output, args.encode_type, args.shuffle)
    say(f"{pluralize(summary.written, 'image')} with {pluralize(summary.boxes, 'box')} written to {args.output}")
    if summary.without_boxes:
        say(f"{pluralize(summary.without_boxes, 'image')} without boxes left out")
    for name, reason in summary.unreadable.items():
        tell(f"left out {shorten(name)}: {reason}")
    return 3 if summary.unreadable else 0
