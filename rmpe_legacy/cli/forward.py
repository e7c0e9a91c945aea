"""rmpe forward."""

from __future__ import annotations

import argparse

from .options import add_de_transform_option, add_net_options, load_plugins, result_stream
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("prototxt")
    command.add_argument("caffemodel", nargs="?", help="without it, parameters are as their fillers make them")
    command.add_argument("--input", action="append", default=[], metavar="NAME=FILE",
                         help="a .npy, an .npz or a picture for one input; repeatable. A picture is resized to the "
                         "input's size in the prototxt")
    command.add_argument("--blobs", default=None, metavar="all|A,B", help="which to write (default: the outputs)")
    command.add_argument("--output", default="blobs.npz", metavar="OUT.npz",
                         help="where to write the blobs; - is standard output (default: %(default)s)")
    command.add_argument("--image", choices=("detector", "pose"), default="pose",
                         help="how a picture becomes an input: RGB from 0 to 1 (pose, the default), or BGR from 0 to "
                         "255 minus the mean (detector)")
    add_de_transform_option(command)
    command.add_argument("--lenient", action="store_true", help="leave out what is not known, and say so")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add_net_options(command)


def run(args: argparse.Namespace) -> None:
    """Run a network on inputs from files and write blobs to an .npz."""
    from rmpe_legacy.caffe.inputs import run_forward
    from rmpe_legacy.caffe.load import load_net

    load_plugins(args.plugin)
    net = load_net(args.prototxt, args.caffemodel, args.phase, args.level, args.stage, args.dialect,
                   args.de_transform, not args.lenient, allow_python=args.allow_python)
    blobs = run_forward(net, args.input, args.blobs, args.output, args.device, args.image)
    told = result_stream(args.output)
    for name, value in blobs.items():
        say(f"{name:<24} {tuple(value.shape)}", told)
    say(f"written to {args.output}", told)
