"""rmpe forward."""

from __future__ import annotations

import argparse
import json

from rmpe_legacy.errors import NetError
from rmpe_legacy.wording import shorten

from .options import (
    add_de_transform_option,
    add_engine_option,
    add_net_options,
    finite,
    load_plugins,
    numbers,
    result_stream,
    size,
)
from .terminal import note, say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("prototxt", help="the network")
    command.add_argument("caffemodel", nargs="?", help="the weights; if omitted, parameters are initialised by "
                         "their fillers")
    command.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                         help="a .npy, .npz or image file for one input; repeatable. Images are resized to the "
                         "input's size in the prototxt")
    command.add_argument("--blobs", default=None, metavar="all|A,B", help="which blobs to write (default: the outputs)")
    command.add_argument("--output", default="blobs.npz", metavar="OUT.npz",
                         help="output file; - is standard output (default: %(default)s)")
    command.add_argument("--image", choices=("detector", "pose"), default="pose",
                         help="how to preprocess images: pose (default) is RGB in 0..1, detector is BGR in 0..255 "
                         "minus the mean")
    transformer = command.add_argument_group("images as for pycaffe's Transformer, instead of --image")
    transformer.add_argument("--mean", type=numbers, metavar="M|M,M,M", help="mean to subtract, per channel in "
                             "--channel-order")
    transformer.add_argument("--raw-scale", type=finite, metavar="F", help="the value of white before the mean is "
                             "subtracted: 1 (default) or 255")
    transformer.add_argument("--scale", type=finite, metavar="F", help="factor to apply after the mean is subtracted "
                             "(input_scale)")
    transformer.add_argument("--channel-order", choices=("RGB", "BGR"),
                             help="channel order of the input (default: RGB)")
    transformer.add_argument("--size", type=size, metavar="H,W", help="resize to this height and width, instead of the "
                             "prototxt's")
    command.add_argument("--json", action="store_true", help="print the blobs' shapes and statistics as JSON")
    add_de_transform_option(command)
    command.add_argument("--lenient", action="store_true", help="leave out unknown layers and fields, and run even if "
                         "the file has weights for no layer, with a warning")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add_engine_option(command, what="what runs the network")
    add_net_options(command)


def run(args: argparse.Namespace) -> None:
    """Run a network on inputs from files and write its blobs to an .npz."""
    from rmpe_legacy.caffe.inputs import ImageOptions, run_forward
    from rmpe_legacy.caffe.load import load_net
    from rmpe_legacy.formats.base import untrained_text

    load_plugins(args.plugin)
    net = load_net(args.prototxt, args.caffemodel, args.phase, args.level, args.stage, args.dialect,
                   args.de_transform, not args.lenient, allow_python=args.allow_python)
    bare = net.left_out.untrained
    if bare and set(bare) >= set(net.params) and not args.lenient:  # weights of another network; Caffe runs it
        raise NetError(untrained_text(args.caffemodel, bare))
    if args.caffemodel is None and net.params:
        note("no weights are given: the parameters have the values of their fillers; give the caffemodel after the "
             "prototxt")
    given = {name: value for name in ("mean", "raw_scale", "scale", "channel_order", "size")
             if (value := getattr(args, name)) is not None}
    blobs = run_forward(net, args.input, args.blobs, args.output, args.device,
                        ImageOptions(**given) if given else args.image, note, args.engine)
    stream = result_stream(args.output)
    if args.json:
        say(json.dumps({name: _statistics(value) for name, value in blobs.items()}), stream)
        return
    for name, value in blobs.items():
        say(f"{shorten(name):<24} {tuple(value.shape)}", stream)
    say(f"written to {args.output}", stream)


def _statistics(value) -> dict:
    """What scripts compare: numbers that JSON cannot hold, NaN and infinity, are null."""
    finite = value[abs(value) < float("inf")]
    numbers = {"min": finite.min(), "max": finite.max(), "mean": finite.mean()} if finite.size else {}
    return {"shape": list(value.shape), "finite": bool(finite.size == value.size),
            **{name: float(number) for name, number in numbers.items()}}
