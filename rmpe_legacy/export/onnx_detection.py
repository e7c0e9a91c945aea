"""SSD's PriorBox and DetectionOutput in ONNX's standard operators."""

from __future__ import annotations

import torch

from .onnx_layers import _FLOAT, FLT_MAX, Here, emits

_LOWEST = -float("inf")


@emits("PriorBox")
def _prior_box(at: Here) -> None:
    """The boxes depend on the sizes of the bottoms alone: a constant."""
    boxes = at.layer.forward(torch.empty(0)).numpy()
    at.last("Identity", at.graph.parameter(f"{at.layer.spec.name}.boxes", boxes))


@emits("DetectionOutput")
def _detection_output(at: Here) -> None:
    """Decode, take the top_k of each class, suppress, take the keep_top_k of each image: rows (1, 1, K, 7)."""
    layer = at.layer
    if layer.files is not None:
        raise at.refuse("save_output_param writes files; remove it")
    if layer.how.eta != 1:
        raise at.refuse("nms_param { eta } below 1; ONNX's NonMaxSuppression has one threshold. Convert up to the "
                        "predictions, with --until")
    if layer.places != 1 and layer.places != layer.classes:
        raise at.refuse("predictions that are neither shared nor for each class")
    chosen = _Detections(at)
    at.graph.shapes[at.y[0]] = (1, 1, "detections", 7)
    rows = chosen.rows(chosen.best(chosen.survivors()))
    at.graph.node("Reshape", [_or_nothing_found(at, rows), at.integers([1, 1, -1, 7])], at.y)


class _Detections:
    """The candidates: scores (N, F, P) of the F classes that are objects, boxes (N, P, 4) or (N, F, P, 4)."""

    def __init__(self, at: Here):
        self.at, layer = at, at.layer
        self.priors, self.labels = layer.priors, [c for c in range(layer.classes) if c != layer.how.background]
        conf = at.node("Reshape", at.x[1], at.integers([-1, self.priors, layer.classes]))
        labels = at.integers(self.labels)
        self.scores = self._top(at.node("Gather", at.node("Transpose", conf, perm=[0, 2, 1]), labels, axis=1))
        boxes = self._decoded()
        if layer.places == 1:
            self.boxes = at.node("Squeeze", boxes, at.integers([2]))
        else:
            self.boxes = at.node("Transpose", at.node("Gather", boxes, labels, axis=2), perm=[0, 2, 1, 3])

    def _decoded(self) -> str:
        """(N, P, 1 or classes, 4): see csrc/boxes.h, decode."""
        at, layer = self.at, self.at.layer
        prior = at.node("Reshape", at.x[2], at.integers([2, self.priors, 1, 4]))
        box, variance = (at.node("Gather", prior, at.integers(i), axis=0) for i in range(2))
        offset = at.node("Reshape", at.x[0], at.integers([-1, self.priors, layer.places, 4]))
        if not layer.how.in_target:
            offset = at.node("Mul", variance, offset)
        halves = at.integers([2, 2])
        low, high = at.graph.nodes_of("Split", [box, halves], 2, axis=-1)
        size = at.node("Sub", high, low)
        if layer.how.code == "CORNER":
            return at.node("Add", box, offset)
        if layer.how.code == "CORNER_SIZE":
            return at.node("Add", box, at.node("Mul", offset, at.node("Concat", size, size, axis=-1)))
        move, stretch = at.graph.nodes_of("Split", [offset, halves], 2, axis=-1)
        two = at.constant(2.0)
        middle = at.node("Add", at.node("Mul", move, size), at.node("Div", at.node("Add", low, high), two))
        half = at.node("Div", at.node("Mul", at.node("Exp", stretch), size), two)
        return at.node("Concat", at.node("Sub", middle, half), at.node("Add", middle, half), axis=-1)

    def _top(self, scores: str) -> str:
        """Scores of which only the top_k of each class are left."""
        top_k = self.at.layer.how.top_k
        return scores if top_k < 0 or top_k >= self.priors else self._only_largest(scores, top_k)

    def _only_largest(self, scores: str, count: int) -> str:
        """The `count` largest along the last axis; -inf in the place of the others. At a tie the first go first."""
        at = self.at
        _, places = at.graph.nodes_of("TopK", [scores, at.integers([count])], 2, axis=-1)
        lowest = at.node("Expand", at.constant(_LOWEST), at.node("Shape", scores))
        return at.node("ScatterElements", lowest, places, at.node("GatherElements", scores, places, axis=-1), axis=-1)

    def survivors(self) -> str:
        """(K, 3) image, class, prior of what suppression leaves: by image and class, best first."""
        at, how = self.at, self.at.layer.how
        boxes, scores = self.boxes, self.scores
        shared = at.layer.places == 1
        if not shared:  # a class with boxes of its own is an image of its own here
            boxes = at.node("Reshape", boxes, at.integers([-1, self.priors, 4]))
            scores = at.node("Reshape", scores, at.integers([-1, 1, self.priors]))
        limits = [at.constant([min(how.nms_threshold, 1.0)]), at.constant([max(how.confidence_threshold, -FLT_MAX)])]
        found = at.node("NonMaxSuppression", boxes, scores, at.integers([self.priors]), *limits)
        if shared:
            return found
        image, _, prior = at.graph.nodes_of("Split", [found, at.integers([1, 1, 1])], 3, axis=1)
        count = at.integers(len(self.labels))
        return at.node("Concat", at.node("Div", image, count), at.node("Mod", image, count), prior, axis=1)

    def best(self, found: str) -> str:
        """Those of `found` that are among the keep_top_k best of their image."""
        at, keep = self.at, self.at.layer.how.keep_top_k
        values = len(self.labels) * self.priors
        if keep < 0 or keep >= values:
            return found
        lowest = at.node("Expand", at.constant(_LOWEST), at.node("Shape", self.scores))
        kept = at.node("ScatterND", lowest, found, at.node("GatherND", self.scores, found))
        largest = self._only_largest(at.node("Reshape", kept, at.integers([-1, values])), keep)
        largest = at.node("Reshape", largest, at.integers([-1, len(self.labels), self.priors]))
        stays = at.node("Greater", at.node("GatherND", largest, found), at.constant(_LOWEST))
        return at.node("Compress", found, stays, axis=0)

    def rows(self, found: str) -> str:
        """(K, 7) image, label, score, box."""
        at = self.at
        image, label, prior = at.graph.nodes_of("Split", [found, at.integers([1, 1, 1])], 3, axis=1)
        score = at.node("Unsqueeze", at.node("GatherND", self.scores, found), at.integers([1]))
        place = at.node("Concat", image, prior, axis=1) if at.layer.places == 1 else found
        box = at.node("GatherND", self.boxes, place)
        if at.layer.how.clip:
            box = at.node("Clip", box, at.constant(0.0), at.constant(1.0))
        label = at.node("Gather", at.integers(self.labels), label)
        return at.node("Concat", *(at.node("Cast", number, to=_FLOAT) for number in (image, label)), score, box, axis=1)


def _or_nothing_found(at: Here, rows: str) -> str:
    """The rows, or where there are none: one of -1; in the ssd branch one per image, which begins with its number."""
    count = at.node("Shape", rows, start=0, end=1)
    none = at.node("Cast", at.node("Equal", count, at.integers([0])), to=_INT64)
    if not at.layer.is_ssd:
        empty = at.node("Expand", at.constant([[-1.0] * 7]), at.node("Concat", none, at.integers([7]), axis=0))
    else:
        images = at.node("Mul", at.node("Shape", at.x[0], start=0, end=1), none)
        number = at.node("Range", at.integers(0), at.node("Squeeze", images), at.integers(1))
        number = at.node("Unsqueeze", at.node("Cast", number, to=_FLOAT), at.integers([1]))
        rest = at.node("Expand", at.constant([[-1.0] * 6]), at.node("Concat", images, at.integers([6]), axis=0))
        empty = at.node("Concat", number, rest, axis=1)
    return at.node("Concat", rows, empty, axis=0)


_INT64 = 7  # TensorProto.INT64
