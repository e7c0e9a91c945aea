"""rmpe verify."""

from __future__ import annotations

import argparse

from .options import add_compare_options, add_source_options, load_plugins, result_stream, setting_of
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--html", metavar="FILE", help="draw the comparison as a page; - is standard output")
    add_source_options(command)
    add_compare_options(command)
    command.set_defaults(code_of_mistakes=2)  # 1 says that the networks differ


def run(args: argparse.Namespace) -> int:
    """Are two networks the same? Run both on the same inputs and compare blob by blob: exit code 0 for yes, 1 for no.

    A side is PROTOTXT,WEIGHTS (weights as .caffemodel, .h5, .safetensors or .pt); opencv:PROTOTXT,CAFFEMODEL for
    OpenCV 4's importer; a .safetensors or .json that `rmpe convert` wrote; a .t7, .onnx or .py; or the blobs of
    `rmpe forward`, .npz. Weights alone get the other side's prototxt. A .py is a program, and is run.
    """
    from rmpe_legacy.compare.convert import Trial, run_verify
    from rmpe_legacy.formats.source import SourceOptions

    load_plugins(args.plugin)
    trial = Trial(args.input, args.image, args.tolerance, args.seed)
    options = SourceOptions(lenient=args.lenient, parallel=not args.drop_parallel, key=args.key)
    verdict = run_verify(args.a, args.b, setting_of(args), trial, args.html, options)
    say(verdict, result_stream(args.html))
    return 0 if verdict.same else 1
