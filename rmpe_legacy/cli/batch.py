"""What the commands on many images share: progress, processes, interruption and the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rmpe_legacy.wording import printable

from .terminal import say, tell


def run_on_images(args: argparse.Namespace, run: Callable) -> int:
    """Run a command over pictures with a progress bar; 2 if some could not be read."""
    from rmpe_legacy.distributed import join_world
    from rmpe_legacy.runs.commands import Options

    with join_world() as world:
        options = Options(Path(args.output), args.published, args.threshold, args.device, getattr(args, "batch", 1),
                          args.threads, getattr(args, "de_transform", None), _surroundings(world), args.allow_python)
        try:
            outcome = run(options)
        except KeyboardInterrupt:
            tell("interrupted; the same command goes on where it stopped")
            return 130
    if outcome.text:
        say(outcome.text)
    return 2 if outcome.skipped else 0


def _surroundings(world):
    """A bar and sentences on stderr; of several processes only the first has a bar."""
    from tqdm import tqdm

    from rmpe_legacy.runs.batch_run import Surroundings

    def progress(items):
        return tqdm(items, unit="picture", disable=None if world.first else True, dynamic_ncols=True)

    return Surroundings(world, progress, lambda text: tqdm.write(printable(f"rmpe: {text}"), file=sys.stderr))
