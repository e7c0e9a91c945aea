"""rmpe gpu-check."""

from __future__ import annotations

import argparse
from pathlib import Path

from .terminal import say, tell

NO_GPU = 2  # exit code
ANSWERS = {True: "yes", False: "NO", None: "skipped"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--report", type=Path, default=Path("gpu_check.json"),
                         help="file for the numbers (default: %(default)s)")
    command.add_argument("--rounds", type=int, default=30, help="number of rounds of each timing (default: 30)")
    command.add_argument("--build", action="store_true", help="in a checkout: first build csrc/ with CUDA")


def run(args: argparse.Namespace) -> int:
    """Check that the CUDA operators give the same bits as the CPU, compare their speed with grid_sample; write JSON.

    Exits with 0 if every check passes, 1 if one fails, 2 if there is no GPU.
    """
    from rmpe_legacy.compare import gpu_check

    if reason := gpu_check.why_no_gpu():
        tell(reason)
        return NO_GPU
    checks = [gpu_check.build()] if args.build else []
    if all(check.passed for check in checks):
        for check in gpu_check.all_checks(args.rounds):
            say(f"{ANSWERS[check.passed]:<10} {check.name}")
            checks.append(check)
    passed = gpu_check.write_report(args.report, checks)
    ran = all(check.passed is not None for check in checks)
    verdict = "some checks failed" if not passed else "all passed" if ran else "none failed, but some were skipped"
    say(f"{verdict}; the report is {args.report}")
    return 0 if passed else 1
