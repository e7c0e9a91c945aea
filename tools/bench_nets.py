"""Times whole networks in every engine and beside other programs, in turns, and prints a table for benchmarks/nets.md.

    python tools/bench_nets.py [NAME=PROTOTXT[,WEIGHTS] ...] [--batch N ...] [--rounds N] [--threads N]
                               [--only PEER ...]

Without networks it takes the SSD 500 detector and the 2-stack pose network of prototxt/. Networks without weights get
random ones. In its turn, a program runs for 20 ms, but at least once, after a pause in which the threads of the one
before stop looking for work, and runs of about 20 ms that do not count. Peers that are not installed, or cannot run a
network, are named with the reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
if (ROOT / "build/opencv4").is_dir():  # OpenCV 5 no longer imports Caffe's files
    sys.path.insert(0, str(ROOT / "build/opencv4"))

import cv2  # noqa: E402
import torch  # noqa: E402

from rmpe_legacy import load_net  # noqa: E402
from rmpe_legacy.caffe.net import Net  # noqa: E402
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel  # noqa: E402
from rmpe_legacy.caffe.weights import trained_layers  # noqa: E402
from rmpe_legacy.errors import RmpeError  # noqa: E402
from rmpe_legacy.export.python_source import to_python, write_state  # noqa: E402
from rmpe_legacy.formats.opencv import OpenCvRunner  # noqa: E402

NETWORKS = {"SSD 500": "prototxt/ssd500/deploy.prototxt", "pose, 2 stacks": "prototxt/sppe_2hg_sstn/deploy.prototxt"}
ENGINES = ("exact", "torch", "onnxruntime", "openvino", "inductor", "auto")
TURN_SECONDS, PAUSE_SECONDS, MAX_RUNS = 0.02, 0.05, 1000
PEERS = (*ENGINES, "model.py", "model.py compiled", "OpenCV")
Run = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One network at one batch size."""

    net: Net
    files: tuple[Path, Path]  # prototxt and caffemodel
    inputs: dict[str, torch.Tensor]
    folder: Path


@dataclass
class Row:
    """One program's seconds per run, or why it has none."""

    peer: str
    seconds: list[float] = field(default_factory=list)
    reason: str = ""


def open_case(prototxt: Path, weights: Path | None, batch: int, folder: Path) -> Case:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = load_net(prototxt, weights)
    if weights is None:
        randomize(net)
        weights = folder / "net.caffemodel"
        write_caffemodel(weights, trained_layers(net))
    random = torch.Generator().manual_seed(1)
    inputs = {name: torch.rand((batch, *shape[1:]), generator=random) * 255 - 128 for name, shape in net.inputs.items()}
    return Case(net, (prototxt, weights), inputs, folder)


def randomize(net: Net) -> None:
    """Give every parameter values of a size that trained networks have.

    The first layer has smaller ones, as it reads pixels of size 128: or all scores of the last would be 0 or 1.
    """
    random, size = torch.Generator().manual_seed(1), 1 / 128
    for step in net.steps:
        for declared in step.layer.declared:
            value = getattr(step.layer, declared.name).data
            if declared.name in ("variance", "scale_factor", "scale", "slope"):
                value.fill_(1)
            elif value.dim() > 1 and not bool((value == 1).all()):  # all ones: nearest-neighbour upsampling
                value.normal_(0, size * (2 / value[0].numel()) ** 0.5, generator=random)
                size = 1


def runs(peer: str, case: Case) -> Run:
    """Return a function that runs the network once. Raises RmpeError if this peer cannot."""
    if peer == "exact":
        return lambda: case.net(case.inputs)
    if peer in ENGINES:
        compiled = case.net.compiled(peer)
        return lambda: compiled(case.inputs)
    if peer.startswith("model.py"):
        model = written_model(case)
        model = torch.compile(model, options={"freezing": True}) if peer.endswith("compiled") else model
        values = list(case.inputs.values())
        return lambda: model(*values)
    return opencv(case)


def written_model(case: Case) -> torch.nn.Module:
    """Return the plain PyTorch module that ``rmpe convert`` writes."""
    source = to_python(case.net, "a benchmark", "net.pt")
    path = case.folder / "net.py"
    path.write_text(source.text)
    write_state(case.folder / "net.pt", source.state)
    spec = importlib.util.spec_from_file_location("benchmarked", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load().eval()


def opencv(case: Case) -> Run:
    runner = OpenCvRunner(*case.files, case.net, "OpenCV")
    runner.model.enableFusion(True)
    arrays = {name: value.numpy() for name, value in case.inputs.items()}

    def run() -> object:
        for name, value in arrays.items():
            runner.model.setInput(value, name)
        try:
            return runner.model.forward()
        except cv2.error as error:
            raise RmpeError(str(error).strip().splitlines()[0]) from None

    run()
    return run


def measure(case: Case, peers: list[str], rounds: int) -> list[Row]:
    rows = [Row(peer) for peer in peers]
    ready: list[tuple[Row, Run]] = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row in rows:
            try:
                run = runs(row.peer, case)
                run()
                ready.append((row, run))
            except (RmpeError, AttributeError, RuntimeError) as error:
                row.reason = str(error).strip().splitlines()[0][:120]
        counts = [min(MAX_RUNS, math.ceil(TURN_SECONDS / seconds_after_pause(run, 1))) for _, run in ready]
        for _ in range(rounds):
            for (row, run), count in zip(ready, counts, strict=True):
                row.seconds.append(seconds_after_pause(run, count))
    return rows


def seconds_after_pause(run: Run, count: int) -> float:
    time.sleep(PAUSE_SECONDS)
    if count > 1:
        seconds_of(run, count)
    return seconds_of(run, count)


def seconds_of(run: Run, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - begin) / count


def table(rows: list[Row]) -> Iterator[str]:
    exact = next((row.seconds for row in rows if row.peer == "exact"), [])
    yield f"{'':20}{'median ms':>12}{'best':>10}{'worst':>10}{'x exact':>10}"
    for row in rows:
        if row.seconds:
            ratio = statistics.median(mine / theirs for mine, theirs in zip(row.seconds, exact, strict=True))
            middle, best, worst = (1e3 * of(row.seconds) for of in (statistics.median, min, max))
            digits = 3 if middle < 10 else 1
            yield f"{row.peer:20}{middle:12.{digits}f}{best:10.{digits}f}{worst:10.{digits}f}{ratio:10.2f}"
    for row in rows:
        if not row.seconds:
            yield f"not measured: {row.peer}: {row.reason}"


def machine() -> str:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine()) if Path("/proc/cpuinfo").exists() else ""
    load = os.getloadavg()[0]
    return (f"{model}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, load {load:.1f}; Python "
            f"{platform.python_version()}, torch {torch.__version__}, OpenCV {cv2.__version__}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NAME=PROTOTXT[,WEIGHTS]")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=[*PEERS], help="the others are not measured")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(torch.get_num_threads())
    given = dict(text.split("=", 1) for text in args.networks)
    peers = ["exact", *(peer for peer in args.only if peer != "exact")]
    print(machine())
    for name, files in (given or NETWORKS).items():
        prototxt, _, weights = files.partition(",")
        path = Path(prototxt) if given else ROOT / prototxt
        for batch in args.batch:
            with tempfile.TemporaryDirectory() as folder:
                case = open_case(path, Path(weights) if weights else None, batch, Path(folder))
                print(f"\n{name}, batch {batch}, {args.rounds} rounds in turns")
                print("\n".join(table(measure(case, peers, args.rounds))), flush=True)


if __name__ == "__main__":
    main()
