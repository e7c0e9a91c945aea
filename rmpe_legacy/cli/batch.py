"""Shared by the commands on many images: progress, processes, interruption and the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rmpe_legacy.wording import printable

from .terminal import say, tell


def run_on_images(args: argparse.Namespace, run: Callable) -> int:
    """Run a command on images with a progress bar and return its exit code: 2 if some images could not be read."""
    from rmpe_legacy.distributed import join_world
    from rmpe_legacy.runs.commands import Options

    with join_world() as world:
        options = Options(Path(args.output), args.published, args.threshold, args.device, getattr(args, "batch", 1),
                          args.threads, getattr(args, "de_transform", None), _run_context(world), args.allow_python)
        try:
            result = run(options)
        except KeyboardInterrupt:
            tell("interrupted; run the same command again to resume")
            return 130
    if result.text:
        say(result.text)
    return 2 if result.skipped else 0


def _run_context(world):
    """Report on standard error; with several processes, only the first shows a progress bar."""
    from tqdm import tqdm

    from rmpe_legacy.runs.batch_run import RunContext

    def progress(items):
        return tqdm(items, unit="image", disable=None if world.first else True, dynamic_ncols=True)

    return RunContext(world, progress, lambda text: tqdm.write(printable(f"rmpe: {text}"), file=sys.stderr))
