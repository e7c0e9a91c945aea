"""Times pose NMS beside the published algorithm in numpy, alternating, and checks first that both give the same.

    python tools/bench_nms.py [PROPOSALS POSES] [--rounds N]

PROPOSALS is a folder with index.txt, score.txt and test-bbox.h5, POSES the pose network's .h5. Without them it takes
the authors' own in $RMPE_SHARED/data/authors, or else the 60 synthetic images of tests/golden/nms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from rmpe_legacy.pose.nms import PUBLISHED, pose_nms
from rmpe_legacy.runs.result_files import RESULTS, read_poses, read_proposals

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "nms" / "synthetic.npz"
OURS = "import sys; from rmpe_legacy.runs.nms_files import run_nms; run_nms(*sys.argv[1:])"


def numpy_nms(joints: np.ndarray, scores: np.ndarray, boxes: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """The published algorithm for one image, written with whole-array numpy: (pick, joints, scores) per person."""
    p = PUBLISHED
    left, mean = np.arange(len(joints)), scores.mean(axis=1)
    ref = p.alpha * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    people = []
    while len(left):
        pick = left[mean[left].argmax()]
        distance = np.sqrt(((joints[left] - joints[pick]) ** 2).sum(axis=2)) / ref[pick]
        sure = np.tanh(scores[left] / p.delta1) * np.tanh(scores[pick] / p.delta1)
        alike = np.where(distance <= 1, sure, 0).sum(axis=1) + p.mu * np.exp(-distance / p.delta2).sum(axis=1)
        gone = alike > p.gamma
        gone |= ~gone.any() & (left == pick)
        group, left = left[gone], left[~gone]
        near = np.sqrt(((joints[group] - joints[pick]) ** 2).sum(axis=2)) <= ref[pick]
        weight = np.where(near, scores[group], 0)
        place = (weight[..., None] * joints[group]).sum(axis=0) / weight.sum(axis=0)[:, None]
        people.append((int(pick), place, weight.max(axis=0)))
    return people


def numpy_process(folder: Path, poses: str, output: Path) -> None:
    """The whole job with numpy and Python's own text: what ``rmpe nms`` does, file for file."""
    with h5py.File(poses) as file:
        joints, scores = file["preds"][()], file["scores"][()][:, :, 0]
    with h5py.File(folder / "test-bbox.h5") as file:
        boxes = np.stack([file[name][()] for name in ("xmin", "ymin", "xmax", "ymax")], axis=1)
    proposal_scores = np.loadtxt(folder / "score.txt", ndmin=1)
    output.mkdir(exist_ok=True)
    text, done = {name: [] for name in RESULTS}, 0
    for line in (folder / "index.txt").read_text().splitlines():
        name, first, last = line.split()
        rows = slice(int(first) - 1, int(last))
        people = numpy_nms(joints[rows], scores[rows], boxes[rows])
        for pick, place, height in people:
            text["pred.txt"].append("\t".join([name, *(str(int(v)) for v in place.ravel())]))
            text["scores.txt"].append("\t".join([name, *(f"{v:.12g}" for v in height)]))
            text["scores-proposals.txt"].append(f"{proposal_scores[rows][pick]:.12g}")
        text["index.txt"].append(f"{name} {done + 1} {done + len(people)}")
        done += len(people)
    for name, lines in text.items():
        (output / name).write_text("".join(f"{line}\n" for line in lines))


def golden_files(folder: Path) -> tuple[Path, Path]:
    """The synthetic images as files of the authors' form."""
    z = np.load(GOLDEN)
    with h5py.File(folder / "poses.h5", "w") as file:
        file["preds"], file["scores"] = z["preds"].astype(float), z["scores"][:, :, None]
    with h5py.File(folder / "test-bbox.h5", "w") as file:
        for i, name in enumerate(("xmin", "ymin", "xmax", "ymax")):
            file[name] = z["box_xyxy"][:, i]
    (folder / "score.txt").write_text("".join(f"{score}\n" for score in z["proposal_scores"]))
    rows = zip(z["image"], z["first"], z["last"], strict=True)
    (folder / "index.txt").write_text("".join(f"{name.decode()} {a + 1} {b}\n" for name, a, b in rows))
    return folder, folder / "poses.h5"


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of both, taken in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return seconds


def report(title: str, ours: list[float], theirs: list[float], images: int) -> None:
    print(f"{title:<28}{'median':>12}{'best':>12}{'ms an image':>14}{'times as fast':>15}")
    slow = statistics.median(theirs)
    for name, times in (("rmpe_legacy", ours), ("numpy", theirs)):
        median = statistics.median(times)
        print(f"  {name:<26}{median * 1e3:>9.1f} ms{min(times) * 1e3:>9.1f} ms{median * 1e3 / images:>14.4f}"
              f"{slow / median:>15.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proposals", nargs="?")
    parser.add_argument("poses", nargs="?")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--numpy", metavar="OUT", help=argparse.SUPPRESS)  # be the other process
    args = parser.parse_args()
    if args.numpy:
        numpy_process(Path(args.proposals), args.poses, Path(args.numpy))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, poses = Path(args.proposals or ""), args.poses
        if args.proposals is None and os.environ.get("RMPE_SHARED"):
            folder = Path(os.environ["RMPE_SHARED"], "data", "authors")
            poses = folder / "testres.h5"
        elif args.proposals is None:
            folder, poses = golden_files(Path(temporary))
        bench(folder, str(poses), Path(temporary), args.rounds)


def bench(folder: Path, poses: str, temporary: Path, rounds: int) -> None:
    proposals, network = read_proposals(folder), read_poses(poses)
    given = network.joints_xy, network.scores, proposals.boxes_xyxy
    images = len(proposals.images)
    print(f"{len(proposals)} proposals of {images} images, {rounds} alternating rounds; numpy {np.__version__}, "
          f"Python {sys.version.split()[0]}")

    def ours():
        return pose_nms(*given, ranges=proposals.ranges).persons

    def theirs():
        return [numpy_nms(*(array[first:end] for array in given)) for first, end in proposals.ranges.tolist()]

    places = np.array([place for image in theirs() for _, place, _ in image])
    np.testing.assert_allclose(ours().joints_xy, places, rtol=0, atol=1e-9)
    report("NMS alone", *compare(ours, theirs, rounds), images)

    def process(*command):
        return lambda: subprocess.run([sys.executable, *command], check=True)

    seconds = compare(process("-c", OURS, folder, poses, temporary / "ours"),
                      process(__file__, folder, poses, "--numpy", temporary / "numpy"), rounds)
    report("whole process, files to files", *seconds, images)


if __name__ == "__main__":
    main()
