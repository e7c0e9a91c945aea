"""Times the spatial transformer beside F.affine_grid + F.grid_sample on the same work, alternating, in one run.

    python tools/bench_sstn.py [--rounds N] [--threads N] [--device cpu|cuda]

It first checks that both give the same pictures. Then each round runs every contender once. The table has each one's
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
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy import ops

SIZES = [(16, 3, 256, 256), (16, 16, 64, 64), (1, 3, 256, 256), (64, 16, 64, 64)]
THETA = (0.9, 0.15, 0.1, -0.2, 1.1, -0.07)  # turned, sheared and moved: a tenth or so of the output lies outside
WARM_UP = 3

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """What one kind of work took on images of one size: milliseconds, theirs and ours."""

    size: tuple[int, ...]
    work: str
    theirs_ms: float
    theirs_best_ms: float
    ours_ms: float
    ours_best_ms: float
    times_as_fast: float
    times_as_fast_cpu: float | None  # None on CUDA


def grid_theta(theta: Tensor, h: int, w: int) -> Tensor:
    """The same maps for F.affine_grid: (N, 6) -> (N, 2, 3). It has x first, and cells at their centres."""
    t = theta.view(-1, 2, 3)
    moved = t[:, :, 2] - t[:, :, 0] / h - t[:, :, 1] / w + torch.tensor([1 / h, 1 / w], device=theta.device)
    return torch.stack([t[:, :, 1], t[:, :, 0], moved], 2).flip(1)


def theirs(image: Tensor, theta: Tensor) -> Tensor:
    return F.grid_sample(image, F.affine_grid(theta, list(image.shape), align_corners=False), align_corners=False)


def ours(image: Tensor, theta: Tensor) -> Tensor:
    return ops.spatial_transformer(image, theta, *image.shape[2:])


def contenders(size: tuple[int, ...], device: str) -> dict[str, tuple[Work, Work]]:
    """Work to time: forward, and forward with both gradients; each theirs, then ours."""
    torch.manual_seed(0)
    image, grad = torch.randn(2, *size, device=device)
    theta = torch.tensor(THETA, device=device).repeat(size[0], 1)
    their_theta = grid_theta(theta, *size[2:])
    apart = (ours(image, theta) - theirs(image, their_theta)).abs().max().item()
    if apart > 1e-3:
        raise SystemExit(f"the contenders differ by {apart:.2g} at {size}; nothing to compare")

    def both(warp: Callable, theta: Tensor) -> Work:
        leaves = [image.clone().requires_grad_(), theta.clone().requires_grad_()]
        return lambda: torch.autograd.grad(warp(*leaves), leaves, grad)

    return {"forward": (lambda: theirs(image, their_theta), lambda: ours(image, theta)),
            "forward + backward": (both(theirs, their_theta), both(ours, theta))}


def keep_freed_memory() -> None:
    """Has malloc neither trim its heap nor map large blocks by themselves; elsewhere than in glibc, does nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def seconds(work: Work, device: str) -> tuple[float, float]:
    """How long one call takes: wall time, and CPU time of all threads."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, time.process_time() - begin_cpu


def measure(size: tuple[int, ...], device: str, rounds: int) -> list[Row]:
    """One row of the table per kind of work."""
    return [compare(size, kind, *works, device, rounds) for kind, works in contenders(size, device).items()]


def compare(size: tuple[int, ...], kind: str, their_work: Work, our_work: Work, device: str, rounds: int) -> Row:
    with torch.set_grad_enabled(kind != "forward"):
        for work in (their_work, our_work) * WARM_UP:
            seconds(work, device)
        taken = [(*seconds(their_work, device), *seconds(our_work, device)) for _ in range(rounds)]
    their_times, _, our_times, _ = zip(*taken, strict=True)
    return Row(size, kind, statistics.median(their_times) * 1e3, min(their_times) * 1e3,
               statistics.median(our_times) * 1e3, min(our_times) * 1e3,
               statistics.median(a / b for a, _, b, _ in taken),
               None if device == "cuda" else statistics.median(a / b for _, a, _, b in taken))


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
