"""SSD's priors and detections."""

from __future__ import annotations

import numpy as np
import torch

from ..onnx_graph import FLOAT, FLT_MAX, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number

_LOWEST = -float("inf")


@emits_onnx("PriorBox")
def prior_box_onnx(ctx: OnnxContext) -> None:
    """The boxes depend only on the sizes of the bottoms, so they are a constant."""
    boxes = ctx.layer.forward(torch.empty(0)).numpy()
    ctx.output("Identity", ctx.graph.parameter(f"{ctx.layer.spec.name}.boxes", boxes))


@emits_python("PriorBox")
def prior_box_python(ctx: PythonContext) -> str:
    return ctx.writer.buffer(ctx.layer, ctx.layer.forward(torch.empty(0)))


@emits_onnx("DetectionOutput")
def detection_output_onnx(ctx: OnnxContext) -> None:
    """Decode, take the top_k of each class, suppress, take the keep_top_k of each image: (1, 1, K, 7)."""
    layer = ctx.layer
    if layer.files is not None:
        raise ctx.refuse("save_output_param writes files; remove it")
    if layer.how.eta != 1:
        raise ctx.refuse("nms_param { eta } below 1; ONNX's NonMaxSuppression has one threshold. Convert up to the "
                         "predictions, with --until")
    if layer.places != 1 and layer.places != layer.classes:
        raise ctx.refuse("predictions that are neither shared nor for each class")
    chosen = _Detections(ctx)
    ctx.graph.shapes[ctx.y[0]] = (1, 1, "detections", 7)
    rows = chosen.rows(chosen.best(chosen.survivors()))
    ctx.graph.node("Reshape", [or_nothing_found(ctx, rows, layer.is_ssd), ctx.integers([1, 1, -1, 7])], ctx.y)


class _Detections:
    """The candidates: scores (N, F, P) of the F foreground classes, boxes (N, P, 4) or (N, F, P, 4)."""

    def __init__(self, ctx: OnnxContext):
        self.ctx, layer = ctx, ctx.layer
        self.priors, self.labels = layer.priors, [c for c in range(layer.classes) if c != layer.how.background]
        conf = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, self.priors, layer.classes]))
        labels = ctx.integers(self.labels)
        self.scores = self._top(ctx.node("Gather", ctx.node("Transpose", conf, perm=[0, 2, 1]), labels, axis=1))
        boxes = self._decoded()
        if layer.places == 1:
            self.boxes = ctx.node("Squeeze", boxes, ctx.integers([2]))
        else:
            self.boxes = ctx.node("Transpose", ctx.node("Gather", boxes, labels, axis=2), perm=[0, 2, 1, 3])

    def _decoded(self) -> str:
        """Return the decoded boxes, (N, P, 1 or classes, 4). See `decode` in csrc/boxes.h."""
        ctx, layer = self.ctx, self.ctx.layer
        prior = ctx.node("Reshape", ctx.x[2], ctx.integers([2, self.priors, 1, 4]))
        box, variance = (ctx.node("Gather", prior, ctx.integers(i), axis=0) for i in range(2))
        offset = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, self.priors, layer.places, 4]))
        if not layer.how.in_target:
            offset = ctx.node("Mul", variance, offset)
        halves = ctx.integers([2, 2])
        low, high = ctx.graph.nodes_of("Split", [box, halves], 2, axis=-1)
        size = ctx.node("Sub", high, low)
        if layer.how.code == "CORNER":
            return ctx.node("Add", box, offset)
        if layer.how.code == "CORNER_SIZE":
            return ctx.node("Add", box, ctx.node("Mul", offset, ctx.node("Concat", size, size, axis=-1)))
        move, stretch = ctx.graph.nodes_of("Split", [offset, halves], 2, axis=-1)
        two = ctx.constant(2.0)
        middle = ctx.node("Add", ctx.node("Mul", move, size), ctx.node("Div", ctx.node("Add", low, high), two))
        half = ctx.node("Div", ctx.node("Mul", ctx.node("Exp", stretch), size), two)
        return ctx.node("Concat", ctx.node("Sub", middle, half), ctx.node("Add", middle, half), axis=-1)

    def _top(self, scores: str) -> str:
        """Keep the top_k scores of each class."""
        top_k = self.ctx.layer.how.top_k
        return scores if top_k < 0 or top_k >= self.priors else self._only_largest(scores, top_k)

    def _only_largest(self, scores: str, count: int) -> str:
        """Keep the `count` largest values along the last axis and set the others to -inf; ties keep the first."""
        ctx = self.ctx
        _, places = ctx.graph.nodes_of("TopK", [scores, ctx.integers([count])], 2, axis=-1)
        lowest = ctx.node("Expand", ctx.constant(_LOWEST), ctx.node("Shape", scores))
        return ctx.node("ScatterElements", lowest, places, ctx.node("GatherElements", scores, places, axis=-1), axis=-1)

    def survivors(self) -> str:
        """Return (K, 3) image, class, prior after suppression, sorted by image and class, best first."""
        ctx, how = self.ctx, self.ctx.layer.how
        boxes, scores = self.boxes, self.scores
        shared = ctx.layer.places == 1
        if not shared:  # treat each class with its own boxes as an image
            boxes = ctx.node("Reshape", boxes, ctx.integers([-1, self.priors, 4]))
            scores = ctx.node("Reshape", scores, ctx.integers([-1, 1, self.priors]))
        limits = [ctx.constant([min(how.nms_threshold, 1.0)]), ctx.constant([max(how.confidence_threshold, -FLT_MAX)])]
        found = ctx.node("NonMaxSuppression", boxes, scores, ctx.integers([self.priors]), *limits)
        if shared:
            return found
        image, _, prior = ctx.graph.nodes_of("Split", [found, ctx.integers([1, 1, 1])], 3, axis=1)
        count = ctx.integers(len(self.labels))
        return ctx.node("Concat", ctx.node("Div", image, count), ctx.node("Mod", image, count), prior, axis=1)

    def best(self, found: str) -> str:
        """Return the rows of `found` that are among the keep_top_k best of their image."""
        ctx, keep = self.ctx, self.ctx.layer.how.keep_top_k
        values = len(self.labels) * self.priors
        if keep < 0 or keep >= values:
            return found
        lowest = ctx.node("Expand", ctx.constant(_LOWEST), ctx.node("Shape", self.scores))
        kept = ctx.node("ScatterND", lowest, found, ctx.node("GatherND", self.scores, found))
        largest = self._only_largest(ctx.node("Reshape", kept, ctx.integers([-1, values])), keep)
        largest = ctx.node("Reshape", largest, ctx.integers([-1, len(self.labels), self.priors]))
        stays = ctx.node("Greater", ctx.node("GatherND", largest, found), ctx.constant(_LOWEST))
        return ctx.node("Compress", found, stays, axis=0)

    def rows(self, found: str) -> str:
        """Return (K, 7) image, label, score, box."""
        ctx = self.ctx
        image, label, prior = ctx.graph.nodes_of("Split", [found, ctx.integers([1, 1, 1])], 3, axis=1)
        score = ctx.node("Unsqueeze", ctx.node("GatherND", self.scores, found), ctx.integers([1]))
        place = ctx.node("Concat", image, prior, axis=1) if ctx.layer.places == 1 else found
        box = ctx.node("GatherND", self.boxes, place)
        if ctx.layer.how.clip:
            box = ctx.node("Clip", box, ctx.constant(0.0), ctx.constant(1.0))
        label = ctx.node("Gather", ctx.integers(self.labels), label)
        numbers = [ctx.node("Cast", number, to=FLOAT) for number in (image, label)]
        return ctx.node("Concat", *numbers, score, box, axis=1)


def or_nothing_found(ctx: OnnxContext, rows: str, numbered: bool) -> str:
    """Return the rows; if there are none, one row of -1, or if numbered one per image with its index first."""
    count = ctx.node("Shape", rows, start=0, end=1)
    none = ctx.node("Cast", ctx.node("Equal", count, ctx.integers([0])), to=INT64)
    if not numbered:
        empty = ctx.node("Expand", ctx.constant([[-1.0] * 7]), ctx.node("Concat", none, ctx.integers([7]), axis=0))
    else:
        images = ctx.node("Mul", ctx.node("Shape", ctx.x[0], start=0, end=1), none)
        number = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", images), ctx.integers(1))
        number = ctx.node("Unsqueeze", ctx.node("Cast", number, to=FLOAT), ctx.integers([1]))
        rest = ctx.node("Expand", ctx.constant([[-1.0] * 6]), ctx.node("Concat", images, ctx.integers([6]), axis=0))
        empty = ctx.node("Concat", number, rest, axis=1)
    return ctx.node("Concat", rows, empty, axis=0)


@emits_python("DetectionOutput")
def detection_output_python(ctx: PythonContext) -> str:
    layer, how = ctx.layer, ctx.layer.how
    if layer.files is not None:
        raise ctx.refuse("save_output_param writes files; remove it")
    loc, conf, prior = (ctx.x[i] for i in range(3))
    offset = f"{loc}.reshape(len({loc}), {layer.priors}, {layer.places}, 4)"
    variance = f"torch.ones_like({prior}[0, 0]).reshape(-1, 4)" if how.in_target else f"{prior}[0, 1].reshape(-1, 4)"
    boxes = ctx.call("decode_boxes", offset, f"{prior}[0, 0].reshape(-1, 4)", variance, f'"{how.code}"')
    scores = f"{conf}.reshape(len({conf}), {layer.priors}, {layer.classes})"
    above = number(how.confidence_threshold) if how.confidence_threshold > np.finfo(np.float32).min \
        else 'float("-inf")'
    return ctx.call("detections", arguments(
        boxes, scores, f"background={how.background}", f"above={above}", f"threshold={number(how.nms_threshold)}",
        eta=(number(how.eta), "1"), top_k=(str(how.top_k), "-1"), keep_top_k=(str(how.keep_top_k), "-1"),
        clip=(str(how.clip), "True"), number_images=(str(layer.is_ssd), "False")))
