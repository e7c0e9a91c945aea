"""Times the spatial transformer beside F.affine_grid + F.grid_sample on the same work, alternating, in one run.

    python tools/bench_sstn.py [--rounds N] [--threads N] [--device cpu|cuda]

It first checks that both give the same images. Then each round runs every contender once. The table has each one's
median and best time, and the median of the rounds' ratios: of wall time, and of the CPU time of all threads, which
other programs on the machine disturb less.

glibc is told to keep the memory that is freed. By itself it gives large blocks back to the system, or not, depending on
what was allocated before; page faults then take up to half of a contender's time, now of one and now of the other.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform

import torch

from rmpe_legacy.compare.warp_timing import SIZES, Row, measure


def keep_freed_memory() -> None:
    """Has malloc neither trim its heap nor map large blocks by themselves; elsewhere than in glibc, does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [f"{'image':<14} {'work':<19}{'grid_sample, ms':>18}{'ours, ms':>18}{'times as fast':>16}{'CPU time':>10}",
             f"{'':<14} {'':<19}{'median':>10}{'best':>8}{'median':>10}{'best':>8}{'median':>16}{'median':>10}"]
    for r in rows:
        cpu = "" if r.times_as_fast_cpu is None else f"{r.times_as_fast_cpu:.1f}"
        lines.append(f"{'x'.join(map(str, r.size)):<14} {r.work:<19}{r.theirs_ms:10.2f}{r.theirs_best_ms:8.2f}"
                     f"{r.ours_ms:10.2f}{r.ours_best_ms:8.2f}{r.times_as_fast:16.1f}{cpu:>10}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; leave out --device")
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{args.threads} threads, {platform.machine()}"
    print(f"torch {torch.__version__}, {where}, {args.rounds} alternating rounds; load average before: "
          f"{os.getloadavg()[0]:.1f}")
    print(table([row for size in SIZES for row in measure(size, args.device, args.rounds)]))
    print(f"load average after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
