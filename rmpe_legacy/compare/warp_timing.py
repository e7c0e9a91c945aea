"""Time the spatial transformer against F.affine_grid + F.grid_sample on the same work, in alternating rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy import ops
from rmpe_legacy.errors import RmpeError

SIZES = [(16, 3, 256, 256), (16, 16, 64, 64), (1, 3, 256, 256), (64, 16, 64, 64)]
THETA = (0.9, 0.15, 0.1, -0.2, 1.1, -0.07)  # turned, sheared and moved: a tenth or so of the output lies outside
WARM_UP = 3

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """The times of one kind of work on images of one size, theirs and ours, in milliseconds."""

    size: tuple[int, ...]
    work: str
    theirs_ms: float
    theirs_best_ms: float
    ours_ms: float
    ours_best_ms: float
    times_as_fast: float
    times_as_fast_cpu: float | None  # None on CUDA


def grid_theta(theta: Tensor, h: int, w: int) -> Tensor:
    """Convert theta for F.affine_grid, (N, 6) -> (N, 2, 3): x comes first there, and cells are at their centres."""
    t = theta.view(-1, 2, 3)
    moved = t[:, :, 2] - t[:, :, 0] / h - t[:, :, 1] / w + torch.tensor([1 / h, 1 / w], device=theta.device)
    return torch.stack([t[:, :, 1], t[:, :, 0], moved], 2).flip(1)


def theirs(image: Tensor, theta: Tensor) -> Tensor:
    return F.grid_sample(image, F.affine_grid(theta, list(image.shape), align_corners=False), align_corners=False)


def ours(image: Tensor, theta: Tensor) -> Tensor:
    return ops.spatial_transformer(image, theta, *image.shape[2:])


def contenders(size: tuple[int, ...], device: str) -> dict[str, tuple[Work, Work]]:
    """Return the work to time, theirs and ours: a forward, and a forward with both gradients.

    Raises:
        RmpeError: The two warps do not agree.
    """
    torch.manual_seed(0)
    image, grad = torch.randn(2, *size, device=device)
    theta = torch.tensor(THETA, device=device).repeat(size[0], 1)
    their_theta = grid_theta(theta, *size[2:])
    apart = (ours(image, theta) - theirs(image, their_theta)).abs().max().item()
    if apart > 1e-3:
        raise RmpeError(f"the two warps differ by {apart:.2g} at {size}, so there is nothing to compare")

    def both(warp: Callable, theta: Tensor) -> Work:
        leaves = [image.clone().requires_grad_(), theta.clone().requires_grad_()]
        return lambda: torch.autograd.grad(warp(*leaves), leaves, grad)

    return {"forward": (lambda: theirs(image, their_theta), lambda: ours(image, theta)),
            "forward + backward": (both(theirs, their_theta), both(ours, theta))}


def seconds(work: Work, device: str) -> tuple[float, float]:
    """Return the wall time of one call, and the CPU time of all threads, in seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, time.process_time() - begin_cpu


def measure(size: tuple[int, ...], device: str, rounds: int) -> list[Row]:
    """Return one row of the table per kind of work."""
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
