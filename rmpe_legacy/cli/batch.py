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
    from rmpe_legacy.runs.commands import Options
    from rmpe_legacy.runs.distributed import join_world

    with join_world() as world:
        options = Options(Path(args.output), _published(args), args.threshold, args.device, getattr(args, "batch", 1),
                          args.threads, getattr(args, "de_transform", None), _run_context(world), args.allow_python,
                          tuple(getattr(args, "format", ("ours",))), *_onnx_options(args),
                          getattr(args, "recursive", False))
        try:
            result = run(options)
        except KeyboardInterrupt:
            tell("interrupted; run the same command again to resume")
            return 130
    if result.text:
        say(result.text)
    return 2 if result.skipped else 0


def _published(args: argparse.Namespace) -> str:
    """The recipe asked for, else the one that suits the pose network's files."""
    pose = getattr(args, "pose", None) or []
    if args.published:
        return args.published
    if len(pose) == 1 and pose[0].lower().endswith(".onnx"):
        return "alphapose"
    return args.default_published or ("torch7" if len(pose) == 1 else "demo-test")


def _onnx_options(args: argparse.Namespace):
    """The joint set and the input options of an .onnx pose network; None where it is none, or by default."""
    from rmpe_legacy.pose.joints import read_joint_set
    from rmpe_legacy.pose.onnx_network import InputOptions

    if "box_padding" not in args:
        return None, None
    joints = read_joint_set(args.joints) if args.joints else None
    return joints, InputOptions(args.mean, args.std, args.channel_order, args.raw_scale, args.box_padding)


def _run_context(world):
    """Report on standard error; with several processes, only the first shows a progress bar."""
    from tqdm import tqdm

    from rmpe_legacy.runs.batch_run import RunContext

    def progress(items):
        return tqdm(items, unit="image", disable=None if world.first else True, dynamic_ncols=True)

    return RunContext(world, progress, lambda text: tqdm.write(printable(f"rmpe: {text}"), file=sys.stderr))
