"""rmpe serve."""

from __future__ import annotations

import argparse
from pathlib import Path

from .batch import onnx_options
from .options import add_network_options, add_run_options, detector_options, port, positive
from .terminal import OK, finish, note, say


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_network_options(command, "detector", "pose", repeatable=True)
    add_run_options(command)
    command.add_argument("--port", type=port, default=8000, help="port of the page; 0 takes any free one (default: "
                         "%(default)s)")
    command.add_argument("--max-upload", type=positive, default=20, metavar="MB", help="largest file that is accepted "
                         "(default: %(default)s)")
    command.add_argument("--max-pixels", type=positive, default=25, metavar="MILLION", help="largest image that is "
                         "accepted (default: %(default)s)")
    command.add_argument("--timeout", type=positive, default=60, metavar="SECONDS", help="time limit for each upload, "
                         "and again for its result (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Show RMPE's steps for photos that you drop on a page in your browser.

    Only this computer can open the page: it is served on 127.0.0.1. Give --detector or --pose several times to choose
    among the networks on the page. Ctrl-C stops the server.
    """
    from rmpe_legacy.serve.server import check_libraries, listen, make_server, serve

    check_libraries()
    from rmpe_legacy.runs.commands import Options
    from rmpe_legacy.serve.service import Limits, load_service

    with listen(args.port) as listener:
        joints, onnx_input = onnx_options(args)
        options = Options(Path(), device=args.device, batch=args.batch, threads=args.threads,
                          de_transform=args.de_transform, allow_python=args.allow_python, joints=joints,
                          onnx_input=onnx_input, detector=detector_options(args), engine=args.engine)
        limits = Limits(args.max_upload * 1_000_000, args.max_pixels * 1_000_000, args.timeout)
        server = make_server(load_service(args.detector or (), args.pose or (), options, limits))
        serve(server, listener, _tell_address)
    note("stopped")
    return OK


def _tell_address(address: str) -> None:
    say(f"{address} is ready; press Ctrl-C to stop it")
    finish()  # a pipe would keep it back
