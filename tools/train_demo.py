"""Trains the demo's detector and pose network on the drawn world, from prototxt/demo/*_train.prototxt.

    python tools/train_demo.py FOLDER [--only NAME] [--seed N] [--steps N] [--threads N] [--device cuda]

Without --only, detector, sppe and rough train at once, a process of one thread each; then stn, then pose. FOLDER keeps
a snapshot of each, from which the same command goes on after an interruption (Ctrl-C saves one), and at the end
demo_detector.caffemodel and demo_pose.caffemodel, and those of the parts that the pose network begins with. The same
seed and threads give the same weights on the same machine.

The pose network sees people as a detector might cut them out: boxes disturbed as PGPG's are, grown, cropped. As in the
paper, a trained SPPE comes first, and then the STN learns through heat maps:

- sppe: the hourglass alone, which sees frames with the person in the middle. A network like the STN cuts them; it is
  told theta, and is thrown away.
- rough: the convolutions of the STN, which learn to see roughly where the joints of a crop are.
- stn: the STN begins as the identity, with these convolutions. It learns to put the person in the middle from the heat
  maps of a parallel SPPE, the hourglass's first stack, whose weights do not change. Nothing tells it theta.
- pose: STN, hourglass and SDTN together, with the parallel SPPE as before.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rmpe_legacy import Net, load_net
from rmpe_legacy.caffe.data.image import DETECTOR_MEAN
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.caffe.weights import copy_trained
from rmpe_legacy.pose.crop import crop_box, grow_boxes
from rmpe_legacy.synthetic.world import OUTSIDE, Picture, draw_picture

PROTOTXT = Path(__file__).parents[1] / "prototxt" / "demo"
DETECTOR_SIZE, CROP_SIZE, MAP_SIZE, CENTER_SIZE = 160, 128, 32, 24
STN = ("loc_", "theta")  # begin the names of its layers
PARALLEL = "para_"  # and of the parallel SPPE's
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # theta, row coordinate first
MIRRORED = [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]  # right joints for left ones
SIGMA = 1.4 / 24  # of the heat maps' peaks: a cell of what the STN sees
MARGIN = 1.12  # the STN's frame / the longer side of the person
SNAPSHOT_STEPS = 500

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    prototxt: str
    feed: Callable[[int, int], Batch]  # seed, step -> a batch, and perhaps more than the network takes
    steps: int
    rate: float  # Adam's, at its highest; it rises for WARM_UP steps and then falls as a cosine
    clip: float  # gradients are shortened to this norm
    parts: tuple[str, ...] = ()  # recipes whose networks it begins with
    begun_rate: float = 0  # of layers that begin with trained weights


WARM_UP = 100


# --- what the detector is fed --------------------------------------------------------------------------------------

DETECTOR_PICTURES = 8  # a step; each is seen whole and, mirrored, in part


def detector_batch(seed: int, step: int) -> Batch:
    """Images as ``detector_input`` makes them, and labels as AnnotatedData does: image, class, instance, box, 0."""
    rng = np.random.default_rng([seed, step, 1])
    inputs, labels = [], []
    for index in range(DETECTOR_PICTURES * step, DETECTOR_PICTURES * (step + 1)):
        picture = draw_picture(seed, index)
        for image, boxes in ((picture.image, picture.boxes_xyxy), _part(rng, picture)):
            height, width = image.shape[:2]
            rows = [(len(inputs), 1, k, *(box / (width, height, width, height)), 0) for k, box in enumerate(boxes)]
            labels += rows
            small = cv2.resize(image, (DETECTOR_SIZE, DETECTOR_SIZE), interpolation=cv2.INTER_LINEAR)
            inputs.append(small[..., ::-1].astype(np.float32) - np.array(DETECTOR_MEAN, np.float32))
    data = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).contiguous()
    return {"data": data, "label": torch.tensor(np.array(labels, np.float32)).view(1, 1, -1, 8)}


def _part(rng: np.random.Generator, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """A mirrored window of the image, and the boxes that are in it for the most part."""
    height, width = picture.image.shape[:2]
    size = np.array([width, height]) * (1 - 0.4 * rng.random())
    low = (np.array([width, height]) - size) * rng.random(2)
    (left, top), (right, bottom) = low.astype(int), (low + size).astype(int)
    boxes = picture.boxes_xyxy
    inside = np.clip(boxes, (left, top, left, top), (right, bottom, right, bottom))
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (inside, boxes)]
    inside = inside[areas[0] > 0.5 * areas[1]]
    mirrored = np.stack([right - inside[:, 2], inside[:, 1] - top, right - inside[:, 0], inside[:, 3] - top], axis=1)
    return np.ascontiguousarray(picture.image[top:bottom, left:right][:, ::-1]), mirrored


# --- what the pose network is fed ----------------------------------------------------------------------------------

POSE_BATCH = 16
POSE_VIEWS = 2  # crops of each person in a step

# How boxes are disturbed: a third like a good detector's; a third by the Gaussians that a fit to a real detector's
# boxes gave (shared among the coordinates xmin, ymin, xmax, ymax); a third by up to 30 % in place and size.
PGPG_STD = np.array([0.116, 0.068, 0.134, 0.071])


def disturb(rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    kind, size = rng.random(), np.tile(box[2:] - box[:2], 2)
    if kind < 0.5:
        return box + 0.05 * rng.standard_normal(4) * size
    if kind < 0.7:
        return box + np.clip(PGPG_STD * rng.standard_normal(4), -0.35, 0.35) * size
    return shifted_and_scaled(rng, box, 0.25)


def shifted_and_scaled(rng: np.random.Generator, box: np.ndarray, most: float) -> np.ndarray:
    """A box moved along each axis by up to ``most`` of its side, and made larger or smaller by up to ``most``."""
    size = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2 + size * most * (2 * rng.random(2) - 1)
    half = size / 2 * (1 + most * (2 * rng.random() - 1))
    return np.concatenate([middle - half, middle + half])


def pose_batch(seed: int, step: int) -> Batch:
    """POSE_BATCH crops with the labels of all recipes."""
    rng = np.random.default_rng([seed, step, 2])
    samples: list[tuple[np.ndarray, ...]] = []
    index = POSE_BATCH * step  # more images than a step can use up
    while len(samples) < POSE_BATCH:
        picture = draw_picture(seed, index)
        index += 1
        for person in range(len(picture)):
            for _ in range(POSE_VIEWS):
                sample = _pose_sample(rng, picture, person)
                samples += [] if sample is None else [sample]
    names = ("data", "label", "label_center", "theta_label")
    columns = zip(*samples[:POSE_BATCH], strict=True)
    return {name: torch.from_numpy(np.stack(column)) for name, column in zip(names, columns, strict=True)}


def _pose_sample(rng: np.random.Generator, picture: Picture, person: int) -> tuple[np.ndarray, ...] | None:
    """data (3, 128, 128), label (16, 32, 32), label_center (16, 24, 24), theta (6,).

    label_center: the joints where theta would show them. None if the box misses the person.
    """
    height, width = picture.image.shape[:2]
    true_box = picture.boxes_xyxy[person]
    box = grow_boxes(np.clip(disturb(rng, true_box), 0, (width, height, width, height)), (width, height))
    seen = np.clip(true_box, np.tile(box[:2], 2), np.tile(box[2:], 2))
    if (box[2:] - box[:2]).min() < 8 or (seen[2:] - seen[:2]).min() < 6:
        return None
    crop = crop_box(picture.image, box)
    length, size = len(crop), box[2:] - box[:2]
    offset = (length - size) // 2 - box[:2]  # from the image to the crop
    joints = picture.joints_xy[person]
    there = (picture.visible[person] != OUTSIDE) & ((joints >= box[:2]) & (joints < box[2:])).all(axis=1)
    places = (joints + offset) / length  # 0 to 1
    frame = (seen + np.tile(offset, 2)) / length
    image = cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR) / np.float32(255)
    if rng.random() < 0.5:
        image, places, there = image[:, ::-1], places[MIRRORED] * (-1, 1) + (1, 0), there[MIRRORED]
        frame = np.array([1 - frame[2], frame[1], 1 - frame[0], frame[3]])
    side = MARGIN * (frame[2:] - frame[:2]).max()
    middle = (frame[:2] + frame[2:]) / 2
    theta = np.array([side, 0, 2 * middle[1] - 1, 0, side, 2 * middle[0] - 1], np.float32)
    return (np.ascontiguousarray(image.transpose(2, 0, 1)), _heatmaps(places, there, MAP_SIZE, SIGMA * side),
            _heatmaps((places - middle) / side + 0.5, there, CENTER_SIZE, SIGMA), theta)


def _heatmaps(places: np.ndarray, there: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """(16, size, size) float32: a peak of height 1 where each joint is, nothing where it is not."""
    cells = np.arange(size) / size
    x, y = (np.exp(-((cells - places[:, i, None]) ** 2) / (2 * sigma**2)) for i in (0, 1))
    return (y[:, :, None] * x[:, None] * there[:, None, None]).astype(np.float32)


# --- training ------------------------------------------------------------------------------------------------------

RECIPES = {
    "detector": Recipe("ssd_train.prototxt", detector_batch, 5000, 3e-3, 20.0),
    "sppe": Recipe("sppe_train.prototxt", pose_batch, 9000, 5e-3, 300.0),
    "rough": Recipe("rough_train.prototxt", pose_batch, 9000, 5e-3, 300.0),
    "stn": Recipe("stn_train.prototxt", pose_batch, 6000, 1e-3, 100.0, ("sppe", "rough"), 3e-4),
    "pose": Recipe("pose_train.prototxt", pose_batch, 2000, 1e-3, 300.0, ("sppe", "stn"), 1e-3),
}


def new_net(name: str, seed: int) -> Net:
    """The network to train, its STN beginning as the identity."""
    torch.manual_seed(seed)
    net = load_net(PROTOTXT / RECIPES[name].prototxt, phase="TRAIN", de_transform="paper")
    if "theta" in net.params:
        with torch.no_grad():
            net.params["theta"][1].copy_(torch.tensor(IDENTITY))
    return net


def train(name: str, folder: Path, seed: int, steps: int, device: str, position: int) -> None:
    """Train one network, from its snapshot if there is one, and write its caffemodel."""
    recipe = RECIPES[name]
    net = new_net(name, seed)
    begun = begin_with(net, [layer for part in recipe.parts for layer in trained_part(folder, part)])
    net.to(device)
    learnt = [p for p in net.parameters() if p.requires_grad]
    slow = {id(p) for layer in begun for p in net.params[layer]}
    optimizer = torch.optim.Adam([{"params": [p for p in learnt if id(p) not in slow], "highest": recipe.rate},
                                  {"params": [p for p in learnt if id(p) in slow], "highest": recipe.begun_rate}])
    snapshot = folder / f"{name}.pt"
    done = _resume(snapshot, net, optimizer, (name, seed, steps))
    bar = tqdm(range(done, steps), name, initial=done, total=steps, position=position, mininterval=2)
    averages: dict[str, float] = {}
    try:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = group["highest"] * _schedule(step, steps)
            batch = recipe.feed(seed, step)
            losses = net({key: batch[key].to(device) for key in dict(net.inputs)})
            loss = net.loss()
            if not math.isfinite(loss.item()):
                raise SystemExit(f"{name}: the loss is {loss.item()} in step {step}; try another --seed")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, recipe.clip)
            optimizer.step()
            done = step + 1
            for key, value in losses.items():
                averages[key] = averages.get(key, value.item()) * 0.98 + 0.02 * value.item()
            bar.set_postfix({key: f"{value:.3f}" for key, value in averages.items()}, refresh=False)
            if done % SNAPSHOT_STEPS == 0:
                _save(snapshot, net, optimizer, (name, seed, steps), done)
    except KeyboardInterrupt:
        _save(snapshot, net, optimizer, (name, seed, steps), done)
        raise
    _save(snapshot, net, optimizer, (name, seed, steps), done)
    kept = [layer for layer in trained_layers(net) if not layer.name.startswith(PARALLEL)]
    write_caffemodel(folder / f"demo_{name}.caffemodel", kept, name=f"demo_{name}")


def trained_part(folder: Path, name: str) -> list[TrainedLayer]:
    """What another recipe gives: an SPPE for the network and for its parallel branch, or an STN."""
    path = folder / f"demo_{name}.caffemodel"
    if not path.exists():
        raise SystemExit(f"{path} is missing; train it first, with --only {name}")
    layers = list(read_weights(path))
    if name != "sppe":
        return layers
    hourglass = [layer for layer in layers if not layer.name.startswith(STN)]
    return [*hourglass, *(replace(layer, name=PARALLEL + layer.name) for layer in hourglass)]


def begin_with(net: Net, layers: list[TrainedLayer]) -> set[str]:
    """Give the network the weights of those layers that it has; their names."""
    copy_trained(net, layers)
    return {layer.name for layer in layers} & set(net.params)


def _schedule(step: int, steps: int) -> float:
    return min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def _save(path: Path, net: Net, optimizer: torch.optim.Optimizer, run: tuple, done: int) -> None:
    hidden = path.with_suffix(".tmp")
    torch.save({"run": run, "done": done, "net": net.state_dict(), "optimizer": optimizer.state_dict()}, hidden)
    os.replace(hidden, path)


def _resume(path: Path, net: Net, optimizer: torch.optim.Optimizer, run: tuple) -> int:
    """Load a snapshot; how many steps it has behind it."""
    if not path.exists():
        return 0
    state = torch.load(path)
    if state["run"] != run:
        raise SystemExit(f"{path} is of another run, {state['run']}; remove it, or give another folder")
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return state["done"]


def trained_layers(net: Net) -> Iterator[TrainedLayer]:
    """What goes into the caffemodel."""
    types = {step.layer.spec.name: step.layer.spec.type for step in net.steps}
    for name, params in net.params.items():
        blobs = [StoredBlob(tuple(p.shape), p.detach().cpu().numpy().ravel()) for p in params]
        yield TrainedLayer(name, types[name], blobs)


def train_all(arguments: list[str]) -> None:
    """First the networks that begin with nothing, then those that begin with these, and so on."""
    done: list[str] = []
    while len(done) < len(RECIPES):
        ready = [name for name in RECIPES if name not in done and set(RECIPES[name].parts) <= set(done)]
        if code := train_at_once(ready, arguments):
            sys.exit(code)
        done += ready


def train_at_once(names: list[str], arguments: list[str]) -> int:
    """Each network in a process of its own; when one fails or is interrupted, so are the others. The exit code."""
    command = [sys.executable, __file__, *arguments]
    children = [subprocess.Popen([*command, "--only", name, "--position", str(i)]) for i, name in enumerate(names)]
    try:
        while None in [child.poll() for child in children] and not any(child.returncode for child in children):
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    for child in children:
        child.terminate()  # those that still run save a snapshot
    return max(abs(child.wait()) for child in children)


def interrupt(*_: object) -> None:
    """Stop at the first signal; what then saves a snapshot is not to be stopped by a second one."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="; ".join(f"{n}: {r.steps}" for n, r in RECIPES.items()))
    parser.add_argument("--threads", type=int, default=1, help="of each network; default 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--position", type=int, default=0, help=argparse.SUPPRESS)  # of the progress bar
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # also where the shell started us with it ignored
    if args.only is None:
        train_all(sys.argv[1:])
        return
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    try:
        train(args.only, args.folder, args.seed, args.steps or RECIPES[args.only].steps, args.device, args.position)
    except KeyboardInterrupt:
        print(f"\n{args.only}: interrupted; the same command goes on from here")
        sys.exit(130)


if __name__ == "__main__":
    main()
