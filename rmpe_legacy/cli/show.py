"""rmpe show."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.wording import shorten_list

from .options import add_net_options, load_plugins
from .shapes_only import shapes_only
from .short_lived import without_garbage_collection
from .terminal import say, tell

if TYPE_CHECKING:
    from rmpe_legacy.caffe.describe import Description


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", help="a prototxt, a caffemodel, or a .t7 file")
    command.add_argument("--weights", metavar="CAFFEMODEL", help="check whether these weights fit the network")
    add_net_options(command)


@without_garbage_collection()
def run(args: argparse.Namespace) -> int:
    """List a network's layers with their output shapes and parameters, or the contents of a weights file.

    `rmpe draw` draws the same layers as an image.

    With --weights, the exit code is 1 if the weights do not fit the network or do not cover all its parameters.
    """
    from rmpe_legacy.files import is_binary
    from rmpe_legacy.reading import first_bytes
    from rmpe_legacy.torch7.reader import encoding_of

    start = first_bytes(args.file, 4096)
    is_torch7 = encoding_of(start) is not None
    if args.weights and (is_torch7 or is_binary(start)):
        raise RmpeError(f"{args.file}: contains weights, but --weights {args.weights} needs a prototxt to compare "
                        "with; swap the two if they are in the wrong order")
    if is_torch7:
        from rmpe_legacy.torch7.describe import describe_torch7

        say(describe_torch7(args.file))
        return 0
    if is_binary(start):
        from rmpe_legacy.caffe.describe import describe_weights

        say(describe_weights(args.file))
        return 0
    described = _described(args) if args.plugin else shapes_only(lambda: _described(args))  # plugins may use torch
    say(described.text)
    if described.misfits:
        tell(f"{args.weights}: does not fit, or does not contain, {shorten_list(described.misfits)}")
    return 1 if described.misfits else 0


def _described(args: argparse.Namespace) -> Description:
    from rmpe_legacy.caffe.describe import describe_net

    load_plugins(args.plugin)
    return describe_net(args.file, args.phase, args.level, args.stage, args.dialect, args.weights)
