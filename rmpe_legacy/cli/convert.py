"""rmpe convert."""

from __future__ import annotations

import argparse

from rmpe_legacy.errors import OptionError

from .options import add_compare_options, add_source_options, dynamic_axes, input_shape, load_plugins, setting_of
from .terminal import note, say, tell


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", nargs="+", help="a prototxt and a weights file; a .safetensors or .json written by "
                         "this command; a .t7; or weights alone")
    command.add_argument("destination", help="the suffix selects the format: .caffemodel, .h5, .safetensors, .pt, "
                         ".onnx, .py or .prototxt; a folder (or NAME/) receives a prototxt and a caffemodel")
    command.add_argument("--until", action="append", default=[], metavar="BLOB",
                         help="convert only the layers that this blob depends on; repeatable")
    command.add_argument("--input-shape", action="append", type=input_shape, default=[], metavar="[NAME=]SIZES",
                         help="the shape of an input, with or without the batch: data=3,227,227. Data layers become "
                         "inputs of this shape. For a .t7: C,H,W (default: the input size of its STN). Repeatable")
    command.add_argument("--dynamic", type=dynamic_axes, metavar="AXES",
                         help="for .onnx: the axes of the inputs that may have any size, some of batch,height,width "
                         "(default: the batch, if the network allows it)")
    command.add_argument("--no-verify", action="store_true", help="do not run and compare the two networks")
    command.add_argument("--force", action="store_true", help="replace existing files of the same kind")
    add_source_options(command)
    add_compare_options(command)


def run(args: argparse.Namespace) -> int:
    """Convert a network, compare the result with its source, and write the comparison next to the result."""
    from rmpe_legacy.compare.convert import CompareOptions, run_convert
    from rmpe_legacy.export.deploy import InputShape
    from rmpe_legacy.formats.base import SourceOptions

    if args.no_verify and args.input:
        raise OptionError("--input is for the comparison, which --no-verify disables; leave out one of them")
    load_plugins(args.plugin)
    options = SourceOptions(tuple(args.until), tuple(InputShape(*shape) for shape in args.input_shape), args.lenient,
                            not args.drop_parallel, args.key, args.dynamic)
    compare = None if args.no_verify else CompareOptions(args.input, args.image, args.tolerance, args.seed)
    result = run_convert(args.source, args.destination, setting_of(args), options, compare, args.force)
    for each in result.notes:
        note(f"note: {each}")
    for file in result.files:
        say(f"written to {file}")
    if result.verdict:
        say(result.verdict) if result.same else tell(result.verdict)
    return 0 if result.same else 1
