"""rmpe forward."""

from __future__ import annotations

import argparse

from .options import add_de_transform_option, add_net_options, load_plugins, result_stream
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("prototxt")
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
    add_de_transform_option(command)
    command.add_argument("--lenient", action="store_true", help="leave out unknown layers and fields, with a warning")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add_net_options(command)


def run(args: argparse.Namespace) -> None:
    """Run a network on inputs from files and write its blobs to an .npz."""
    from rmpe_legacy.caffe.inputs import run_forward
    from rmpe_legacy.caffe.load import load_net

    load_plugins(args.plugin)
    net = load_net(args.prototxt, args.caffemodel, args.phase, args.level, args.stage, args.dialect,
                   args.de_transform, not args.lenient, allow_python=args.allow_python)
    blobs = run_forward(net, args.input, args.blobs, args.output, args.device, args.image)
    stream = result_stream(args.output)
    for name, value in blobs.items():
        say(f"{name:<24} {tuple(value.shape)}", stream)
    say(f"written to {args.output}", stream)
