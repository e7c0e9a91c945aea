"""Shared by the commands on many images: progress, processes, interruption and the exit code."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from .options import detector_options
from .terminal import OK, PARTIAL, note, say, tell

PROGRESS_SECONDS = 10.0
T = TypeVar("T")


def run_on_images(args: argparse.Namespace, run: Callable) -> int:
    """Run a command on images with a progress bar and return its exit code: 3 if some images could not be read."""
    from rmpe_legacy.distributed import join_world
    from rmpe_legacy.runs.commands import Options

    with join_world() as world:
        joints, onnx_input = onnx_options(args)
        options = Options(Path(args.output), _published(args), args.threshold, args.device, getattr(args, "batch", 1),
                          args.threads, getattr(args, "de_transform", None), _run_context(world, args.quiet),
                          args.allow_python, tuple(getattr(args, "format", ("ours",))), joints, onnx_input,
                          getattr(args, "recursive", False), detector_options(args), args.engine,
                          getattr(args, "pictures", True), getattr(args, "workers", 1))
        try:
            result = run(options)
        except KeyboardInterrupt:
            tell("interrupted; run the same command again to resume")
            return 130
    if result.text:
        say(result.text)
    return PARTIAL if result.skipped else OK


def _published(args: argparse.Namespace) -> str:
    """The recipe asked for, else the one that suits the pose network's files."""
    pose = getattr(args, "pose", None) or []
    if args.published:
        return args.published
    if len(pose) == 1 and pose[0].lower().endswith(".onnx"):
        return "alphapose"
    return args.default_published or ("torch7" if len(pose) == 1 else "demo-test")


def onnx_options(args: argparse.Namespace):
    """The joint set and the input options of an .onnx pose network; None where it is none, or by default."""
    from rmpe_legacy.pose.joints import read_joint_set
    from rmpe_legacy.pose.onnx_network import InputOptions

    if "box_padding" not in args:
        return None, None
    joints = read_joint_set(args.joints) if args.joints else None
    return joints, InputOptions(args.mean, args.std, args.channel_order, args.raw_scale, args.box_padding)


def _run_context(world, quiet: bool):
    """Report on standard error; with several processes, only the first shows progress."""
    from tqdm import tqdm

    from rmpe_legacy.runs.batch_run import RunContext

    def progress(items):
        if quiet or not world.first:
            return items
        if sys.stderr is not None and sys.stderr.isatty():
            return tqdm(items, unit="image", dynamic_ncols=True)
        return progress_lines(items)

    return RunContext(world, progress, note)


def progress_lines(items: Sequence[T], seconds: float = PROGRESS_SECONDS) -> Iterator[T]:
    """Iterate, and log how far it is every few seconds: for log files, where a bar would be a mess."""
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= seconds:
            last, rate = now, done / (now - start)
            note(f"{done} of {len(items)} images, {rate:.2g} per second, {duration((len(items) - done) / rate)} left")
        yield item


def duration(seconds: float) -> str:
    """"45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
