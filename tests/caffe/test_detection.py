"""SSD's layers and operators: options, quirks and mistakes, judged by plain loops written from the published rules.

The references below work on Python floats, box by box, and share no code with the package. What the real Caffe gave is
in test_golden.py.
"""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import TESTS
from torch.autograd import gradcheck
from torch.testing import assert_close

from rmpe_legacy import RmpeError
from rmpe_legacy.caffe.layers import Layer, create
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.caffe.spec import layer_spec
from rmpe_legacy.ops import boxes as ops
from rmpe_legacy.ops.matching import group_by_image, match_any_label, match_per_label

GOLDEN = TESTS / "golden" / "detection" / "files"
VARIANCE = (0.1, 0.15, 0.2, 0.25)


# --- building ---------------------------------------------------------------------------------------------------


def layer(type_: str, text: str, *bottom: torch.Tensor, dialect: str = "rmpe", top: str = "top", **more) -> Layer:
    """One layer, set up for these bottoms."""
    names = " ".join(f'bottom: "b{i}"' for i in range(len(bottom)))
    message = parse_text(f'name: "it" type: "{type_}" {names} top: "{top}" {text}', "LayerParameter", dialect)
    made = create(layer_spec(message, more.get("phase", "TEST")))
    shapes = [tuple(b.shape) for b in bottom]
    made.setup(*shapes)
    made.reshape(*shapes)
    return made


def some_boxes(count: int, seed: int, low: float = -0.1, high: float = 0.8) -> torch.Tensor:
    make = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=make) * (high - low) + low
    return torch.cat([start, start + 0.03 + 0.4 * torch.rand(count, 2, generator=make)], 1)


def some_priors(count: int, seed: int) -> torch.Tensor:
    """(1, 2, count * 4), as PriorBox gives them, with four unlike variances."""
    return torch.stack([some_boxes(count, seed).flatten(), torch.tensor(VARIANCE).repeat(count)]).unsqueeze(0)


def noise(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# --- references -------------------------------------------------------------------------------------------------


def area(box):
    return 0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def jaccard(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (area(a) + area(b) - width * height)


def decoded(prior, variance, t, code, in_target):
    t = [value * (1.0 if in_target else v) for value, v in zip(t, variance, strict=True)]
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CORNER":
        return [p + value for p, value in zip(prior, t, strict=True)]
    if code == "CORNER_SIZE":
        return [prior[0] + t[0] * width, prior[1] + t[1] * height, prior[2] + t[2] * width, prior[3] + t[3] * height]
    x, y = t[0] * width + (prior[0] + prior[2]) / 2, t[1] * height + (prior[1] + prior[3]) / 2
    w, h = math.exp(t[2]) * width, math.exp(t[3]) * height
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def suppressed(scored, overlap_limit, eta, top_k):
    """Indices kept of (score, box) pairs that are above the threshold already; (score, index, box) in."""
    order = sorted(scored, key=lambda s: -s[0])  # stable
    if top_k > -1:
        order = order[:top_k]
    kept = []
    for score, index, box in order:
        if all(jaccard(box, other) <= overlap_limit for _, _, other in kept):
            kept.append((score, index, box))
            if eta < 1 and overlap_limit > 0.5:
                overlap_limit *= eta
    return kept


def detected(loc, conf, prior, classes, share, background, code, in_target, limit, eta, top_k, keep_top_k, least, clip):
    """DetectionOutput in loops: rows of image, label, score, box."""
    priors = prior[0, 0].view(-1, 4).tolist()
    places = 1 if share else classes
    rows = []
    for image in range(len(loc)):
        offsets = loc[image].view(-1, places, 4).tolist()
        scores = conf[image].view(-1, classes).tolist()
        found = []
        for c in range(classes):
            if c == background:
                continue
            scored = [(scores[p][c], p, decoded(priors[p], VARIANCE, offsets[p][0 if share else c], code, in_target))
                      for p in range(len(priors)) if scores[p][c] > least]
            found += [(c, score, box) for score, _, box in suppressed(scored, limit, eta, top_k)]
        if -1 < keep_top_k < len(found):
            best = sorted(found, key=lambda f: -f[1])[:keep_top_k]
            found = sorted(best, key=lambda f: f[0])
        rows += [[image, c, score, *(min(max(v, 0), 1) if clip else v for v in box)] for c, score, box in found]
    return rows


def matches(box, truth, threshold, per_prediction, inside_only=False):
    """MatchBBox in loops: numbers of true boxes, and overlaps."""
    match, best = [-1] * len(box), [0.0] * len(box)
    shared = {}
    for i, b in enumerate(box):
        if truth and inside_only and any(v < 0 or v > 1 for v in b):
            match[i] = -2
            continue
        for j, t in enumerate(truth):
            if (value := jaccard(b, t)) > 1e-6:
                best[i] = max(best[i], value)
                shared[i, j] = value
    pool = set(range(len(truth)))
    while pool:
        free = [(value, -i, -j) for (i, j), value in shared.items() if match[i] == -1 and j in pool]
        if not free:
            break
        value, i, j = max(free)
        match[-i], best[-i] = -j, value
        pool.remove(-j)
    for i in range(len(box) if per_prediction else 0):
        mine = [(value, -j) for (k, j), value in shared.items() if k == i and value >= threshold]
        if match[i] == -1 and mine:
            best[i], j = max(mine)
            match[i] = -j
    return match, best


def encoded(prior, variance, box, code, in_target):
    width, height = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CENTER_SIZE":
        t = [((box[0] + box[2]) - (prior[0] + prior[2])) / 2 / width,
             ((box[1] + box[3]) - (prior[1] + prior[3])) / 2 / height,
             math.log((box[2] - box[0]) / width), math.log((box[3] - box[1]) / height)]
    else:
        size = (1, 1, 1, 1) if code == "CORNER" else (width, height, width, height)
        t = [(b - p) / s for b, p, s in zip(box, prior, size, strict=True)]
    return t if in_target else [value / v for value, v in zip(t, variance, strict=True)]


# --- operators --------------------------------------------------------------------------------------------------


CODES = ["CORNER", "CENTER_SIZE", "CORNER_SIZE"]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("in_target", [False, True])
class TestCodes:
    def test_decode(self, code, in_target):
        prior, offset = some_priors(5, 1).view(2, 5, 4), noise(3, 2, 5, 4, seed=2)
        got = ops.decode_boxes(offset, prior, code, in_target)
        for n, where in ((n, (i, j, n)) for i in range(3) for j in range(2) for n in range(5)):
            want = decoded(prior[0, n].tolist(), VARIANCE, offset[where].tolist(), code, in_target)
            assert got[where].tolist() == pytest.approx(want, abs=1e-5)

    def test_encode(self, code, in_target):
        prior, box = some_priors(7, 3).view(2, 7, 4), some_boxes(7, 4)
        got = ops.encode_boxes(box, prior, code, in_target)
        for n in range(7):
            want = encoded(prior[0, n].tolist(), VARIANCE, box[n].tolist(), code, in_target)
            assert got[n].tolist() == pytest.approx(want, rel=1e-4, abs=1e-5)

    def test_decode_undoes_encode(self, code, in_target):
        prior, box = some_priors(7, 5).view(2, 7, 4), some_boxes(7, 6)
        assert_close(ops.decode_boxes(ops.encode_boxes(box, prior, code, in_target), prior, code, in_target), box)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("per_prediction", [False, True])
@pytest.mark.parametrize("inside_only", [False, True])
def test_matches_are_those_of_the_loops(seed, per_prediction, inside_only):
    box, truth = some_boxes(41, seed), some_boxes(9, seed + 100)
    first = torch.tensor([0, 4, 4, 9])
    match, best = ops.match_boxes(box[None], truth, first, 0.35, per_prediction, inside_only)
    for s in range(3):
        mine = truth[first[s] : first[s + 1]].tolist()
        want_match, want_best = matches(box.tolist(), mine, 0.35, per_prediction, inside_only)
        assert match[s].tolist() == want_match
        assert best[s].tolist() == pytest.approx(want_best, abs=1e-5)


def test_equal_overlaps_go_to_the_first_box_and_the_first_truth():
    box = torch.tensor([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    match, _ = ops.match_boxes(box[None], box[:2], torch.tensor([0, 2]), 0.5, True)
    assert match.tolist() == [[0, 1, 0]]


def test_boxes_predicted_per_label_meet_the_truth_of_that_label():
    rows = torch.zeros(6, 8)
    rows[:, 0] = torch.tensor([1, 0, 1, 1, 5, 0])  # image 5 is not in the batch
    rows[:, 1] = torch.tensor([2, 1, 1, 2, 1, 2])
    rows[:, 3:7] = some_boxes(6, 7)
    truth = group_by_image(rows, 2)
    assert truth.count.tolist() == [2, 3]
    predicted = some_boxes(2 * 2 * 11, 8).view(2, 2, 11, 4)
    match, _ = match_per_label(predicted, truth, [1, 2], threshold=0.3, per_prediction=True)
    for image in range(2):
        mine = [(n, r) for n, r in enumerate(rows[rows[:, 0] == image].tolist())]
        for place, label in enumerate((1, 2)):
            own = [(n, r[3:7]) for n, r in mine if r[1] == label]
            want, _ = matches(predicted[image, place].tolist(), [r for _, r in own], 0.3, True)
            assert match[image, place].tolist() == [own[m][0] if m >= 0 else m for m in want]


def test_scores_and_losses_of_confidences():
    conf, label = noise(2, 5, 3, seed=9) * 3, torch.tensor([[0, 1, 2, 1, 0], [2, 2, 0, 1, 1]])
    probability, odds = conf.double().softmax(2), conf.double().sigmoid()
    assert_close(ops.confidence_scores(conf, 1, True).double(), probability[..., [0, 2]].amax(2))
    assert_close(ops.confidence_scores(conf, 0, False).double(), odds[..., 1:].amax(2))
    mine = torch.nn.functional.one_hot(label, 3)
    right = -(probability.log() * mine).sum(2)
    assert_close(ops.confidence_losses(conf, label, True).double(), right, atol=1e-6, rtol=0)
    wrong = -(torch.where(mine == 1, odds, 1 - odds)).log().sum(2)
    assert_close(ops.confidence_losses(conf, label, False).double(), wrong, atol=1e-5, rtol=0)


@pytest.mark.parametrize("top_k", [-1, 0, 6])
@pytest.mark.parametrize("limit", [0.2, 0.6])
def test_the_hardest_are_kept_apart(top_k, limit):
    score, allowed = noise(2, 31, seed=10), noise(2, 31, seed=11) > -0.5
    box = some_boxes(62, 12).view(2, 31, 4)
    box[0, :5, 2] = box[0, :5, 0]  # too small to count
    index, first = ops.pick_hardest(score, allowed, torch.tensor([3, 50]), box, limit, top_k)
    for i in range(2):
        order = sorted((n for n in range(31) if allowed[i, n]), key=lambda n: -score[i, n].item())
        kept = []
        for n in order[:top_k] if top_k > -1 else order:
            mine = box[i, n].tolist()
            if area(mine) >= 1e-5 and all(jaccard(mine, box[i, k].tolist()) <= limit for k in kept):
                kept.append(n)
        assert index[first[i] : first[i + 1]].tolist() == kept[: (3, 50)[i]]


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_the_hardest_are_the_highest(count):
    score, allowed = noise(3, 29, seed=13), noise(3, 29, seed=14) > 0
    index, first = ops.pick_hardest(score, allowed, torch.full((3,), count))
    for i in range(3):
        order = sorted((n for n in range(29) if allowed[i, n]), key=lambda n: -score[i, n].item())
        assert index[first[i] : first[i + 1]].tolist() == order[:count]


def test_not_a_number_is_never_the_hardest():
    score = torch.tensor([[1.0, math.nan, 3.0, math.nan, 2.0]])
    index, _ = ops.pick_hardest(score, torch.ones(1, 5, dtype=torch.bool), torch.tensor([3]))
    assert index.tolist() == [2, 4, 0]


def operators():
    offset, score = noise(2, 7, 1, 4, seed=15), noise(2, 7, 3, seed=16).softmax(2)
    prior = some_priors(7, 17).view(2, 7, 4)
    truth, first = some_boxes(3, 18), torch.tensor([0, 1, 3])
    detection = torch.cat([torch.zeros(5, 2), torch.rand(5, 1), some_boxes(5, 19), torch.rand(5, 1)], 1)
    allowed, count = torch.ones(2, 7, dtype=torch.bool), torch.tensor([2, 3])
    return {
        "decode_boxes": (offset[:, :, 0], prior, 2, False),
        "encode_boxes": (some_boxes(7, 20)[None], prior, 1, True),
        "detection_output": (offset, score, prior, 0, 2, False, 0.4, 1.0, 5, 3, 0.1, True),
        "detection_evaluate": (detection, detection[:2], 0.5, True, False),
        "match_boxes": (some_boxes(7, 21)[None], truth, first, 0.5, True, False),
        "confidence_scores": (score, 0, True),
        "confidence_losses": (score, torch.zeros(2, 7, dtype=torch.int64), False),
        "pick_hardest": (score[..., 0].contiguous(), allowed, count, some_boxes(14, 22).view(2, 7, 4), 0.5, 4),
    }


@pytest.mark.parametrize("name", sorted(operators()))
def test_operator_is_registered_in_full(name):
    torch.library.opcheck(getattr(torch.ops.rmpe, name).default, operators()[name],
                          test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(("name", "at", "bad", "sentence"), [
    ("decode_boxes", 0, torch.zeros(2, 6, 4), "decode_boxes: axis 1 of offset must be 7, got 6"),
    ("detection_output", 1, torch.zeros(2, 6, 3), "detection_output: axis 1 of offset must be 6, got 7"),
    ("detection_output", 0, torch.zeros(2, 7, 2, 4), "must have 1 or 3 places per prior, got 2"),
    ("detection_output", 2, torch.zeros(2, 7, 4, dtype=torch.float64), "must be contiguous, of single precision"),
    ("match_boxes", 2, torch.tensor([0, 1, 4]), "match_boxes: first must rise from 0 to 3"),
    ("pick_hardest", 2, torch.tensor([1]), "count must be 2 contiguous integers"),
    ("detection_evaluate", 1, torch.zeros(2, 7), "axis 1 of truth must be 8, got 7"),
])
def test_operator_says_what_is_wrong(name, at, bad, sentence):
    inputs = list(operators()[name])
    inputs[at] = bad
    with pytest.raises(RuntimeError, match=sentence):
        getattr(torch.ops.rmpe, name)(*inputs)


# --- PriorBox ---------------------------------------------------------------------------------------------------


def priors_in_loops(height, width, image_h, image_w, mins, maxs, ratios, step=None, offset=0.5, cut=False):
    boxes = []
    for h in range(height):
        for w in range(width):
            step_h, step_w = step or (image_h / height, image_w / width)
            x, y = (w + offset) * step_w, (h + offset) * step_h
            for i, low in enumerate(mins):
                low = int(low) if cut else low
                sizes = [(low, low)]
                if maxs:
                    side = math.sqrt(low * (int(maxs[i]) if cut else maxs[i]))
                    sizes.append((side, side))
                sizes += [(low * math.sqrt(r), low / math.sqrt(r)) for r in ratios]
                boxes += [[(x - box_w / 2) / image_w, (y - box_h / 2) / image_h,
                           (x + box_w / 2) / image_w, (y + box_h / 2) / image_h] for box_w, box_h in sizes]
    return torch.tensor(boxes, dtype=torch.float64)


class TestPriorBox:
    features, image = torch.zeros(2, 5, 3, 4), torch.zeros(2, 3, 31, 47)

    def make(self, text, dialect="rmpe", n=2):
        return layer("PriorBox", f"prior_box_param {{ {text} }}", *(self.features, self.image)[:n], dialect=dialect)

    def test_order_and_place(self):
        made = self.make("min_size: 9.5 max_size: 17.25 aspect_ratio: 2 aspect_ratio: 3 clip: false")
        got = made(self.features, self.image)
        want = priors_in_loops(3, 4, 31, 47, [9.5], [17.25], [2, 1 / 2, 3, 1 / 3])
        assert_close(got[0, 0].view(-1, 4).double(), want, atol=1e-6, rtol=0)
        assert (got[0, 1] == 0.1).all()

    def test_ssd_options(self):
        made = self.make("min_size: 9.9 min_size: 14.2 max_size: 20.7 max_size: 31.4 aspect_ratio: 1.5 flip: false "
                         "img_h: 60 img_w: 50 step_h: 7 step_w: 9 offset: 0.25 variance: 0.3", "ssd", n=1)
        want = priors_in_loops(3, 4, 60, 50, [9.9, 14.2], [20.7, 31.4], [1.5], (7, 9), 0.25, cut=True)
        got = made(self.features)
        assert_close(got[0, 0].view(-1, 4).double(), want, atol=1e-6, rtol=0)
        assert (got[0, 1] == np.float32(0.3)).all()

    def test_double_precision(self):
        got = self.make("min_size: 9.5 clip: false")(self.features.double(), self.image.double())
        assert_close(got[0, 0].view(-1, 4), priors_in_loops(3, 4, 31, 47, [9.5], [], []), atol=2e-7, rtol=0)

    def test_is_made_once_per_size(self):
        made = self.make("min_size: 9.5")
        first = made(self.features, self.image)
        assert made(self.features + 1, self.image) is first
        made.reshape((1, 5, 2, 6), (1, 3, 31, 47))
        other = made(torch.zeros(1, 5, 2, 6), self.image)
        assert other is not first
        assert other.shape == first.shape
        assert not torch.equal(other, first)

    @pytest.mark.parametrize(("text", "dialect", "sentence"), [
        ("", "rmpe", "needs a min_size"),
        ("", "ssd", "needs a min_size"),
        ("min_size: 0", "rmpe", "min_size must be positive"),
        ("min_size: 5 max_size: 5", "rmpe", "max_size must be greater than min_size"),
        ("min_size: 5 min_size: 6 max_size: 9", "ssd", "2 min_size and 1 max_size"),
        ("min_size: 5 variance: 0.1 variance: 0.2", "rmpe", "once or four times"),
        ("min_size: 5 variance: 0", "rmpe", "be positive"),
        ("min_size: 5 img_size: 3 img_h: 3", "ssd", "give img_size, or img_h and img_w; not both"),
        ("min_size: 5 img_h: 3", "ssd", "img_h and img_w must be larger than 0"),
        ("min_size: 5 step: 3 step_w: 3", "ssd", "give step, or step_h and step_w; not both"),
        ("min_size: 5 step: 0", "ssd", "step must be larger than 0"),
    ])
    def test_mistakes(self, text, dialect, sentence):
        with pytest.raises(RmpeError, match=sentence):
            self.make(text, dialect)

    def test_needs_the_image_or_its_size(self):
        with pytest.raises(RmpeError, match="the feature map and the image"):
            self.make("min_size: 5", n=1)


# --- DetectionOutput --------------------------------------------------------------------------------------------


def detection_bottoms(images=2, priors=43, classes=3, places=1, seed=30):
    return (noise(images, priors * places * 4, seed=seed), noise(images, priors * classes, seed=seed + 1).sigmoid(),
            some_priors(priors, seed + 2))


DETECTIONS = [  # dialect, share, background, code, in_target, limit, eta, top_k, keep_top_k, least
    ("rmpe", True, 0, "CENTER_SIZE", False, 0.45, 1, 400, 200, 0.01),
    ("rmpe", True, 2, "CENTER_SIZE", True, 0.3, 1, -1, 5, 0.5),
    ("rmpe", False, 1, "CORNER", False, 0.6, 1, 9, -1, 0.2),
    ("rmpe", False, -1, "CENTER_SIZE", False, 0.1, 1, 20, 11, 0.3),
    ("rmpe", True, -1, "CORNER", True, 0.4, 1, -1, -1, 0.6),
    ("ssd", True, 0, "CORNER_SIZE", False, 0.9, 0.6, -1, 40, 0.1),
    ("ssd", False, 0, "CENTER_SIZE", False, 0.7, 0.9, 15, 12, 0.4),
    ("ssd", True, 1, "CORNER_SIZE", True, 0.2, 0.5, 30, -1, 0.0),
]


@pytest.mark.parametrize("case", DETECTIONS)
class TestDetectionOutput:
    def run(self, case, bottoms):
        dialect, share, background, code, in_target, limit, eta, top_k, keep_top_k, least = case
        nms = f"nms_threshold: {limit} top_k: {top_k}" + (f" eta: {eta}" if dialect == "ssd" else "")
        text = f"""num_classes: 3 share_location: {str(share).lower()} background_label_id: {background}
            code_type: {code} variance_encoded_in_target: {str(in_target).lower()} nms_param {{ {nms} }}
            keep_top_k: {keep_top_k} confidence_threshold: {least}"""
        return layer("DetectionOutput", f"detection_output_param {{ {text} }}", *bottoms, dialect=dialect)

    def test_is_what_the_loops_give(self, case):
        bottoms = detection_bottoms(places=1 if case[1] else 3)
        got = self.run(case, bottoms)(*bottoms)
        want = detected(*bottoms, 3, *case[1:], clip=case[0] == "rmpe")
        assert got.shape == (1, 1, len(want), 7)
        assert_close(got[0, 0], torch.tensor(want), atol=1e-5, rtol=0)

    def test_takes_any_layout_and_type(self, case):
        bottoms = detection_bottoms(places=1 if case[1] else 3)
        made = self.run(case, bottoms)
        strided = [torch.stack([b, -b], -1)[..., 0] for b in bottoms]
        assert not strided[0].is_contiguous()
        assert torch.equal(made(*strided), made(*bottoms))
        assert_close(made(*(b.double() for b in bottoms)).float(), made(*bottoms))


def test_background_minus_1_with_shared_location_is_no_background():
    """Differs: the published CPU code aborts."""
    bottoms = detection_bottoms(images=1)
    text = "detection_output_param { num_classes: 3 background_label_id: -1 confidence_threshold: 0.7 }"
    assert 0 in layer("DetectionOutput", text, *bottoms)(*bottoms)[0, 0, :, 1]


@pytest.mark.parametrize(("text", "dialect", "sentence"), [
    ("", "rmpe", "needs num_classes"),
    ("num_classes: 3 nms_param { nms_threshold: -0.1 }", "rmpe", "nms_threshold must not be negative"),
    ("num_classes: 3 nms_param { eta: 0 }", "ssd", r"eta must be in \(0, 1\]"),
    ("num_classes: 3 visualize: true", "rmpe", "visualize: true would open a window; set visualize: false"),
    ("num_classes: 4", "rmpe", "43 priors need 172 confidence predictions, 4 each; its bottom has 129"),
    ("num_classes: 3 share_location: false", "rmpe", "43 priors need 516 location predictions, 12 each"),
])
def test_mistakes_in_detection_output(text, dialect, sentence):
    with pytest.raises(RmpeError, match=sentence):
        layer("DetectionOutput", f"detection_output_param {{ {text} }}", *detection_bottoms(), dialect=dialect)


def test_a_prior_without_a_width_is_a_sentence():
    loc, conf, prior = detection_bottoms()
    prior[0, 0, 4 * 7 + 2] = prior[0, 0, 4 * 7]
    text = "detection_output_param { num_classes: 3 code_type: CENTER_SIZE }"
    made = layer("DetectionOutput", text, loc, conf, prior)
    with pytest.raises(RmpeError, match="needs priors with a width and a height; prior 7 is"):
        made(loc, conf, prior)


# --- DetectionOutput's files ------------------------------------------------------------------------------------


def file_layer(folder: Path, into: Path, old: str = "", new: str = "") -> tuple[Layer, list[list[torch.Tensor]]]:
    """The layer of one case of files, writing to `into`, and the bottoms of its forwards."""
    with np.load(folder / "case.npz") as data:
        steps = sorted({key.split("_")[0] for key in data})
        bottoms = [[torch.from_numpy(data[f"{step}_{name}"]) for name in ("loc", "conf", "prior")] for step in steps]
    text = (folder / "layer.prototxt").read_text().replace("DIRECTORY", str(into)).replace(old or "\0", new)
    made = create(layer_spec(parse_text(text, "LayerParameter", folder.name.split("__")[1])))
    made.setup(*(tuple(b.shape) for b in bottoms[0]))
    return made, bottoms


class TestFiles:
    @pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
    def test_are_what_caffe_wrote(self, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(folder)
        made, bottoms = file_layer(folder, tmp_path / "new" / "results")
        for step in bottoms:
            made.reshape(*(tuple(b.shape) for b in step))
            made(*step)
        wrote = {path.name: path.read_bytes() for path in (tmp_path / "new" / "results").iterdir()}
        assert wrote == {path.name: path.read_bytes() for path in (folder / "wrote").iterdir()}

    def test_rmpe_writes_coco_as_the_ssd_branch_does(self, tmp_path, monkeypatch):
        """Differs: the RMPE fork crashes, its JSON writer is commented out."""
        monkeypatch.chdir(GOLDEN / "voc__rmpe")
        made, bottoms = file_layer(GOLDEN / "voc__rmpe", tmp_path, 'output_format: "VOC"', 'output_format: "COCO"')
        for step in bottoms:
            made.reshape(*(tuple(b.shape) for b in step))
            made(*step)
        text = (tmp_path / "run_.json").read_text()
        assert text.startswith('[\n        {\n            "image_id": "2007\\/000032",\n')
        assert '            "category_id": 17,\n' in text
        assert text.endswith("        }\n    \n]\n")

    def test_loading_leaves_old_files_alone(self, tmp_path, monkeypatch):
        """Differs: Caffe empties them when the network is loaded; here the first forward does."""
        monkeypatch.chdir(GOLDEN / "voc__rmpe")
        (tmp_path / "run_dog.txt").write_text("kept")
        made, bottoms = file_layer(GOLDEN / "voc__rmpe", tmp_path)
        assert (tmp_path / "run_dog.txt").read_text() == "kept"
        made.reshape(*(tuple(b.shape) for b in bottoms[0]))
        made(*bottoms[0])
        assert (tmp_path / "run_dog.txt").read_text() == ""

    def test_files_that_are_not_needed_are_not_read(self):
        """Differs: Caffe aborts if the label map is missing, though nothing is saved."""
        bottoms = detection_bottoms()
        text = 'detection_output_param { num_classes: 3 save_output_param { label_map_file: "nowhere" } }'
        assert layer("DetectionOutput", text, *bottoms).files is None

    @pytest.mark.parametrize(("old", "new", "sentence"), [
        ('"VOC"', '"XML"', "output_format must be one of VOC, COCO, ILSVRC, not 'XML'"),
        ('"sizes.txt"', '"labels.prototxt"', "must contain `name height width` for each image"),
        ('"sizes.txt"', '"sizes.txt" num_test_image: 5', "num_test_image is 5, but sizes.txt lists 4 images"),
        ('"sizes.txt"', '"sizes.txt" num_test_image: 0', "num_test_image is 0"),
        ("num_classes: 3", "num_classes: 5", "has no label 3"),
    ])
    def test_mistakes(self, tmp_path, monkeypatch, old, new, sentence):
        monkeypatch.chdir(GOLDEN / "voc__rmpe")
        with pytest.raises(RmpeError, match=sentence):
            file_layer(GOLDEN / "voc__rmpe", tmp_path, old, new)

    @pytest.mark.parametrize(("old", "sentence"), [
        ('"labels.prototxt"', "cannot read label_map_file: nowhere"),
        ('"sizes.txt"', "cannot read name_size_file nowhere"),
    ])
    def test_differs_in_missing_a_file_when_it_runs(self, tmp_path, monkeypatch, old, sentence):
        """Caffe aborts when the network is loaded, and so refuses networks whose authors' folders are not there."""
        monkeypatch.chdir(GOLDEN / "voc__rmpe")
        made, bottoms = file_layer(GOLDEN / "voc__rmpe", tmp_path, old, '"nowhere"')
        made.reshape(*(tuple(b.shape) for b in bottoms[0]))
        with pytest.raises(RmpeError, match=sentence):
            made(*bottoms[0])
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_cannot_be_made(self, tmp_path, monkeypatch):
        monkeypatch.chdir(GOLDEN / "voc__rmpe")
        (tmp_path / "taken").write_text("")
        made, bottoms = file_layer(GOLDEN / "voc__rmpe", tmp_path / "taken")
        made.reshape(*(tuple(b.shape) for b in bottoms[0]))
        with pytest.raises(RmpeError, match="taken: is a file; give the name of a folder"):
            made(*bottoms[0])


# --- DetectionEvaluate ------------------------------------------------------------------------------------------


def evaluated(detections, truths, classes, background, threshold, difficult_counts):
    """DetectionEvaluate in units of the image, in loops; scores must differ."""
    rows = [[-1, c, sum(t[1] == c and (difficult_counts or not t[7]) for t in truths), -1, -1]
            for c in range(classes) if c != background]
    taken = set()
    for d in sorted((d for d in detections if d[0] != -1), key=lambda d: (d[0], d[1], -d[2])):
        mine = [(jaccard(d[3:7], t[3:7]), -j) for j, t in enumerate(truths) if (t[0], t[1]) == (d[0], d[1])]
        shared, j = max(mine, default=(-1, 0))
        if shared < threshold:
            hit, miss = 0, 1
        elif truths[-j][7] and not difficult_counts:
            hit, miss = 0, 0
        else:
            hit, miss = int(j not in taken), int(j in taken)
            taken.add(j)
        rows.append([d[0], d[1], d[2], hit, miss])
    return rows


@pytest.mark.parametrize("difficult_counts", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_evaluation_is_what_the_loops_give(seed, difficult_counts):
    rng = np.random.default_rng(seed)
    truths = np.zeros((11, 8), np.float32)
    truths[:, 0], truths[:, 1], truths[:, 7] = rng.integers(0, 3, 11), rng.integers(1, 3, 11), rng.integers(0, 2, 11)
    truths[:, 3:7] = some_boxes(11, seed).numpy()
    source = rng.integers(0, 11, 17)
    detections = np.concatenate([truths[source, :2], rng.permutation(17)[:, None] / 20, truths[source, 3:7]], 1)
    detections[:, 3:7] += rng.normal(0, 0.04, (17, 4))
    order = np.lexsort((-detections[:, 2], detections[:, 1], detections[:, 0]))
    detections = detections[order].astype(np.float32)
    bottoms = torch.from_numpy(detections)[None, None], torch.from_numpy(truths)[None, None]
    got = layer("DetectionEvaluate", "detection_evaluate_param { num_classes: 3 overlap_threshold: 0.6 "
                f"evaluate_difficult_gt: {str(difficult_counts).lower()} }}", *bottoms)(*bottoms)
    want = evaluated(detections.tolist(), truths.tolist(), 3, 0, 0.6, difficult_counts)
    assert_close(got[0, 0], torch.tensor(want))


@pytest.mark.parametrize(("text", "sentence"), [
    ("", "needs num_classes"),
    ("num_classes: 3 overlap_threshold: 0", "overlap_threshold must be positive"),
])
def test_mistakes_in_evaluation(text, sentence):
    with pytest.raises(RmpeError, match=sentence):
        layer("DetectionEvaluate", f"detection_evaluate_param {{ {text} }}",
              torch.zeros(1, 1, 2, 7), torch.zeros(1, 1, 3, 8))


def test_differs_in_missing_the_sizes_when_it_runs():
    bottoms = torch.zeros(1, 1, 2, 7), torch.zeros(1, 1, 3, 8)
    made = layer("DetectionEvaluate", 'detection_evaluate_param { num_classes: 3 name_size_file: "nowhere" }', *bottoms)
    with pytest.raises(RmpeError, match="cannot read name_size_file nowhere"):
        made(*bottoms)


def test_the_backgrounds_label_does_not_belong():
    detections, truths = torch.zeros(1, 1, 2, 7), torch.zeros(1, 1, 3, 8)
    made = layer("DetectionEvaluate", "detection_evaluate_param { num_classes: 3 }", detections, truths)
    with pytest.raises(RmpeError, match="its detections have the background's label, 0"):
        made(detections, truths + 1)
    with pytest.raises(RmpeError, match="its true boxes have the background's label, 0"):
        made(detections + 1, truths)
    with pytest.raises(RmpeError, match=r"needs bottoms \(1, 1, detections, 7\)"):
        made.reshape((1, 1, 2, 8), (1, 1, 3, 8))


# --- MultiBoxLoss -----------------------------------------------------------------------------------------------


def loss_bottoms(images=2, priors=37, classes=3, places=1, truths=7, seed=40, dtype=torch.float32):
    gt = torch.zeros(1, 1, truths, 8)
    gt[..., 0] = torch.arange(truths) % images
    gt[..., 1] = 1 + torch.arange(truths) % (classes - 1)
    gt[0, 0, :, 3:7] = some_boxes(truths, seed, 0, 0.6)
    gt[..., 7] = torch.arange(truths) % 3 == 0
    loc = noise(images, priors * places * 4, seed=seed + 1, dtype=dtype)
    conf = 2 * noise(images, priors * classes, seed=seed + 2, dtype=dtype)
    return loc.requires_grad_(), conf.requires_grad_(), some_priors(priors, seed + 3), gt


def multibox(text, *bottoms, dialect="rmpe", more=""):
    return layer("MultiBoxLoss", f"multibox_loss_param {{ num_classes: 3 {text} }} {more}", *bottoms, dialect=dialect,
                 phase="TRAIN")


def loss_in_loops(loc, conf, prior, gt, code, in_target=False, hard=None, by_loss=False, inside=False, cross=False,
                  ratio=3.0, neg_overlap=0.5, normalize=True):
    """MultiBoxLoss with shared locations, prior matching, smooth L1 and softmax, in loops. hard: a sample size."""
    priors = prior[0, 0].view(-1, 4).tolist()
    total_loc = total_conf = matched = 0
    for image in range(len(loc)):
        truths = [row for row in gt[0, 0].tolist() if row[0] == image]
        if not truths:
            continue
        offsets, logits = loc[image].view(-1, 4).tolist(), conf[image].view(len(priors), -1).double()
        match, best = matches(priors, [row[3:7] for row in truths], 0.5, True, cross)
        labels = [int(truths[m][1]) if m >= 0 else 0 for m in match]
        conf_loss = [-logits[p].log_softmax(0)[labels[p]].item() for p in range(len(priors))]
        loc_loss = [0.0] * len(priors)
        for p, m in enumerate(match):
            if m < 0:
                continue
            want = encoded(priors[p], VARIANCE, truths[m][3:7], code, in_target)
            for k in range(4):
                apart = abs(offsets[p][k] - want[k]) / (VARIANCE[k] if in_target else 1)
                if not (inside and not 0 <= priors[p][k] <= 1):
                    loc_loss[p] += apart * apart / 2 if apart < 1 else apart - 0.5
        if hard:
            order = sorted(range(len(priors)), key=lambda p: -(conf_loss[p] + loc_loss[p]))[:hard]
            positive, negative = [p for p in order if match[p] >= 0], [p for p in order if match[p] == -1]
        else:
            positive = [p for p, m in enumerate(match) if m >= 0]
            worth = conf_loss if by_loss else [logits[p].softmax(0)[1:].max().item() for p in range(len(priors))]
            free = [p for p, m in enumerate(match) if m == -1 and best[p] < neg_overlap]
            negative = sorted(free, key=lambda p: -worth[p])[: int(len(positive) * ratio)]
        matched += len(positive)
        total_loc += sum(loc_loss[p] for p in positive)
        total_conf += sum(conf_loss[p] for p in positive + negative)
    return (total_loc + total_conf) / (max(matched, 1) if normalize else 1)


class TestMultiBoxLoss:
    @pytest.mark.parametrize(("text", "dialect", "options"), [
        ("", "rmpe", {"code": "CORNER"}),
        ("code_type: CENTER_SIZE neg_pos_ratio: 1.6 neg_overlap: 0.3", "rmpe",
         {"code": "CENTER_SIZE", "ratio": 1.6, "neg_overlap": 0.3}),
        ("encode_variance_in_target: true", "rmpe", {"code": "CORNER", "in_target": True}),
        ("code_type: CORNER_SIZE", "ssd", {"code": "CORNER_SIZE", "by_loss": True}),
        ("code_type: CENTER_SIZE mining_type: HARD_EXAMPLE sample_size: 14", "ssd",
         {"code": "CENTER_SIZE", "hard": 14}),
        ("code_type: CENTER_SIZE bp_inside: true", "ssd", {"code": "CENTER_SIZE", "by_loss": True, "inside": True}),
        ("code_type: CENTER_SIZE ignore_cross_boundary_bbox: true", "ssd",
         {"code": "CENTER_SIZE", "by_loss": True, "cross": True}),
    ])
    def test_is_what_the_loops_give(self, text, dialect, options):
        bottoms = loss_bottoms()
        got = multibox(text, *bottoms, dialect=dialect)(*bottoms)
        want = loss_in_loops(*(b.detach() for b in bottoms), **options)
        assert got.item() == pytest.approx(want, rel=1e-5)

    @pytest.mark.parametrize(("text", "dialect", "places"), [
        ("code_type: CENTER_SIZE", "rmpe", 1),
        ("conf_loss_type: LOGISTIC loc_loss_type: L2 loc_weight: 0.3", "rmpe", 1),
        ("share_location: false do_neg_mining: false", "rmpe", 3),
        ("mining_type: HARD_EXAMPLE sample_size: 20", "ssd", 1),
        ("mining_type: NONE bp_inside: true", "ssd", 1),
    ])
    def test_gradient_is_the_derivative(self, text, dialect, places):
        bottoms = loss_bottoms(priors=11, places=places, dtype=torch.float64)
        made = multibox(text, *bottoms, dialect=dialect)
        assert gradcheck(lambda loc, conf: made(loc, conf, *bottoms[2:]), bottoms[:2])

    def test_gradient_is_not_divided_by_the_variance(self):
        """As published: the loss is that of prediction / variance, the gradient is not."""
        loc, _, prior, gt = bottoms = loss_bottoms()
        multibox("encode_variance_in_target: true loc_loss_type: L2", *bottoms)(*bottoms).backward()
        row = loc.grad.view(2, -1, 4)[0].abs().sum(1).argmax()
        truth = group_by_image(gt[0, 0], 2)
        match, _ = match_any_label(prior[0, :1].view(1, -1, 4), truth, threshold=0.5, per_prediction=True)
        true = gt[0, 0, gt[0, 0, :, 0] == 0, 3:7][match[0, row]]
        offset = torch.tensor(encoded(prior[0, 0].view(-1, 4)[row].tolist(), VARIANCE, true.tolist(), "CORNER", True))
        apart = (loc.detach().view(2, -1, 4)[0, row] - offset) / torch.tensor(VARIANCE)
        ratio = loc.grad.view(2, -1, 4)[0, row] / apart
        assert_close(ratio, ratio[0].expand(4))

    def test_takes_any_layout(self):
        bottoms = loss_bottoms()
        made = multibox("", *bottoms)
        want = made(*bottoms)
        made.forget()
        assert_close(made(*(torch.stack([b, b + 1], -1)[..., 0] for b in bottoms)), want)

    def test_forgets_in_backward(self):
        first, second = loss_bottoms(seed=50), loss_bottoms(seed=60)
        fresh = multibox("", *first)(*second)
        made = multibox("", *first)
        made(*first)
        stale = made(*second)
        assert stale != fresh
        stale.backward()
        assert_close(made(*second), fresh)

    def test_forget_is_the_way_out(self):
        first, second = loss_bottoms(seed=50), loss_bottoms(seed=60)
        made = multibox("", *first)
        made(*first)
        made.forget()
        assert_close(made(*second), multibox("", *first)(*second))

    @pytest.mark.parametrize("dialect", ["rmpe", "ssd"])
    def test_earlier_matches_that_do_not_fit_are_a_sentence(self, dialect):
        """As published, an abort: the true boxes that the matches are of are not there."""
        first, second = loss_bottoms(truths=9), loss_bottoms(truths=3)
        made = multibox("", *first, dialect=dialect)
        made(*first)
        made.reshape(*(tuple(b.shape) for b in second))
        with pytest.raises(RmpeError, match=r"the matches of an earlier forward are still in use.* call forget\(\)"):
            made(*second)

    @pytest.mark.parametrize("dialect", ["rmpe", "ssd"])
    def test_without_a_match_the_gradient_is_zero(self, dialect):
        loc, conf, prior, gt = loss_bottoms()
        made = multibox("", loc, conf, prior, gt, dialect=dialect)
        made(loc, conf, prior, torch.full_like(gt, -1)).backward()
        assert loc.grad.shape == loc.shape
        assert not loc.grad.any()
        assert not conf.grad.any()

    def test_an_out_of_range_label_is_a_sentence(self):
        """Differs: the RMPE fork reads the probability of another box, or memory beyond."""
        loc, conf, prior, gt = loss_bottoms()
        gt[..., 1] = 3
        with pytest.raises(RmpeError, match="a true box has a label outside 0 to 2; set num_classes"):
            multibox("", loc, conf, prior, gt)(loc, conf, prior, gt)

    @pytest.mark.parametrize(("text", "dialect", "sentence"), [
        ("background_label_id: 3", "rmpe", "background_label_id must be within 0 to 2 for SOFTMAX"),
        ("background_label_id: 3", "ssd", "background_label_id must be within 0 to 2 for SOFTMAX"),
        ("share_location: false", "rmpe", "mining needs share_location: true"),
        ("share_location: false", "ssd", "mining needs share_location: true"),
        ("neg_pos_ratio: 0", "rmpe", "neg_pos_ratio must be positive"),
        ("map_object_to_agnostic: true", "rmpe", "map_object_to_agnostic needs num_classes: 2, not 3"),
        ("do_neg_mining: false", "ssd", "do_neg_mining contradicts mining_type MAX_NEGATIVE"),
        ("mining_type: HARD_EXAMPLE sample_size: 0", "ssd", "sample_size must be positive"),
    ])
    def test_mistakes(self, text, dialect, sentence):
        with pytest.raises(RmpeError, match=sentence):
            multibox(text, *loss_bottoms(places=3 if "share_location: false" in text else 1), dialect=dialect)

    def test_mistakes_in_values(self):
        loc, conf, prior, gt = loss_bottoms()
        made = multibox("", loc, conf, prior, gt)
        with pytest.raises(RmpeError, match="its true boxes have the background's label, 0"):
            made(loc, conf, prior, torch.zeros_like(gt))
        prior[0, 1] = 0
        with pytest.raises(RmpeError, match="the variances of the priors must be positive"):
            made(loc, conf, prior, gt)
        with pytest.raises(RmpeError, match=r"needs a fourth bottom \(1, 1, true boxes, 8\)"):
            made.reshape(loc.shape, conf.shape, prior.shape, (1, 1, 3, 7))


# --- SmoothL1Loss, Normalize ------------------------------------------------------------------------------------


class TestSmoothL1Loss:
    def test_is_square_then_linear(self):
        a, b = torch.tensor([[0.5, 1.0, -3.0]]), torch.zeros(1, 3)
        assert layer("SmoothL1Loss", "", a, b)(a, b).item() == 0.125 + 0.5 + 2.5

    def test_gradient_is_the_derivative(self):
        a, b = (noise(3, 5, 2, seed=s, dtype=torch.float64).requires_grad_() for s in (70, 71))
        assert gradcheck(layer("SmoothL1Loss", "", a, b), (a, b))

    def test_gradient_of_nan_is_zero(self):
        a, b = torch.tensor([[math.nan, 0.25]], requires_grad=True), torch.zeros(1, 2)
        layer("SmoothL1Loss", "", a, b)(a, b).backward()
        assert a.grad.tolist() == [[0, 0.25]]

    def test_mistakes(self):
        with pytest.raises(RmpeError, match="takes 2 bottoms, but is given 3"):
            layer("SmoothL1Loss", "", *(torch.zeros(2, 3) for _ in range(3)))
        with pytest.raises(RmpeError, match="needs two bottoms of the same size, with 1 to 4 axes, not 2 x 3 and 2 x "
                                            "4"):
            layer("SmoothL1Loss", "", torch.zeros(2, 3), torch.zeros(2, 4))


class TestNormalize:
    def make(self, text, x, scale, **more):
        made = layer("Normalize", f"norm_param {{ {text} }}", x, **more)
        made.make(0, None).data = scale
        return made

    @pytest.mark.parametrize("across", [False, True])
    @pytest.mark.parametrize("shared", [False, True])
    def test_value_and_gradient(self, across, shared):
        x = noise(2, 3, 5, 4, seed=80, dtype=torch.float64).requires_grad_()
        scale = noise(*(() if shared else (3,)), seed=81, dtype=torch.float64)
        text = f"across_spatial: {str(across).lower()} channel_shared: {str(shared).lower()} eps: 0.01"
        made = self.make(text, x, scale)
        got = made(x)
        for n, h, w in ((n, h, w) for n in range(2) for h in range(5) for w in range(4)):
            length = math.sqrt((x[n] if across else x[n, :, h, w]).square().sum().item() + 0.01)
            assert_close(got[n, :, h, w], x[n, :, h, w] / length * scale, atol=1e-8, rtol=1e-7)
        got.sum().backward()
        assert_close(made.scale.grad * scale, got.detach().sum() if shared else got.detach().sum((0, 2, 3)))
        assert gradcheck(self.make(text, x, torch.full_like(scale, 1.3)), x)

    def test_unlike_scales_give_another_gradient_than_the_derivative(self):
        """As published: what goes along x is summed before each channel is scaled."""
        x, scale = noise(2, 3, seed=84).requires_grad_(), torch.tensor([1.0, 2.0, -3.0])
        self.make("channel_shared: false eps: 0", x, scale)(x)[0, 1].backward()
        x0 = x.detach()[0]
        along = x0 * x0[1] / x0.square().sum()
        assert_close(x.grad[0], (torch.tensor([0.0, 1.0, 0.0]) - along) / x0.norm() * scale)

    def test_a_scale_of_0_has_no_gradient_but_nan(self):
        """As published: it is computed as top / scale."""
        x = noise(2, 3, seed=82)
        made = self.make("", x, torch.zeros(()))
        made(x).sum().backward()
        assert made.scale.grad.isnan()

    def test_in_place_nothing_gets_through(self):
        """As published: Backward works over the top's diff."""
        x = noise(2, 3, 4, 5, seed=83).requires_grad_()
        made = self.make("across_spatial: false", x, torch.tensor(2.0), top="b0")
        y = made(x)
        y.square().sum().backward()
        assert not x.grad.any()
        assert made.scale.grad.item() == pytest.approx((2 * y.detach().square()).sum().item() / 2, rel=1e-5)

    def test_mistakes(self):
        with pytest.raises(RmpeError, match="needs a bottom with 2 to 4 axes"):
            self.make("", torch.zeros(3), torch.ones(()))
        made = self.make("channel_shared: false", torch.zeros(2, 3, 4, 5), torch.ones(3))
        with pytest.raises(RmpeError, match="was set up for 3 channels"):
            made.reshape((2, 4, 4, 5))


# --- images and pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["WARP", "FIT_LARGE_SIZE_AND_PAD", "FIT_SMALL_SIZE"])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_on_the_input_become_boxes_on_the_image(mode, seed):
    pick = random.Random(seed)
    box = some_boxes(9, seed + 90, -0.3, 1.1)
    height, width = (torch.tensor([float(pick.randint(20, 700)) for _ in range(9)]) for _ in range(2))
    resize = ops.Resize(mode, 300, 240, *((0, 0) if seed == 0 else (310, 290)))
    got, areas = ops.boxes_in_pixels(box, height, width, resize)
    for k in range(9):
        b, h, w = box[k].tolist(), height[k].item(), width[k].item()
        more = 1
        if mode == "FIT_LARGE_SIZE_AND_PAD":
            scale = min(300 / h, 240 / w)
            top, left = (300 - h * scale) / 2 / 300, (240 - w * scale) / 2 / 240
            if b[0] < 1 - left and b[2] > left and b[1] < 1 - top and b[3] > top:
                b = [(v - (left, top)[i % 2]) / (1 - 2 * (left, top)[i % 2]) for i, v in enumerate(b)]
        if mode == "FIT_SMALL_SIZE" and seed:
            want = [min(max(v * (290, 310)[i % 2], 0), (w, h)[i % 2]) for i, v in enumerate(b)]
            more = 0
        else:
            want = [min(max(v, 0), 1) * (w, h)[i % 2] for i, v in enumerate(b)]
        assert got[k].tolist() == pytest.approx(want, abs=2e-3)
        size = (want[2] - want[0] + more) * (want[3] - want[1] + more)
        assert areas[k].item() == pytest.approx(size, rel=1e-3, abs=0.1)


def pairwise(boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all boxes, each centre and size, with all."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    sides = torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)
    common = torch.where((sides < 0).any(-1), 0, sides.prod(-1))
    area = boxes[:, 2:].prod(-1)
    return common / (area[:, None] + area - common)


class TestYolo:
    """YOLO v3: a box of no or infinite size does not even overlap itself, so it may be left with several labels."""

    PARAM = ("num_classes: 4 num_box: 2 confidence_threshold: 0.2 biases: 10 biases: 14 biases: 23 biases: 27 mask: 0 "
             "mask: 1 anchors_scale: 16 mask_group_num: 1 nms_threshold: ")

    def output(self, nms: float, x: torch.Tensor) -> torch.Tensor:
        return layer("Yolov3DetectionOutput", f"yolov3_detection_output_param {{ {self.PARAM}{nms} }}", x,
                     dialect="mobilenet-yolo")(x)

    @pytest.mark.parametrize("nms", [0.0, 0.3, 0.45, 1.0])
    @pytest.mark.parametrize("sizes", ["plain", "none", "infinite"])
    def test_what_is_left_is_what_comparing_all_pairs_leaves(self, nms, sizes):
        x = torch.randn((2, 18, 5, 6), generator=torch.Generator().manual_seed(1701))
        maps = x.view(2, 2, 9, 5, 6)
        maps[:, :, 5:] = maps[:, :, 5:].round()  # equal scores
        maps[0, 1, 2:4, 2:] = {"plain": 0.5, "none": -200, "infinite": 100}[sizes]
        found = self.output(nms, x)[0, 0]

        v = maps.permute(0, 3, 4, 1, 2)
        place = torch.stack([torch.arange(6.0).view(-1, 1) + v[..., 0].sigmoid(),
                             torch.arange(5.0).view(-1, 1, 1) + v[..., 1].sigmoid()], -1) / torch.tensor([6.0, 5.0])
        size = v[..., 2:4].exp() * torch.tensor([[10.0, 14], [23, 27]]) / torch.tensor([96.0, 80.0])
        score = (v[..., 5:].sigmoid() * v[..., 4:5].sigmoid()).flatten()
        boxes = torch.cat([place, size], -1).unsqueeze(-2).expand(-1, -1, -1, -1, 4, -1).reshape(-1, 4)
        order = score.argsort(descending=True, stable=True)
        order = order[score[order] > 0.2]
        covers = pairwise(boxes[order]) >= nms
        kept = []
        for i in range(len(order)):
            if not any(covers[j, i] for j in kept):
                kept.append(i)
        assert 0 < len(kept) < len(order)
        assert found[:, 1].tolist() == (order[kept] % 4 + 1).tolist()
        torch.testing.assert_close(found[:, 2], score[order[kept]], rtol=0, atol=0)

    @pytest.mark.parametrize("size", [0.0, 100.0], ids=["plain", "infinite"])
    def test_boxes_are_compared_not_their_labels(self, monkeypatch, size):
        """Before a network is trained, each box may be one for each label, and pairs of all of them took minutes."""
        from rmpe_legacy.caffe.layers import yolo_output

        compared, overlaps = [], yolo_output._overlaps
        monkeypatch.setattr(yolo_output, "_overlaps", lambda *boxes: compared.append(boxes) or overlaps(*boxes))
        x = torch.ones(1, 18, 5, 6)
        x.view(2, 9, 5, 6)[:, 2:4] = size
        found = self.output(0.45, x)
        assert 0 < len(compared) <= 2 * 5 * 6
        assert len(found[0, 0]) == (len(compared) if size == 0 else 4 * 2 * 5 * 6)
