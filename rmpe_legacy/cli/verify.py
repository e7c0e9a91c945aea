"""rmpe verify."""

from __future__ import annotations

import argparse

from .options import (
    add_compare_options,
    add_engine_option,
    add_source_options,
    load_plugins,
    result_stream,
    setting_of,
)
from .terminal import say


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="A")
    command.add_argument("b", metavar="B")
    command.add_argument("--html", metavar="FILE", help="write the comparison as an HTML page; - is standard output")
    add_source_options(command)
    add_compare_options(command)
    add_engine_option(command, what="what runs B, if it is a Caffe network")
    command.set_defaults(code_of_mistakes=2)  # 1 says that the networks differ


def run(args: argparse.Namespace) -> int:
    """Run two networks on the same inputs and compare them blob by blob: exit code 0 if they are the same, 1 if not.

    A and B are each PROTOTXT,WEIGHTS (weights as .caffemodel, .h5, .safetensors or .pt); opencv:PROTOTXT,CAFFEMODEL for
    OpenCV 4's importer; a .safetensors or .json written by `rmpe convert`; a .t7, .onnx or .py; or an .npz of blobs
    written by `rmpe forward`. Weights alone use the other network's prototxt. A .py is a program and will be run.
    """
    from rmpe_legacy.compare.convert import CompareOptions, run_verify
    from rmpe_legacy.formats.base import SourceOptions

    load_plugins(args.plugin)
    compare = CompareOptions(args.input, args.image, args.tolerance, args.seed)
    options = SourceOptions(lenient=args.lenient, parallel=not args.drop_parallel, key=args.key)
    change = {} if args.engine == "exact" else {"change_b": _in_engine(args.engine)}
    verdict = run_verify(args.a, args.b, setting_of(args), compare, args.html, options, **change)
    say(verdict, result_stream(args.html))
    return 0 if verdict.same else 1


def _in_engine(engine: str):
    from rmpe_legacy.engines.proof import in_engine

    return lambda runner: in_engine(runner, engine)
