"""Measures training: python tools/bench_train.py [--rounds 3] [--batch 8] [--output benchmarks/train.md]

Ours is `Solver.step`. Beside it stands the loop that a user of PyTorch would write with torch.optim on the same module,
data layers included. Both take turns in one process, so that whatever else the machine does meets both. Also measured:
what the data layers deliver beside what training takes, the sum of `rmpe time` beside the wall clock, and the peak
memory of each loop in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from make_prototxt import JOINTS, LuaHourglass, Prototxt, spatial_transformer, ssd500_train

from rmpe_legacy import Solver
from rmpe_legacy.caffe.solver.run_state import data_layers
from rmpe_legacy.caffe.solver.timing import Timer
from rmpe_legacy.runs.make_lmdb import AnnotatedImage, LabelledBox, make_lmdb

WIDTH, HEIGHT = 1280, 720  # of most of MPII's images
IMAGES = 16
NETS = ("pose", "ssd")


# --- what is trained ---------------------------------------------------------------------------------------------


def write_images(folder: Path) -> list[str]:
    """Smooth noise as JPEG files, which cost as much to decode as photographs."""
    names = [f"{i}.jpg" for i in range(IMAGES)]
    for i, name in enumerate(names):
        small = np.random.default_rng(i).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(small, (WIDTH, HEIGHT)))
    return names


def write_ssd(folder: Path, batch: int) -> str:
    """The detector as the authors train it, from a store with two persons in each image."""
    boxes = (LabelledBox(1, (200, 100, 500, 700)), LabelledBox(1, (700, 90, 950, 690)))
    if not (folder / "train_lmdb").exists():
        make_lmdb([AnnotatedImage(name, boxes) for name in write_images(folder)], folder, folder / "train_lmdb")
    text = ssd500_train().text.replace("examples/MPII_COCO14/MPII_COCO14_train_lmdb", str(folder / "train_lmdb"))
    (folder / "ssd.prototxt").write_text(text.replace("batch_size: 8", f"batch_size: {batch}"))
    return 'base_lr: 0.0001 momentum: 0.9 weight_decay: 0.0005 type: "SGD"'


def write_pose(folder: Path, batch: int) -> str:
    """STN and two stacks on 256 x 256 crops, with a loss on the heat maps of each stack."""
    points = ",".join(f"{300 + 20 * j},{150 + 25 * j}" for j in range(JOINTS))
    lines = [f"{name} {points} 250,100,650,600 0\n" for name in write_images(folder)]
    (folder / "persons.txt").write_text("".join(lines))
    net = Prototxt("pose", "The 2-stack pose network in training")
    net.layer("data", "DataHeatmap", top=["data", "label"], heatmap_data_param={
        "source": f"{folder}/persons.txt", "root_img_dir": f"{folder}/", "batchsize": batch, "outsize": 256,
        "label_width": 64, "label_height": 64, "multfact": 1, "bbox_or_centerscale": "bbox", "data_augment": True,
        "angle_max": 30, "shuffle": True})
    lua = LuaHourglass(net)
    lua.localisation("data")
    for name in lua.stacks(spatial_transformer(net, "stn", "data", "img", 256, to_compute_dU=False), 2):
        net.layer(f"loss_{name}", "EuclideanLoss", [name, "label"])
    (folder / "pose.prototxt").write_text(net.text)
    return 'base_lr: 0.00025 type: "RMSProp" rms_decay: 0.99'


def make_solver(name: str, folder: Path, batch: int) -> Solver:
    options = {"ssd": write_ssd, "pose": write_pose}[name](folder, batch)
    path = folder / f"{name}_solver.prototxt"
    path.write_text(f'net: "{folder}/{name}.prototxt" {options} lr_policy: "fixed" max_iter: 1000000 random_seed: 1\n')
    return Solver(path)


def plain_loop(solver: Solver) -> Callable[[], None]:
    """One step as written by hand, with torch.optim, on the solver's own module."""
    net, p = solver.net, solver.param
    groups = [{"params": [q.value], "lr": p.base_lr * q.lr_mult, "weight_decay": p.weight_decay * q.decay_mult}
              for q in solver.parameters if q.value.requires_grad]
    if p.type == "SGD":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(groups, momentum=p.momentum)
    else:
        optimizer = torch.optim.RMSprop(groups, alpha=p.rms_decay)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        net()
        loss = net.loss()
        loss.backward()
        loss.item()
        optimizer.step()

    return step


# --- measuring ---------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """Seconds on the clock, and of all processors together in this process, which other programs hardly change."""

    wall: float
    cpu: float


def seconds(call: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(calls: list[Callable[[], object]], rounds: int) -> list[list[Taken]]:
    """What each call takes in each round, after one that is dropped; each begins every other round."""
    times: list[list[Taken]] = [[] for _ in calls]
    for i in range(rounds + 1):
        for j in range(len(calls)) if i % 2 else reversed(range(len(calls))):
            taken = seconds(calls[j])
            if i:
                times[j].append(taken)
    return times


def middle(times: list[Taken]) -> Taken:
    return Taken(*map(statistics.median, zip(*times, strict=True)))


def ratios(ours: list[Taken], theirs: list[Taken]) -> str:
    """Wall and CPU: the median over the rounds, so that a round that was disturbed does not count, and the range."""
    each = [[a[i] / b[i] for a, b in zip(ours, theirs, strict=True)] for i in range(2)]
    return " | ".join(f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in each)


def measure_step(name: str, folder: Path, batch: int, rounds: int) -> list[str]:
    solver = make_solver(name, folder, batch)
    ours, theirs = alternate([lambda: solver.step(1), plain_loop(solver)], rounds)
    [layer] = data_layers(solver.net)
    layer.pause()
    layer.read_ahead = 0
    reading, step = middle([seconds(layer) for _ in range(4)]), middle(ours)
    return [f"| one step, {name}, batch {batch} (at most 1.05) | {step.wall:.2f} s | {middle(theirs).wall:.2f} s | "
            f"{ratios(ours, theirs)} |",
            f"| a training step of {name}, against reading its batch in one thread (at least 1.5) | {step.wall:.2f} s "
            f"| {reading.wall:.3f} s | {step.wall / reading.wall:.1f} | {step.cpu / reading.cpu:.1f} |"]


def measure_time(folder: Path, rounds: int) -> str:
    """`rmpe time` on the SSD net beside the wall clock of the same passes without it."""
    net = make_solver("ssd", folder, 1).net
    [layer] = data_layers(net)
    layer.read_ahead = 0
    timer = Timer(net, backward=True)

    def plain() -> None:
        net.zero_grad(set_to_none=True)
        net()
        net.loss().backward()

    timed, wall = alternate([lambda: list(timer.run(1)), plain], rounds)
    layers = sum(sum(t.forward[1:]) + sum(t.backward[1:]) for t in timer.times.layers)
    whole = sum(taken.wall for taken in timed)
    return (f"| `rmpe time`, ssd, batch 1, against the same passes without it (0.95 to 1.05) "
            f"| {middle(timed).wall:.3f} s | {middle(wall).wall:.3f} s | {ratios(timed, wall)} |\n"
            f"| `rmpe time`: the sum of its layers, against the clock around it (0.95 to 1.05) | {layers:.3f} s | "
            f"{whole:.3f} s | {layers / whole:.3f} | |")


def measure_peak(name: str, batch: int) -> str:
    peaks = {}
    for who in ("ours", "theirs"):
        done = subprocess.run([sys.executable, __file__, "--peak", who, "--net", name, "--batch", str(batch)],
                              capture_output=True, text=True, check=True)
        peaks[who] = int(done.stdout) / 2**20
    return (f"| peak memory of a process, {name}, batch {batch} "
            f"| {peaks['ours']:.2f} GiB | {peaks['theirs']:.2f} GiB | "
            f"{peaks['ours'] / peaks['theirs']:.3f} | |")


def print_peak(who: str, name: str, batch: int) -> None:
    """Train two steps and print this process's largest memory in KiB."""
    with tempfile.TemporaryDirectory() as folder:
        solver = make_solver(name, Path(folder), batch)
        step = (lambda: solver.step(1)) if who == "ours" else plain_loop(solver)
        for _ in range(2):
            step()
        solver.net = solver.test_nets = None
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--net", choices=NETS, action="append", help="(default: both)")
    parser.add_argument("--peak", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the table there too")
    args = parser.parse_args()
    if args.peak:
        print_peak(args.peak, args.net[0], args.batch)
        return
    lines = ["# Training", "", f"`python tools/bench_train.py --rounds {args.rounds} --batch {args.batch}`, torch "
             f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} processors "
             f"({platform.machine()}); load at the beginning {os.getloadavg()[0]:.1f}. Medians (and ranges) of "
             "alternating rounds.",
             "", "| what | ours | beside | ratio, wall | ratio, CPU |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in args.net or NETS:
            for measure in (lambda net=net: measure_step(net, folder, args.batch, args.rounds),
                            lambda net=net: [measure_peak(net, args.batch)]):
                found = measure()
                print("\n".join(found), flush=True)
                lines += found
        if "ssd" in (args.net or NETS):
            lines.append(measure_time(folder, args.rounds))
            print(lines[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
