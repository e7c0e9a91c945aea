"""Times `rmpe demo` on a folder, image files to JSON, beside its networks alone; plots its memory.

    python tools/bench_pipeline.py [FOLDER] [--images N] [--rounds N] [--threads N] [--engine NAME] [--no-pictures]
                                   [-- OPTION OF rmpe demo ...]
    python tools/bench_pipeline.py --memory OUT.svg [--images N]

Without a folder, the images are those that rmpe_legacy.synthetic draws (at most 500 different ones). The networks are
the package's, unless options after `--` (--detector, --pose, --threshold) name others. "Networks alone" runs the
networks on what they were given during the command, and nothing else: one call after the other in all threads, and in
as many threads at once, of which each runs every N-th call in one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import torch

from rmpe_legacy.cli import main as rmpe
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.pose.estimate import CaffePoseNetwork
from rmpe_legacy.pose.networks import inference_mode_fp32, network_threads
from rmpe_legacy.synthetic.world import draw_pictures

DRAWN = 500
Call = tuple[Callable[..., Any], tuple[Any, ...]]


def draw_images(folder: Path, count: int) -> Path:
    """Write JPEG files; beyond DRAWN they repeat."""
    files: list[bytes] = []
    for picture in draw_pictures(7, min(count, DRAWN)):
        files.append(cv2.imencode(".jpg", picture.image[..., ::-1])[1].tobytes())
    for i in range(count):
        (folder / f"{i:05d}.jpg").write_bytes(files[i % len(files)])
    return folder


def run_demo(images: Path, output: Path, args: argparse.Namespace) -> float:
    """Run the command; return the seconds it took."""
    begin = time.perf_counter()
    code = rmpe(["demo", str(images), "--output", str(output), "-q", "--threads", str(args.threads), "--engine",
                 args.engine, *([] if args.pictures else ["--no-pictures"]), *args.options])
    if code != 0:
        raise SystemExit(f"rmpe demo failed with exit code {code}")
    return time.perf_counter() - begin


@contextmanager
def recorded(calls: list[Call]) -> Iterator[None]:
    """Record every forward of a network: what is called and with what."""
    kept = [(owner, owner._run) for owner in (Detector, CaffePoseNetwork)]

    def recording(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, inputs: Any) -> Any:
            calls.append((run, (self, inputs)))
            return run(self, inputs)

        return call

    for owner, run in kept:
        owner._run = recording(run)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for owner, run in kept:
            owner._run = run  # type: ignore[method-assign]


def run_networks(calls: list[Call], threads: int, workers: int) -> float:
    def run_share(first: int) -> None:
        own: dict[int, Any] = {}
        with inference_mode_fp32():
            for run, (network, inputs) in calls[first::workers]:
                if id(network) not in own:
                    own[id(network)] = network.for_another_thread()
                run(own[id(network)], inputs)

    torch.set_num_threads(threads // workers)
    begin = time.perf_counter()
    with network_threads(workers, "networks") as pool:
        list(pool.map(run_share, range(workers)))
    return time.perf_counter() - begin


def people_in(output: Path) -> int:
    return sum(1 for _ in (output / "poses.json").read_text().split('"num_keypoints"')) - 1


def compare(images: Path, count: int, args: argparse.Namespace, folder: Path) -> None:
    calls: list[Call] = []
    with recorded(calls):
        run_demo(images, folder / "first", args)
    people = people_in(folder / "first")
    print(f"{count} images, {people} people, {len(calls)} forwards, engine {args.engine}, {args.threads} threads, load "
          f"{os.getloadavg()[0]:.1f}; torch {torch.__version__}")
    seconds: dict[str, list[float]] = {"rmpe demo": [], "networks alone": [], "networks at once": []}
    for i in range(args.rounds):
        seconds["rmpe demo"].append(run_demo(images, folder / str(i), args))
        seconds["networks alone"].append(run_networks(calls, args.threads, 1))
        seconds["networks at once"].append(run_networks(calls, args.threads, args.threads))
    for name, each in seconds.items():
        shares = sorted(nets / everything for everything, nets in zip(seconds["rmpe demo"], each, strict=True))
        middle = statistics.median(each)
        print(f"{name:17} {middle:7.2f} s ({min(each):.2f} to {max(each):.2f}), {people / middle:6.1f} people a "
              f"second; of rmpe demo's time {statistics.median(shares):.2f} ({shares[0]:.2f} to {shares[-1]:.2f})")


def resident() -> float:
    """Return the memory that this process uses, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def plot_memory(images: Path, count: int, args: argparse.Namespace, folder: Path) -> None:
    """Sample the memory over a run, and plot it over the number of finished images."""
    output, samples, ended = folder / "out", [], threading.Event()

    def sample() -> None:
        finished = output / ".parts"
        while not ended.wait(0.5):
            samples.append((len(os.listdir(finished)) if finished.is_dir() else 0, resident()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        run_demo(images, output, args)
    finally:
        ended.set()
        sampler.join()
    warm = min(50, count // 8)
    first, last = (statistics.median(m for done, m in samples if low <= done <= high)
                   for low, high in ((warm, count // 4), (3 * count // 4, count)))
    print(f"{count} images: {first:.0f} MB in the first quarter, {last:.0f} MB in the last, "
          f"at most {max(m for _, m in samples):.0f} MB")
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    axes.plot(*zip(*samples, strict=True), linewidth=1)
    axes.set(xlabel="images done", ylabel="resident memory, MB", ylim=(0, None), xlim=(0, count))
    axes.grid(alpha=0.3)
    figure.savefig(args.memory, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=DRAWN)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--engine", default="exact")
    parser.add_argument("--no-pictures", dest="pictures", action="store_false", help="file to JSON, nothing drawn")
    parser.add_argument("--memory", metavar="OUT.svg", help="plot the memory of one run in place of timing it")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:split])
    args.options = sys.argv[split + 1 :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        images = args.folder or draw_images(folder / "images", args.images)
        count = len(list(images.iterdir()))
        (plot_memory if args.memory else compare)(images, count, args, folder)


if __name__ == "__main__":
    main()
