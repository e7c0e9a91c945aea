"""SSD's priors and detections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import FLT_MAX
from rmpe_legacy.caffe.layers.detection_output_extended import ROW
from rmpe_legacy.caffe.layers.prior_box import PriorBox

from ..onnx_graph import DOUBLE, FLOAT, INT64
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number

_LOWEST = -float("inf")
_ETA = ("nms_param { eta } below 1; ONNX's NonMaxSuppression has one threshold. Convert up to the predictions, with "
        "--until")


@emits_onnx("PriorBox", "PriorBox=denser", "PriorBox=sstd", "PriorBox=synopsys", "PriorBoxClustered")
def prior_box_onnx(ctx: OnnxContext) -> None:
    """The boxes depend only on the sizes of the bottoms, so they are a constant if these are."""
    if ctx.has_symbols(tuple(size for shape in ctx.bottom_shapes for size in shape[2:])):
        _prior_box_any_size(ctx)
        return
    boxes = ctx.layer.forward(torch.empty(0)).numpy()
    ctx.output("Identity", ctx.graph.parameter(f"{ctx.layer.spec.name}.boxes", boxes))


def _prior_box_any_size(ctx: OnnxContext) -> None:
    """Compute the boxes from the bottoms' sizes, in the layer's precisions: see ``layers.prior_box``."""
    layer = ctx.layer
    if type(layer) is not PriorBox or layer.denser or len(layer.box_sizes()) != layer.per_cell:
        raise ctx.graph.graph.refuse_dynamic(layer, "its kind of boxes is written for fixed sizes only")
    if layer.image is None:
        pixels = ctx.node("Cast", ctx.sizes_of(ctx.x[1], 2), to=FLOAT)
    else:
        pixels = ctx.constant(layer.image)
    centres = []  # of the columns (1, W, 1, 1), then of the rows (H, 1, 1, 1), double
    for axis, shape in ((1, [1, -1, 1, 1]), (0, [-1, 1, 1, 1])):
        count = ctx.sizes_of(ctx.x[0], 2 + axis, 3 + axis)
        cells = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", count), ctx.integers(1))
        at = ctx.node("Mul", *_cell_centres(ctx, cells, axis, count, pixels))
        centres.append(_double(ctx, ctx.node("Reshape", at if layer.is_ssd else ctx.node("Cast", at, to=FLOAT),
                                             ctx.integers(shape))))
    half = layer.box_sizes().double().numpy() / 2
    one = [ctx.graph.constant(values, np.float64) for values in ([1, 0, 1, 0], [0, 1, 0, 1])]
    corners = ctx.node("Add", *(ctx.node("Mul", *pair) for pair in zip(centres, one, strict=True)))
    corners = ctx.node("Add", corners, ctx.graph.constant(np.concatenate([-half, half], 1), np.float64))
    extent = ctx.node("Gather", _double(ctx, pixels), ctx.integers([1, 0, 1, 0]))
    boxes = ctx.node("Cast", ctx.node("Div", corners, extent), to=FLOAT)
    if layer.clip:
        boxes = ctx.node("Clip", boxes, ctx.constant(0.0), ctx.constant(1.0))
    variance = ctx.node("Expand", ctx.constant(layer.variance), ctx.node("Shape", boxes))
    ctx.output("Concat", *(ctx.node("Reshape", part, ctx.integers([1, 1, -1])) for part in (boxes, variance)), axis=1)


def _cell_centres(ctx: OnnxContext, cells: str, axis: int, count: str, pixels: str) -> tuple[str, str]:
    """Return two factors: the centres of cells in units of a cell, and a cell's extent in pixels."""
    layer = ctx.layer
    if layer.step is not None:
        step = ctx.constant(layer.step[axis])
    else:
        step = ctx.node("Div", ctx.node("Gather", pixels, ctx.integers([axis])), ctx.node("Cast", count, to=FLOAT))
    if layer.is_ssd:
        offset = ctx.constant(layer.spec.get("prior_box_param").offset)
        return ctx.node("Add", ctx.node("Cast", cells, to=FLOAT), offset), step
    return ctx.node("Add", _double(ctx, cells), ctx.graph.constant(0.5, np.float64)), _double(ctx, step)


def _double(ctx: OnnxContext, x: str) -> str:
    return ctx.node("Cast", x, to=DOUBLE)


@emits_python("PriorBox", "PriorBox=denser", "PriorBox=sstd", "PriorBox=synopsys", "PriorBoxClustered")
def prior_box_python(ctx: PythonContext) -> str:
    return ctx.writer.buffer(ctx.layer, ctx.layer.forward(torch.empty(0)))


@emits_onnx("DetectionOutput", "DetectionOutput=refinedet")
def detection_output_onnx(ctx: OnnxContext) -> None:
    """Decode, take the top_k of each class, suppress, take the keep_top_k of each image: (1, 1, K, 7)."""
    layer = ctx.layer
    if layer.files is not None:
        raise ctx.refuse("save_output_param writes files; remove it")
    if layer.how.eta != 1:
        raise ctx.refuse(_ETA)
    if layer.places != 1 and layer.places != layer.classes:
        raise ctx.refuse("predictions that are neither shared between the classes nor given for each class")
    chosen = _Detections(ctx)
    ctx.graph.shapes[ctx.y[0]] = (1, 1, "detections", 7)
    rows = chosen.rows(chosen.best(chosen.survivors()))
    ctx.graph.node("Reshape", [or_nothing_found(ctx, rows, layer.is_ssd), ctx.integers([1, 1, -1, 7])], ctx.y)


class _Detections:
    """The candidates: scores (N, F, P) of the F foreground classes, boxes (N, P, 4) or (N, F, P, 4)."""

    def __init__(self, ctx: OnnxContext):
        self.ctx, layer = ctx, ctx.layer
        self.any_size = ctx.has_symbols(ctx.bottom_shapes[2])
        self.shared = layer.places == 1
        self.labels = [c for c in range(layer.classes) if c != layer.how.background]
        conf = ctx.node("Reshape", ctx.x[1], ctx.integers([0, -1, layer.classes]))
        if len(ctx.x) > 3:
            conf = self._of_objects(conf)
        labels = ctx.integers(self.labels)
        scores = ctx.node("Gather", ctx.node("Transpose", conf, perm=[0, 2, 1]), labels, axis=1)
        self._expanded = ""
        self.scores = self._only_largest(scores, layer.how.top_k, 2)
        boxes = self._decoded()
        if not self.shared:
            boxes = ctx.node("Transpose", ctx.node("Gather", boxes, labels, axis=2), perm=[0, 2, 1, 3])
        self.boxes = boxes

    def _of_objects(self, conf: str) -> str:
        """Let priors be background where RefineDet's first stage has too little confidence in an object."""
        ctx, layer = self.ctx, self.ctx.layer
        first = ctx.node("Reshape", ctx.x[3], ctx.integers([0, -1, 2]))
        unlikely = ctx.node("Less", ctx.node("Slice", first, *map(ctx.integers, ([1], [2], [2]))),
                            ctx.constant(layer.least))
        return ctx.node("Where", unlikely, ctx.constant([1.0] + [0.0] * (layer.classes - 1)), conf)

    def _decoded(self) -> str:
        """Return the decoded boxes, (N, P, 4) or (N, P, classes, 4)."""
        ctx = self.ctx
        between = [] if self.shared else [1]
        prior = ctx.node("Reshape", ctx.x[2], ctx.integers([2, -1, *between, 4]))
        box, variance = (ctx.node("Gather", prior, ctx.integers(i), axis=0) for i in range(2))
        if len(ctx.x) > 4:  # RefineDet's first stage moves the priors
            box = self._moved(ctx.x[4], box, variance)
        return self._moved(ctx.x[0], box, variance)

    def _moved(self, offset: str, box: str, variance: str) -> str:
        """Return boxes moved by predictions. See `decode` in csrc/boxes.h."""
        ctx, layer = self.ctx, self.ctx.layer
        classes = [] if self.shared else [layer.places]
        offset = ctx.node("Reshape", offset, ctx.integers([0, -1, *classes, 4]))
        if not layer.how.in_target:
            offset = ctx.node("Mul", variance, offset)
        halves = ctx.integers([2, 2])
        if layer.how.code == "CORNER":
            return ctx.node("Add", box, offset)
        low, high = ctx.graph.nodes_of("Split", [box, halves], 2, axis=-1)
        size = ctx.node("Sub", high, low)
        if layer.how.code == "CORNER_SIZE":
            return ctx.node("Add", box, ctx.node("Mul", offset, ctx.node("Concat", size, size, axis=-1)))
        move, stretch = ctx.graph.nodes_of("Split", [offset, halves], 2, axis=-1)
        two = ctx.constant(2.0)
        middle = ctx.node("Add", ctx.node("Mul", move, size), ctx.node("Div", ctx.node("Add", low, high), two))
        half = ctx.node("Mul", ctx.node("Exp", stretch), ctx.node("Div", size, two))
        return ctx.node("Concat", ctx.node("Sub", middle, half), ctx.node("Add", middle, half), axis=-1)

    def _only_largest(self, scores: str, count: int, axis: int) -> str:
        """Keep the `count` largest scores along the axes from `axis` on and set the others to -inf.

        Of equal scores the first are kept. A negative count keeps all.
        """
        ctx, classes = self.ctx, len(self.labels)
        if self._keeps_all(count, axis):
            return scores
        lowest = self._lowest(scores)
        is_flat = axis == 2 or classes == 1
        if not is_flat:
            scores, lowest = (ctx.node("Reshape", x, ctx.integers([0, -1])) for x in (scores, lowest))
        most = ctx.integers([count])
        if self.any_size:
            most = ctx.node("Min", most, ctx.sizes_of(scores, -1))
        largest = ctx.node("ScatterElements", lowest, *reversed(ctx.graph.nodes_of("TopK", [scores, most], 2, axis=-1)),
                           axis=-1)
        return largest if is_flat else ctx.node("Reshape", largest, ctx.integers([0, classes, -1]))

    def _keeps_all(self, count: int, axis: int) -> bool:
        """Whether `count` scores are all that there are along the axes from `axis` on."""
        values = self.ctx.layer.priors * (len(self.labels) if axis == 1 else 1)
        return count < 0 or (not self.any_size and count >= values)

    def _lowest(self, scores: str) -> str:
        """Return -inf in the shape of the scores."""
        if not self._expanded:
            self._expanded = self.ctx.node("Expand", self.ctx.constant(_LOWEST), self.ctx.node("Shape", scores))
        return self._expanded

    def survivors(self) -> str:
        """Return (K, 3) image, class, prior after suppression, sorted by image and class, best first."""
        ctx, how = self.ctx, self.ctx.layer.how
        boxes, scores = self.boxes, self.scores
        count = ctx.sizes_of(scores, 2) if self.any_size else ctx.integers([ctx.layer.priors])
        if not self.shared:  # treat each class with its own boxes as an image
            boxes, scores = (ctx.node("Reshape", x, ctx.node("Concat", *parts, axis=0)) for x, parts in (
                (boxes, (ctx.integers([-1]), count, ctx.integers([4]))), (scores, (ctx.integers([-1, 1]), count))))
        limits = [ctx.constant([min(how.nms_threshold, 1.0)]), ctx.constant([max(how.confidence_threshold, -FLT_MAX)])]
        found = ctx.node("NonMaxSuppression", boxes, scores, count, *limits)
        if self.shared:
            return found
        image, _, prior = ctx.graph.nodes_of("Split", [found, ctx.integers([1, 1, 1])], 3, axis=1)
        classes = ctx.integers(len(self.labels))
        return ctx.node("Concat", ctx.node("Div", image, classes), ctx.node("Mod", image, classes), prior, axis=1)

    def best(self, found: str) -> str:
        """Return the rows of `found` that are among the keep_top_k best of their image."""
        ctx, keep = self.ctx, self.ctx.layer.how.keep_top_k
        if self._keeps_all(keep, 1):
            return found
        kept = ctx.node("ScatterND", self._lowest(self.scores), found, ctx.node("GatherND", self.scores, found))
        largest = self._only_largest(kept, keep, 1)
        stays = ctx.node("Greater", ctx.node("GatherND", largest, found), ctx.constant(_LOWEST))
        return ctx.node("Compress", found, stays, axis=0)

    def rows(self, found: str) -> str:
        """Return (K, 7) image, label, score, box."""
        ctx = self.ctx
        image, label, prior = ctx.graph.nodes_of("Split", [found, ctx.integers([1, 1, 1])], 3, axis=1)
        score = ctx.node("Unsqueeze", ctx.node("GatherND", self.scores, found), ctx.integers([1]))
        place = ctx.node("Concat", image, prior, axis=1) if self.shared else found
        box = ctx.node("GatherND", self.boxes, place)
        if ctx.layer.how.clip:
            box = ctx.node("Clip", box, ctx.constant(0.0), ctx.constant(1.0))
        label = ctx.node("Gather", ctx.integers(self.labels), label)
        numbers = ctx.node("Cast", ctx.node("Concat", image, label, axis=1), to=FLOAT)
        return ctx.node("Concat", numbers, score, box, axis=1)


@emits_onnx("DetectionOutput=textboxes")
def text_detection_output_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.how.eta != 1:
        raise ctx.refuse(_ETA)
    moves = ctx.node("Reshape", ctx.x[0], ctx.integers([0, -1, layer.places, layer.values]))
    box, corners = ctx.graph.nodes_of("Split", [moves, ctx.integers([4, layer.values - 4])], 2, axis=3)
    chosen = _Detections(replace(ctx, x=(ctx.node("Reshape", box, ctx.integers([0, -1])), *ctx.x[1:3])))
    found = chosen.best(chosen.survivors())
    image, label, prior = ctx.graph.nodes_of("Split", [found, ctx.integers([1, 1, 1])], 3, axis=1)
    place = ctx.node("Mul", label, ctx.integers(0)) if chosen.shared else \
        ctx.node("Gather", ctx.integers(chosen.labels), label)
    index = ctx.node("Concat", image, prior, place, axis=1)
    shapes = ctx.node("GatherND", _text_shapes(ctx, corners), index)
    rows = ctx.node("Concat", chosen.rows(found), shapes, axis=1)
    ctx.graph.shapes[ctx.y[0]] = (1, 1, "detections", layer.columns)
    ctx.graph.node("Reshape", [or_nothing_found(ctx, rows, layer.is_ssd, layer.columns),
                               ctx.integers([1, 1, -1, layer.columns])], ctx.y)


@emits_onnx("DetectionOutputExtended")
def detection_with_origin_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.how.eta != 1:
        raise ctx.refuse(_ETA)
    ctx.size()  # refuses sizes that are not fixed
    chosen = _Detections(ctx)
    found = chosen.best(chosen.survivors())
    prior = ctx.node("Gather", found, ctx.integers(2), axis=1)
    origin = ctx.node("Gather", ctx.constant(_origins(ctx)), prior, axis=0)
    rows = ctx.node("Concat", chosen.rows(found), origin, axis=1)
    ctx.graph.shapes[ctx.y[0]] = (1, 1, "detections", ROW)
    ctx.graph.node("Reshape", [or_nothing_found(ctx, rows, True, ROW), ctx.integers([1, 1, -1, ROW])], ctx.y)


def _origins(ctx: EmitContext) -> np.ndarray:
    return ctx.layer.origins((0, *map(int, ctx.bottom_shapes[0][1:])))


def _text_shapes(ctx: OnnxContext, moves: str) -> str:
    """Return the quadrangles or rectangles that predictions (N, P, places, 8 or 5) make of the priors."""
    prior = ctx.node("Reshape", ctx.x[2], ctx.integers([2, -1, 1, 4]))
    box, variance = (ctx.node("Gather", prior, ctx.integers(i), axis=0) for i in range(2))
    low, high = ctx.graph.nodes_of("Split", [box, ctx.integers([2, 2])], 2, axis=2)
    size = ctx.node("Sub", high, low)

    def part(x: str, *columns: int) -> str:
        return ctx.node("Gather", x, ctx.integers(columns), axis=-1)

    if ctx.layer.corners:
        scaled = ctx.node("Mul", ctx.node("Mul", part(variance, *[0, 1] * 4), moves), part(size, *[0, 1] * 4))
        return ctx.node("Add", scaled, part(box, 0, 1, 2, 1, 2, 3, 0, 3))
    middle = ctx.node("Div", ctx.node("Add", low, high), ctx.constant(2.0))
    ends, height = ctx.graph.nodes_of("Split", [moves, ctx.integers([4, 1])], 2, axis=3)
    scaled = ctx.node("Mul", ctx.node("Mul", part(variance, 0, 1, 0, 1), ends), part(size, 0, 1, 0, 1))
    stretched = ctx.node("Mul", ctx.node("Exp", ctx.node("Mul", part(variance, 3), height)), part(size, 1))
    return ctx.node("Concat", ctx.node("Add", scaled, part(middle, 0, 1, 0, 1)), stretched, axis=3)


def or_nothing_found(ctx: OnnxContext, rows: str, numbered: bool, columns: int = 7) -> str:
    """Return the rows; if there are none, one row of -1, or if numbered one per image with its index first."""
    count = ctx.node("Shape", rows, start=0, end=1)
    if not numbered:  # add the row, and cut it off again unless it is the only one
        rows = ctx.node("Concat", rows, ctx.constant([[-1.0] * columns]), axis=0)
        return ctx.node("Slice", rows, ctx.integers([0]), ctx.node("Max", count, ctx.integers([1])), ctx.integers([0]))
    none = ctx.node("Cast", ctx.node("Equal", count, ctx.integers([0])), to=INT64)
    images = ctx.node("Mul", ctx.node("Shape", ctx.x[0], start=0, end=1), none)
    number = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", images), ctx.integers(1))
    number = ctx.node("Unsqueeze", ctx.node("Cast", number, to=FLOAT), ctx.integers([1]))
    rest = ctx.node("Expand", ctx.constant([[-1.0] * (columns - 1)]),
                    ctx.node("Concat", images, ctx.integers([columns - 1]), axis=0))
    return ctx.node("Concat", rows, ctx.node("Concat", number, rest, axis=1), axis=0)


@emits_onnx("DetectionOutput=synopsys")
def detection_of_maps_onnx(ctx: OnnxContext) -> None:
    """Join the maps as SSD's networks do, then detect."""
    layer, n = ctx.layer, ctx.layer.maps
    ctx.shape(2 * n)  # refuses sizes that are not fixed
    conf, loc, prior = ctx.x[:n], ctx.x[n : 2 * n], ctx.x[2 * n :]
    if layer.in_maps:
        each = [ctx.node("Reshape", x, ctx.integers([0, layer.classes, -1])) for x in conf]
        score = ctx.node("Flatten", ctx.node("Transpose", ctx.node("Concat", *each, axis=2), perm=[0, 2, 1]))
        each = []
        for x, anchors in zip(loc, layer.anchors, strict=True):
            parts = ctx.node("Reshape", x, ctx.integers([0, anchors, 4, -1]))
            each.append(ctx.node("Flatten", ctx.node("Transpose", parts, perm=[0, 1, 3, 2])))
        moves = ctx.node("Concat", *each, axis=1)
        boxes = ctx.node("Gather", ctx.node("Reshape", prior[0], ctx.integers([1, 2, -1, 4])),
                         ctx.integers(layer.order().numpy()), axis=2)
        boxes = ctx.node("Reshape", boxes, ctx.integers([1, 2, -1]))
    else:
        score, moves = (ctx.node("Concat", *(ctx.node("Flatten", x) for x in xs), axis=1) for xs in (conf, loc))
        boxes = ctx.node("Concat", *prior, axis=2)
    rows = ctx.bottom_shapes[0][0]
    shapes = tuple((rows, layer.priors * values) for values in (4 * layer.places, layer.classes))
    detection_output_onnx(replace(ctx, x=(moves, score, boxes), bottom_shapes=(*shapes, (1, 2, layer.priors * 4))))


@emits_python("DetectionOutput=synopsys")
def detection_of_maps_python(ctx: PythonContext) -> str:
    layer, n = ctx.layer, ctx.layer.maps
    if not layer.in_maps:
        raise ctx.refuse("its maps are given one by one without no_permute; write it as ONNX")
    conf, loc = (f"[{', '.join(xs)}]" for xs in (ctx.x[:n], ctx.x[n : 2 * n]))
    order = ctx.writer.buffer(layer, layer.order())
    box, variance = (f"{ctx.x[-1]}[0, {i}].reshape(-1, 4)[{order}]" for i in range(2))
    if layer.how.in_target:
        variance = f"torch.ones_like({box})"
    return _detections_python(ctx, ctx.call("moves_of_maps", loc), ctx.call("scores_of_maps", conf), box,
                              variance)


@emits_python("DetectionOutput", "DetectionOutput=refinedet")
def detection_output_python(ctx: PythonContext) -> str:
    layer, how = ctx.layer, ctx.layer.how
    loc, conf, prior = (ctx.x[i] for i in range(3))
    offset = f"{loc}.reshape(len({loc}), {layer.priors}, {layer.places}, 4)"
    variance = f"torch.ones_like({prior}[0, 0]).reshape(-1, 4)" if how.in_target else f"{prior}[0, 1].reshape(-1, 4)"
    box = f"{prior}[0, 0].reshape(-1, 4)"
    scores = f"{conf}.reshape(len({conf}), {layer.priors}, {layer.classes})"
    if len(ctx.x) > 3:
        scores = ctx.call("of_objects", scores, f"{ctx.x[3]}.reshape(len({conf}), {layer.priors}, 2)",
                          number(layer.least))
    if len(ctx.x) > 4:
        first = f"{ctx.x[4]}.reshape(len({conf}), {layer.priors}, 4)"
        box = ctx.call("decode_boxes", first, box, variance, f'"{how.code}"')
    return _detections_python(ctx, offset, scores, box, variance)


@emits_python("DetectionOutput=textboxes")
def text_detection_output_python(ctx: PythonContext) -> str:
    layer, (loc, conf, prior) = ctx.layer, ctx.x[:3]
    moves = f"{loc}.reshape(len({loc}), {layer.priors}, {layer.places}, {layer.values})"
    box, variance = (f"{prior}[0, {i}].reshape(-1, 4)" for i in range(2))
    scores = f"{conf}.reshape(len({conf}), {layer.priors}, {layer.classes})"
    shapes = ctx.call("text_shapes", f"{moves}[..., 4:]", box, variance)
    return _detections_python(ctx, f"{moves}[..., :4]", scores, box, variance, shapes)


@emits_python("DetectionOutputExtended")
def detection_with_origin_python(ctx: PythonContext) -> str:
    layer, (loc, conf, prior) = ctx.layer, ctx.x
    ctx.plane()
    origin = ctx.writer.buffer(layer, torch.from_numpy(_origins(ctx)[:, None]).float())
    variance = f"torch.ones_like({prior}[0, 0])" if layer.how.in_target else f"{prior}[0, 1]"
    return _detections_python(
        ctx, f"{loc}.reshape(len({loc}), {layer.priors}, 1, 4)", f"{conf}.reshape(len({conf}), {layer.priors}, 2)",
        f"{prior}[0, 0].reshape(-1, 4)", f"{variance}.reshape(-1, 4)", f"{origin}.expand(len({loc}), -1, -1, -1)")


def _detections_python(ctx: PythonContext, offset: str, scores: str, box: str, variance: str, shapes: str = "") -> str:
    """The rows of moves (N, P, places, 4) and scores (N, P, classes), for P boxes and variances.

    shapes: Further values of each box, (N, P, places, K).
    """
    layer, how = ctx.layer, ctx.layer.how
    if layer.files is not None:
        raise ctx.refuse("save_output_param writes files; remove it")
    boxes = ctx.call("decode_boxes", offset, box, variance, f'"{how.code}"')
    boxes = f"torch.cat([{boxes}, {shapes}], -1)" if shapes else boxes
    above = number(how.confidence_threshold) if how.confidence_threshold > np.finfo(np.float32).min \
        else 'float("-inf")'
    return ctx.call("detections", arguments(
        boxes, scores, f"background={how.background}", f"above={above}", f"threshold={number(how.nms_threshold)}",
        eta=(number(how.eta), "1"), top_k=(str(how.top_k), "-1"), keep_top_k=(str(how.keep_top_k), "-1"),
        clip=(str(how.clip), "True"), number_images=(str(layer.is_ssd), "False")))
