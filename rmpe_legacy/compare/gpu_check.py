"""Checks of the CUDA operators on a GPU: `rmpe gpu-check`.

- Every operator gives the CPU's bits: forward, and backward in the deterministic order.
- Backward in the fast order stays within rounding of that.
- The warp of (64, 16, 256, 256) reaches 80 % of the memory bandwidth, which a plain copy measures.
- The warp is no slower than F.affine_grid + F.grid_sample, in GPU time.
- compute-sanitizer, if installed, reports nothing.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rmpe_legacy import __version__
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.files import whole_file

from . import warp_timing

CHECKOUT = Path(__file__).parents[2]  # where setup.py is, unless this is an installation
BANDWIDTH_SIZE = (64, 16, 256, 256)
ENOUGH = 0.8  # of the bandwidth limit
FAST_ORDER = {torch.float32: 1e-4, torch.float64: 1e-12}  # relative to an array's largest value
# n, channels, h, w, out_h, out_w: small and odd ones, one that fills a GPU, and those without anything inside
SHAPES = [(2, 5, 13, 11, 9, 37), (1, 3, 6, 40, 16, 32), (3, 1, 1, 7, 5, 8), (1, 33, 64, 48, 40, 56),
          (16, 16, 64, 64, 64, 64), (0, 3, 5, 4, 2, 6), (2, 3, 0, 4, 2, 6), (2, 3, 5, 4, 0, 6)]
# What compute-sanitizer runs.
KERNELS_ALONE = ("import torch; import rmpe_legacy.ops; from rmpe_legacy.compare.gpu_check import run_kernels; "
                 "run_kernels('cuda'); torch.cuda.synchronize()")
INF, NAN = float("inf"), float("nan")
MAPS = {
    "turned": (0.8, -0.6, 0.1, 0.6, 0.8, -0.2), "identity": (1, 0, 0, 0, 1, 0),
    "zoomed in": (0.05, 0, 0.3, 0, 0.04, -0.7), "zoomed out": (9, 0.3, 0, -0.2, 7, 0.4),
    "a line": (0.5, 0.25, 0, 1, 0.5, 0.1), "far away": (1, 0, 3e9, 0, 1, 0),
    "NaN": (NAN, 0, 0, 0, 1, 0), "infinite": (1, INF, 0, 0, 1, 0), "infinite offset": (1, 0, -INF, 0, 1, INF),
}


@dataclass
class Check:
    """One question, its answer, and the numbers behind it. passed: None if it could not be answered."""

    name: str
    passed: bool | None
    details: dict = field(default_factory=dict)


def numbers(*shape: int, dtype: torch.dtype, seed: int = 1701) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors of any shape have the same bits, on whatever device; NaN equals NaN."""
    whole = torch.int32 if a.dtype == torch.float32 else torch.int64
    a, b = (t.cpu().contiguous() for t in (a, b))
    return a.shape == b.shape and bool(((a.view(whole) == b.view(whole)) | (a.isnan() & b.isnan())).all())


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape or a.numel() == 0:
        return a.shape == b.shape
    a, b = a.cpu(), b.cpu()
    return float((a - b).abs().max()) <= tolerance * (1 + float(b.abs().max()))


def warps() -> Iterator[tuple[str, bool, tuple]]:
    """Yield the warps to compare: a name, whether all values are finite, and (image, theta, out_h, out_w, grad, fused).
    """
    for dtype in (torch.float32, torch.float64):
        for n, c, h, w, out_h, out_w in SHAPES:
            image, grad = numbers(n, c, h, w, dtype=dtype), numbers(n, c, out_h, out_w, dtype=dtype, seed=2)
            for name, theta in MAPS.items():
                maps = torch.tensor([theta], dtype=dtype).repeat(n, 1)
                maps[1:, 0] += 0.01
                for fused in (True, False):
                    what = f"{name}, {n}x{c}x{h}x{w} to {out_h}x{out_w}, {dtype}".replace("torch.", "")
                    yield what + ", fused" * fused, name not in ("NaN", "infinite", "infinite offset"), (
                        image, maps, out_h, out_w, grad, fused)


def check_warps(device: str) -> Iterator[Check]:
    """Compare the spatial transformer on a device with the CPU's."""
    forward, backward = torch.ops.rmpe.spatial_transformer, torch.ops.rmpe.spatial_transformer_backward
    wrong: dict[str, list[str]] = {"forward": [], "deterministic": [], "fast": []}
    count = 0
    for what, finite, (image, theta, out_h, out_w, grad, fused) in warps():
        count += 1
        there = [t.to(device) for t in (image, theta, grad)]
        if not same_bits(forward(*there[:2], out_h, out_w, fused), forward(image, theta, out_h, out_w, fused)):
            wrong["forward"].append(what)
        want = backward(grad, image, theta, fused)
        ordered = backward(there[2], *there[:2], fused, True)
        if not all(map(same_bits, ordered, want)):
            wrong["deterministic"].append(what)
        fast = backward(there[2], *there[:2], fused, False)
        if finite and not all(close(a, b, FAST_ORDER[image.dtype]) for a, b in zip(fast, want, strict=True)):
            wrong["fast"].append(what)
    for name, title in (("forward", "forward gives the same bits as the CPU"),
                        ("deterministic", "deterministic gradients have the same bits as on the CPU"),
                        ("fast", "fast gradients differ only by rounding")):
        yield Check(title, not wrong[name], {"compared": count, "wrong": wrong[name]})


def other_operators() -> Iterator[tuple[str, Callable[..., Any], list[Tensor]]]:
    """Yield the other operators, in their deterministic variants: a name, the call, and its tensors of various shapes.
    """
    ops = torch.ops.rmpe
    for dtype in (torch.float32, torch.float64):
        x, grad, theta = (numbers(*shape, dtype=dtype) for shape in ((3, 5, 61, 7), (3, 5, 61, 7), (301, 6)))
        theta[7] = torch.tensor([1, 2, 3, 2, 4, 5])  # singular
        yield "invert_theta", ops.invert_theta, [theta]
        yield "invert_theta_backward", ops.invert_theta_backward, [theta.flip(0), theta]
        for side in ((16, 16), (9, 5), (5, 9), (1, 7), (64, 48)):
            maps = numbers(3, 7, *side, dtype=dtype).mul(2).round()  # many values are equal
            yield f"prediction_heatmap {side}", ops.prediction_heatmap, [maps]
        for shape in ((5,), ()):
            parameters = [numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype, seed=2)]
            for fused in (True, False):
                yield "eltwise_affine", lambda *t, fused=fused: ops.eltwise_affine(*t, fused), [x, *parameters]
            yield "eltwise_affine_backward", ops.eltwise_affine_backward, [grad, x, *parameters]


def check_others(device: str) -> Check:
    """Compare EltwiseAffine, PredictionHeatmap and the inverse of theta with the CPU's."""
    wrong, count = [], 0
    for name, call, tensors in other_operators():
        got, want = call(*(t.to(device) for t in tensors)), call(*tensors)
        got, want = ((r,) if isinstance(r, Tensor) else r for r in (got, want))
        count += 1
        if not all(map(same_bits, got, want)):
            wrong.append(f"{name}, {tensors[0].dtype}")
    return Check("the other operators give the same bits as the CPU", not wrong, {"compared": count, "wrong": wrong})


def check_switch(device: str) -> Check:
    """Check that torch.use_deterministic_algorithms selects the deterministic order, through autograd."""
    from rmpe_legacy import ops

    image, theta, grad = (numbers(*shape, dtype=torch.float32) for shape in ((4, 8, 64, 56), (4, 6), (4, 8, 48, 40)))
    results = []
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        for place in ("cpu", device):
            leaves = (image.to(place).requires_grad_(), theta.to(place).requires_grad_())
            warped = ops.spatial_transformer(*leaves, 48, 40)
            results.append(torch.autograd.grad(warped, leaves, grad.to(place)))
    finally:
        torch.use_deterministic_algorithms(before)
    return Check("use_deterministic_algorithms gives the same bits as the CPU", all(map(same_bits, *results)))


def gpu_seconds(work: Callable[[], object], rounds: int, calls: int = 10) -> float:
    """Return the GPU time of one call, without Python's overhead: the median over replayed CUDA graphs."""
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # capture wants the allocator and the libraries warm
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    taken = []
    for _ in range(rounds):
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        taken.append(begin.elapsed_time(end) / 1e3 / calls)
    return statistics.median(taken)


def check_bandwidth(rounds: int) -> Check:
    """Time the forward of a large batch against a plain copy that reads and writes the same number of bytes."""
    image = torch.randn(BANDWIDTH_SIZE, device="cuda")
    target = torch.empty_like(image)
    moved = 2 * image.numel() * image.element_size()
    rate = {"copy": moved / gpu_seconds(lambda: target.copy_(image), rounds, 3)}
    for name in ("identity", "turned"):
        theta = torch.tensor(MAPS[name], device="cuda").repeat(BANDWIDTH_SIZE[0], 1)

        def warp(theta: Tensor = theta) -> Tensor:
            return torch.ops.rmpe.spatial_transformer(image, theta, *image.shape[2:])

        rate[name] = moved / gpu_seconds(warp, rounds, 3)
    return Check(f"forward at {BANDWIDTH_SIZE} within {ENOUGH:.0%} of the bandwidth limit",
                 rate["identity"] >= ENOUGH * rate["copy"],
                 {"gigabytes_per_second": {name: round(value / 1e9, 1) for name, value in rate.items()},
                  "of_the_limit": {name: round(rate[name] / rate["copy"], 3) for name in ("identity", "turned")}})


def check_speed(rounds: int) -> Iterator[Check]:
    """Time the spatial transformer against grid_sample. GPU time decides; wall time, which includes Python, is only
    reported.
    """
    for size in warp_timing.SIZES:
        wall = {row.work: row for row in warp_timing.measure(size, "cuda", rounds)}
        for kind, works in warp_timing.contenders(size, "cuda").items():
            with torch.set_grad_enabled(kind != "forward"):
                theirs, ours = (gpu_seconds(work, rounds) for work in works)
            yield Check(f"{kind} at {size} no slower than grid_sample", ours <= theirs, {
                "gpu_us": {"grid_sample": round(theirs * 1e6, 2), "ours": round(ours * 1e6, 2)},
                "times_as_fast": round(theirs / ours, 2), "wall": asdict(wall[kind])})


def check_sanitizer(tools: tuple[str, ...] = ("memcheck", "racecheck", "synccheck")) -> Iterator[Check]:
    """Run compute-sanitizer over every kernel on small shapes, without torch's memory pool, which would hide stray
    reads.
    """
    program = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if program is None:
        yield Check("compute-sanitizer", None, {"why": "it was not found; it comes with the CUDA toolkit"})
        return
    for tool in tools:
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", KERNELS_ALONE]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
        yield Check(f"compute-sanitizer {tool}", done.returncode == 0,
                    {"exit": done.returncode, "end": (done.stdout + done.stderr).splitlines()[-5:]})


def run_kernels(device: str) -> None:
    """Run every kernel at least once, for a sanitizer to watch."""
    ops = torch.ops.rmpe
    for what, _, (image, theta, out_h, out_w, grad, fused) in warps():
        if image.numel() > 20_000 or not ("turned" in what or "NaN" in what or "far" in what):
            continue
        image, theta, grad = (t.to(device) for t in (image, theta, grad))
        ops.spatial_transformer(image, theta, out_h, out_w, fused)
        for deterministic in (True, False):
            ops.spatial_transformer_backward(grad, image, theta, fused, deterministic)
    for _, call, tensors in other_operators():
        call(*(t.to(device) for t in tensors))
    x = numbers(3, 5, 61, 7, dtype=torch.float32).to(device)
    ops.eltwise_affine_backward(x, x, x[0, :, 0, 0].clone(), x[0, :, 0, 1].clone(), False)


def build() -> Check:
    """Build csrc/ with CUDA, in a checkout.

    Raises:
        RmpeError: There is no checkout.
    """
    if not (CHECKOUT / "setup.py").is_file():
        raise RmpeError(f"{CHECKOUT}: no setup.py, so there is nothing to build; run this in a checkout of the project")
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=CHECKOUT, check=False,
                          env={**os.environ, "RMPE_CUDA": "1"}, capture_output=True, text=True)
    return Check("csrc/ builds with CUDA", done.returncode == 0,
                 {} if done.returncode == 0 else {"end": (done.stdout + done.stderr).splitlines()[-20:]})


def why_no_gpu() -> str | None:
    """Return why no GPU can be checked, as a sentence; None if one can."""
    if torch.version.cuda is None:
        return (f"torch {torch.__version__} is built without CUDA, so no GPU can be checked; install a CUDA build of "
                "torch on a machine with an NVIDIA GPU and the CUDA toolkit, and run this again")
    if not torch.cuda.is_available():
        return (f"torch {torch.__version__} finds no CUDA device, so there is nothing to check; run this on a machine "
                "with an NVIDIA GPU, its driver and the CUDA toolkit")
    return None


def machine() -> dict:
    """Return a description of the machine."""
    described: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda,
                                 "python": platform.python_version(), "system": platform.platform()}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        described |= {"gpu": device.name, "capability": f"{device.major}.{device.minor}",
                      "multiprocessors": device.multi_processor_count,
                      "memory_gib": round(device.total_memory / 2**30, 1)}
    return described | {"rmpe_legacy": __version__, "commit": _commit()}


def _commit() -> str | None:
    """The commit of this checkout; None in an installation."""
    if not (CHECKOUT / ".git").exists() or shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def all_checks(rounds: int) -> Iterator[Check]:
    from rmpe_legacy.ops.registration import BUILT_WITH_CUDA  # loads the operators; not before they are built

    if not BUILT_WITH_CUDA:
        yield Check("the operators have CUDA kernels", False,
                    {"why": "csrc/ was built without CUDA; in a checkout, rmpe gpu-check --build builds it with CUDA"})
        return
    yield from check_warps("cuda")
    yield check_others("cuda")
    yield check_switch("cuda")
    yield check_bandwidth(rounds)
    yield from check_speed(rounds)
    yield from check_sanitizer()


def write_report(path: Path, checks: list[Check]) -> bool:
    """Write the report as JSON, whole or not at all; returns whether no check failed."""
    passed = all(check.passed is not False for check in checks)
    report = {"machine": machine(), "passed": passed, "checks": [asdict(check) for check in checks]}
    with whole_file(path, "w") as file:
        json.dump(report, file, indent=1)
        file.write("\n")
    return passed
