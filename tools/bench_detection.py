"""Times SSD-500's PriorBox, DetectionOutput and MultiBoxLoss beside the same in whole-array numpy and torch.

    python tools/bench_detection.py [--rounds N] [--threads N]

Both take turns, and must first give the same. The six heads are those of prototxt/ssd500; the predictions are random:
one image with few likely people for DetectionOutput, a batch of 8 with 1 to 5 people each for the loss.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy import load_net
from rmpe_legacy.caffe.layers import Layer, create
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.caffe.spec import layer_spec

SSD500 = Path(__file__).parents[1] / "prototxt" / "ssd500" / "deploy.prototxt"
IMAGE = (1, 3, 500, 500)
LOSS = """name: "loss" type: "MultiBoxLoss" bottom: "loc" bottom: "conf" bottom: "prior" bottom: "label" top: "loss"
          multibox_loss_param { num_classes: 2 code_type: CENTER_SIZE }"""


def heads() -> tuple[list[tuple[Layer, Tensor]], Layer]:
    """The six PriorBox layers with a feature map each, and the DetectionOutput layer."""
    steps = load_net(SSD500).steps
    priors = [(s.layer, torch.zeros(s.bottom_shapes[0])) for s in steps if s.layer.spec.type == "PriorBox"]
    return priors, steps[-1].layer


def numpy_priors(layer: Layer, height: int, width: int) -> np.ndarray:
    """One head's boxes (P, 4) in whole-array numpy, in double precision throughout."""
    low, ratios = layer.min_sizes[0], [r for r in layer.aspect_ratios if r != 1]
    sizes = [(low, low), *[((low * high) ** 0.5,) * 2 for high in layer.max_sizes]]
    sizes = np.array(sizes + [(low * r**0.5, low / r**0.5) for r in ratios])
    y, x = np.meshgrid((np.arange(height) + 0.5) * 500 / height, (np.arange(width) + 0.5) * 500 / width, indexing="ij")
    centre = np.stack([x, y], -1)[:, :, None]
    return np.concatenate([centre - sizes / 2, centre + sizes / 2], -1).reshape(-1, 4).clip(0, 500) / 500


def numpy_detections(loc: np.ndarray, conf: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """DetectionOutput for one image and one class: boxes (K, 4) by score, in whole-array numpy."""
    box, variance = prior
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    middle = variance[:, :2] * loc[:, :2] * size + centre
    half = np.exp(variance[:, 2:] * loc[:, 2:]) * size / 2
    boxes = np.concatenate([middle - half, middle + half], 1)
    left = np.nonzero(conf > np.float32(0.01))[0]
    left = left[np.argsort(-conf[left], kind="stable")][:400]
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        shared = np.minimum(boxes[left, 2:], boxes[best, 2:]) - np.maximum(boxes[left, :2], boxes[best, :2])
        shared = shared.clip(0).prod(1)
        both = (boxes[left, 2:] - boxes[left, :2]).prod(1) + (boxes[best, 2:] - boxes[best, :2]).prod()
        left = left[shared <= np.float32(0.45) * (both - shared)]
    return boxes[kept[:200]].clip(0, 1)


def torch_loss(loc: Tensor, conf: Tensor, prior: Tensor, label: Tensor) -> Tensor:
    """MultiBoxLoss in whole-array torch, as SSD is commonly written: a loop over images, none over priors."""
    box, variance = prior
    sum_loc = sum_conf = matched = 0
    for image in range(len(loc)):
        truth = label[label[:, 0] == image][:, 3:7]
        sides = torch.minimum(box[:, None, 2:], truth[:, 2:]) - torch.maximum(box[:, None, :2], truth[:, :2])
        shared = sides.clamp(min=0).prod(2)
        areas = (box[:, 2:] - box[:, :2]).prod(1)[:, None] + (truth[:, 2:] - truth[:, :2]).prod(1)
        overlap = shared / (areas - shared)
        best, which = overlap.max(1)
        taken = overlap.clone()
        for _ in range(len(truth)):
            prior_of, truth_of = divmod(int(taken.argmax()), len(truth))
            which[prior_of], best[prior_of] = truth_of, 2
            taken[prior_of], taken[:, truth_of] = -1, -1
        positive = best >= 0.5
        scores = conf[image].view(-1, 2)
        hard = scores.detach().softmax(1)[:, 1].masked_fill(positive | (best >= 0.5), -1)
        count = int(positive.sum())
        negative = hard.topk(min(3 * count, int((hard >= 0).sum()))).indices
        sum_conf = sum_conf + F.cross_entropy(scores[positive], torch.ones(count, dtype=torch.int64), reduction="sum")
        sum_conf = sum_conf - scores[negative].log_softmax(1)[:, 0].sum()
        mine, p, v = truth[which[positive]], box[positive], variance[positive]
        size = p[:, 2:] - p[:, :2]
        target = torch.cat([(mine[:, :2] + mine[:, 2:] - p[:, :2] - p[:, 2:]) / 2 / size,
                            ((mine[:, 2:] - mine[:, :2]) / size).log()], 1) / v
        sum_loc = sum_loc + F.smooth_l1_loss(loc[image].view(-1, 4)[positive], target, reduction="sum")
        matched += count
    return (sum_loc + sum_conf) / max(matched, 1)


def people(images: int, seed: int) -> Tensor:
    """True boxes (1, 1, G, 8): 1 to 5 upright boxes an image."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in range(images):
        for _ in range(rng.integers(1, 6)):
            height = rng.uniform(0.2, 0.7)
            x, y = rng.uniform(0, 1 - height / 2), rng.uniform(0, 1 - height)
            rows.append([image, 1, 0, x, y, x + height * rng.uniform(0.3, 0.5), y + height, 0])
    return torch.tensor(rows, dtype=torch.float32)[None, None]


Times = list[tuple[float, float]]  # wall and CPU milliseconds of each round


def compare(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[Times, Times]:
    """What both take, in turn."""
    milliseconds: tuple[Times, Times] = ([], [])
    for _ in range(rounds):
        for call, times in zip((ours, theirs), milliseconds, strict=True):
            start, cpu = time.perf_counter(), time.process_time()
            call()
            times.append(((time.perf_counter() - start) * 1e3, (time.process_time() - cpu) * 1e3))
    return milliseconds


def report(title: str, limit: str, names: tuple[str, str], times: tuple[Times, Times]) -> None:
    print(f"{title:<68}{'median':>12}{'best':>12}{'median CPU':>13}")
    for name, mine in zip(names, times, strict=True):
        wall, cpu = zip(*mine, strict=True)
        print(f"  {name:<66}{statistics.median(wall):>9.3f} ms{min(wall):>9.3f} ms{statistics.median(cpu):>10.3f} ms")
    print(f"  asked: {limit}\n")


def bench_priors(layers: list[tuple[Layer, Tensor]], rounds: int) -> Tensor:
    """Times PriorBox; the priors of all heads, (1, 2, P * 4)."""
    image = torch.zeros(IMAGE)
    ours = torch.cat([layer(features, image) for layer, features in layers], 2)
    theirs = np.concatenate([numpy_priors(layer, *f.shape[2:]) for layer, f in layers])
    np.testing.assert_allclose(ours[0, 0].view(-1, 4), theirs, rtol=0, atol=1e-6)
    first = []
    for _ in range(5):
        fresh, _ = heads()
        start = time.perf_counter()
        for layer, features in fresh:
            layer(features, image)
        first.append((time.perf_counter() - start) * 1e3)
    times = compare(lambda: [layer(features, image) for layer, features in layers],
                    lambda: [numpy_priors(layer, *f.shape[2:]) for layer, f in layers], rounds)
    report("PriorBox, all six heads, after the first call",
           f"1 ms; the first call took {statistics.median(first):.1f} ms",
           ("rmpe_legacy", "numpy, computed each time"), times)
    return ours


def bench_output(layer: Layer, prior: Tensor, rounds: int) -> None:
    count = prior.shape[2] // 4
    torch.manual_seed(2)
    loc = torch.randn(1, count, 4)
    conf = torch.stack([torch.full((count,), 2.0), 1.5 * torch.randn(count) - 2], 1).softmax(1)
    bottoms = loc.view(1, -1), conf.view(1, -1), prior
    arrays = loc[0].numpy(), conf[:, 1].numpy().copy(), prior.view(2, -1, 4).numpy()
    got, want = layer(*bottoms)[0, 0, :, 3:].numpy(), numpy_detections(*arrays)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    above = int((conf[:, 1] > 0.01).sum())
    report(f"DetectionOutput, {count} priors, {above} above 0.01, {len(got)} kept", "3 ms", ("rmpe_legacy", "numpy"),
           compare(lambda: layer(*bottoms), lambda: numpy_detections(*arrays), rounds))


def bench_loss(prior: Tensor, rounds: int) -> None:
    count, images = prior.shape[2] // 4, 8
    torch.manual_seed(3)
    loc = torch.randn(images, count * 4).requires_grad_()
    conf = torch.randn(images, count * 2).requires_grad_()
    label = people(images, 4)
    layer = create(layer_spec(parse_text(LOSS, "LayerParameter", "rmpe"), "TRAIN"))
    shapes = [tuple(x.shape) for x in (loc, conf, prior, label)]
    layer.setup(*shapes)
    layer.reshape(*shapes)

    def step(loss: Callable[[], Tensor]) -> tuple[float, Tensor, Tensor]:
        loc.grad = conf.grad = None
        value = loss()
        value.backward()
        return value.item(), loc.grad, conf.grad

    def ours():
        return step(lambda: layer(loc, conf, prior, label))

    def theirs():
        return step(lambda: torch_loss(loc, conf, prior.view(2, -1, 4), label[0, 0]))

    for got, want in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(want), rtol=1e-4, atol=1e-6)
    report(f"MultiBoxLoss forward and backward, batch {images}, {count} priors, {label.shape[2]} people", "60 ms",
           ("rmpe_legacy", "torch, whole arrays"), compare(ours, theirs, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, {args.rounds} alternating rounds; torch {torch.__version__}, "
          f"numpy {np.__version__}, Python {sys.version.split()[0]}\n")
    layers, output = heads()
    prior = bench_priors(layers, args.rounds)
    with torch.no_grad():
        bench_output(output, prior, args.rounds)
    bench_loss(prior, args.rounds)


if __name__ == "__main__":
    main()
