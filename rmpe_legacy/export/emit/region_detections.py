"""What detectors find: Faster R-CNN's and YOLO's last layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..onnx_graph import BOOL, FLOAT, INT64
from .activation import accurate_sigmoid_onnx
from .boxes import last_places, low_high_size, moved, only, split, suppressed, table, unsqueezed
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .detection import or_nothing_found
from .expressions import arguments, number, numbers

_END = (1 << 63) - 1


@emits_onnx("FrcnnOutput")
def frcnn_output_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.param
    if param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {param.nms_type}; ONNX's NonMaxSuppression has IOU")
    classes = ctx.size()[0]
    scores = split(ctx, table(ctx, 0, classes), 1, classes - 1)[1]
    regions = ctx.node("Slice", ctx.node("Flatten", ctx.x[2]), *map(ctx.integers, ([1], [5], [1])))
    low, _, size = low_high_size(ctx, regions)
    moves = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, classes if layer.aware else 2, 4]))
    boxes = moved(ctx, moves, unsqueezed(ctx, low, 1), unsqueezed(ctx, size, 1), layer.mean.tolist(),
                   layer.std.tolist())
    corner, end = split(ctx, boxes, 2, 2)
    limit = ctx.node("Gather", ctx.node("Reshape", ctx.x[3], ctx.integers([-1])), ctx.integers([1, 0]))
    boxes = ctx.node("Concat", ctx.node("Max", corner, ctx.constant(0.0)), ctx.node("Min", end, limit), axis=-1)
    boxes = ctx.node("Transpose", boxes, perm=[1, 0, 2])
    boxes = ctx.node("Slice", boxes, *map(ctx.integers, ([1], [_END], [0])))  # (classes - 1, R, 4), or (1, R, 4)
    scores = only(ctx, ctx.node("GreaterOrEqual", scores, ctx.constant(param.conf_thr)), scores)
    scores = ctx.node("Transpose", scores, perm=[1, 0])
    most = ctx.node("Shape", ctx.x[0], start=0, end=1)
    found = suppressed(ctx, boxes, unsqueezed(ctx, scores, 1 if layer.aware else 0), most, param.iou_thr)
    image, label, place = split(ctx, found, 1, 1, 1)
    label, box = (image, ctx.node("Concat", image, place, axis=1)) if layer.aware else (
        label, ctx.node("Concat", image, place, axis=1))
    score = ctx.node("GatherND", scores, ctx.node("Concat", label, place, axis=1))
    rows = ctx.node("Concat", ctx.node("GatherND", boxes, box),
                    ctx.node("Cast", ctx.node("Add", label, ctx.integers(1)), to=FLOAT), unsqueezed(ctx, score, 1),
                    axis=1)
    if param.max_det_num:
        count = ctx.node("Min", ctx.node("Shape", rows, start=0, end=1), ctx.integers([param.max_det_num]))
        best = ctx.graph.nodes_of("TopK", [score, count], 2, axis=0)[1]
        rows = ctx.node("Gather", rows, ctx.graph.nodes_of("TopK", [best, count], 2, axis=0, largest=0)[0], axis=0)
    rows = ctx.node("Concat", ctx.constant([[0.0, *[-1.0] * 6]]), ctx.node("Pad", rows, ctx.integers([0, 1, 0, 0])),
                    axis=0)
    ctx.output("Unsqueeze", rows, ctx.integers([2, 3]))


@emits_python("FrcnnOutput")
def frcnn_output_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.param
    if param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {param.nms_type}; use IOU")
    return ctx.call("class_detections", arguments(
        *ctx.x, f"by_class={layer.aware}", f"mean={numbers(layer.mean)}", f"std={numbers(layer.std)}",
        f"above={number(param.conf_thr)}", f"threshold={number(param.iou_thr)}", f"most={param.max_det_num}"))


@emits_onnx("YoloDetectionOutput", "Yolov3DetectionOutput")
def yolo_output_onnx(ctx: OnnxContext) -> None:
    """All images together; a box goes if a better one overlaps it by nms_threshold or more."""
    layer = ctx.layer
    parts = [_yolo_boxes(ctx, i) for i in range(len(ctx.x))]
    boxes, scores, labels = (parts[0][i] if len(parts) == 1 else
                             ctx.node("Concat", *(part[i] for part in parts), axis=0) for i in range(3))
    limit = float(np.nextafter(np.float32(layer.nms), np.float32(-1)))
    total = ctx.node("Shape", scores, start=0, end=1)
    found = suppressed(ctx, unsqueezed(ctx, boxes, 0), unsqueezed(ctx, scores, 0, 1), total, min(limit, 1.0),
                       pixels=False, centred=True)
    place = last_places(ctx, found)
    middle, size = split(ctx, ctx.node("Gather", boxes, place, axis=0), 2, 2)
    half = ctx.node("Div", size, ctx.constant(2.0))
    label, score = (unsqueezed(ctx, ctx.node("Gather", x, place, axis=0), 1) for x in (labels, scores))
    rows = ctx.node("Concat", ctx.node("Add", label, ctx.constant(1.0)), score, ctx.node("Sub", middle, half),
                    ctx.node("Add", middle, half), axis=1)
    rows = or_nothing_found(ctx, ctx.node("Pad", rows, ctx.integers([0, 1, 0, 0])), numbered=True)
    ctx.output("Unsqueeze", rows, ctx.integers([0, 1]))


def _yolo_boxes(ctx: OnnxContext, index: int) -> tuple[str, str, str]:
    """Return boxes (P, 4) as centre and size, scores (P) and labels (P) of a bottom; -inf for those that go."""
    layer, (_, h, w) = ctx.layer, ctx.size(index)
    v3 = layer.spec.type.startswith("Yolov3")
    if not v3 and h != w:
        raise ctx.refuse("needs square maps")
    x = ctx.node("Reshape", ctx.x[index], ctx.integers([-1, layer.boxes, 5 + layer.classes, h, w]))
    x, y, size, whole, scores = split(ctx, ctx.node("Transpose", x, perm=[0, 3, 4, 1, 2]), 1, 1, 2, 1,
                                         layer.classes)
    centre = [ctx.node("Div", ctx.node("Add", ctx.constant(np.arange(extent).reshape(shape)),
                                       accurate_sigmoid_onnx(ctx, at)), ctx.constant(float(extent)))
              for at, extent, shape in ((x, w, (1, 1, w, 1, 1)), (y, h, (1, h, 1, 1, 1)))]
    anchors = np.array(layer.anchors(index), np.float32)
    scale = layer.scales[index] if v3 else 1
    size = ctx.node("Div", ctx.node("Mul", ctx.node("Exp", size), ctx.constant(anchors)),
                    ctx.constant([w * scale, h * scale]))
    boxes = ctx.node("Concat", *centre, size, axis=-1)
    whole = accurate_sigmoid_onnx(ctx, whole)
    flat = ctx.integers([-1])
    if v3:
        score = ctx.node("Mul", accurate_sigmoid_onnx(ctx, scores), whole)
        kept = ctx.node("Greater", score, ctx.constant(layer.threshold))
        shape = ctx.node("Concat", ctx.node("Shape", score), ctx.integers([4]), axis=0)
        boxes = ctx.node("Expand", unsqueezed(ctx, boxes, 4), shape)
        label = ctx.node("Expand", ctx.constant(np.arange(layer.classes)), ctx.node("Shape", score))
    else:
        probability = ctx.node("Softmax", scores, axis=-1)
        score = ctx.node("Mul", whole, ctx.node("ReduceMax", probability, ctx.integers([4])))
        label = ctx.node("Cast", ctx.node("ArgMax", probability, axis=4), to=FLOAT)
        kept = ctx.node("GreaterOrEqual", score, ctx.constant(layer.threshold))
    return (ctx.node("Reshape", boxes, ctx.integers([-1, 4])), ctx.node("Reshape", only(ctx, kept, score), flat),
            ctx.node("Reshape", label, flat))


@emits_python("YoloDetectionOutput", "Yolov3DetectionOutput")
def yolo_output_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    v3 = layer.spec.type.startswith("Yolov3")
    maps = []
    for i, x in enumerate(ctx.x):
        if not v3:
            h, w = ctx.plane(i)
            if h != w:
                raise ctx.refuse("needs square maps")
        anchors = "[" + ", ".join(f"({number(w)}, {number(h)})" for w, h in layer.anchors(i)) + "]"
        maps.append(ctx.call("yolo_boxes", x, anchors, number(layer.scales[i] if v3 else 1), number(layer.threshold),
                             v3))
    return ctx.call("yolo_detections", f"[{', '.join(maps)}]", f"len({ctx.x[0]})", number(layer.nms))


def _yolov2_boxes(ctx: OnnxContext) -> tuple[str, str, str, str]:
    """Return rows (P, 6) of label, score, middle and size; the low corners and the high ones (P, 2), cut at the image's
    edges; and the confidence in an object (P, 1)."""
    layer, param = ctx.layer, ctx.layer.param
    side, boxes = param.side, param.num_box
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([boxes, 5 + layer.classes, side, side]))
    x, y, size, whole, scores = split(ctx, ctx.node("Transpose", x, perm=[2, 3, 0, 1]), 1, 1, 2, 1, layer.classes)
    cells, extent = np.arange(side), ctx.constant(float(side))
    middle = [ctx.node("Div", ctx.node("Add", ctx.constant(cells.reshape(shape)), accurate_sigmoid_onnx(ctx, at)),
                       extent) for at, shape in ((x, (1, side, 1, 1)), (y, (side, 1, 1, 1)))]
    biases = np.array(param.biases[: 2 * boxes], np.float32).reshape(boxes, 2)
    size = ctx.node("Div", ctx.node("Mul", ctx.node("Exp", size), ctx.constant(biases)), extent)
    probability = ctx.node("Softmax", scores, axis=-1)
    whole = accurate_sigmoid_onnx(ctx, whole)
    score = ctx.node("Mul", whole, ctx.node("ReduceMax", probability, ctx.integers([3])))
    label = ctx.node("Cast", ctx.node("ArgMax", probability, axis=3), to=FLOAT)
    rows = ctx.node("Reshape", ctx.node("Concat", label, score, *middle, size, axis=-1), ctx.integers([-1, 6]))
    box, extents = split(ctx, split(ctx, rows, 2, 4)[1], 2, 2)
    half = ctx.node("Div", extents, ctx.constant(2.0))
    low = ctx.node("Max", ctx.node("Sub", box, half), ctx.constant(0.0))
    high = ctx.node("Min", ctx.node("Add", box, half), ctx.constant(1.0))
    return rows, low, high, ctx.node("Reshape", whole, ctx.integers([-1, 1]))


def _good(ctx: OnnxContext, rows: str) -> str:
    """Whether the score of each of _yolov2_boxes is high enough, (P,)."""
    good = ctx.node("GreaterOrEqual", split(ctx, rows, 1, 1, 4)[1], ctx.constant(ctx.layer.param.confidence_threshold))
    return ctx.node("Reshape", good, ctx.integers([-1]))


def _yolov2_found(ctx: OnnxContext, kept: str) -> None:
    """Give the top, from the rows that stay."""
    kept = ctx.node("Pad", kept, ctx.integers([0, 1, 0, 0]))
    ctx.output("Unsqueeze", or_nothing_found(ctx, kept, numbered=True), ctx.integers([0, 1]))


@emits_onnx("DetectionOutput=yolov2")
def yolov2_output_onnx(ctx: OnnxContext) -> None:
    """Of boxes that overlap, the first one stays, so their places serve as scores."""
    param, (rows, low, high, _) = ctx.layer.param, _yolov2_boxes(ctx)
    places = param.side**2 * param.num_box
    order = only(ctx, _good(ctx, rows), ctx.constant(-np.arange(places)))
    limit = float(np.nextafter(np.float32(param.nms_threshold), np.float32(-1)))  # those at it go, too
    found = suppressed(ctx, unsqueezed(ctx, ctx.node("Concat", low, high, axis=-1), 0), unsqueezed(ctx, order, 0, 1),
                       places, min(limit, 1.0), pixels=False)
    _yolov2_found(ctx, ctx.node("Gather", rows, last_places(ctx, found), axis=0))


@emits_onnx("DetectionOutput=yolov2-region")
def region_output_onnx(ctx: OnnxContext) -> None:
    """A box that goes may have dropped others before, which NonMaxSuppression cannot do: Scan takes box after box."""
    param, (rows, low, high, sure) = ctx.layer.param, _yolov2_boxes(ctx)
    places = param.side**2 * param.num_box
    close = ctx.node("GreaterOrEqual", _shares(ctx, low, high), ctx.constant(param.nms_threshold))
    later = np.arange(places) > np.arange(places)[:, None]
    close = ctx.node("And", close, ctx.graph.constant(later, bool))
    better = ctx.node("And", close, ctx.node("GreaterOrEqual", ctx.node("Transpose", sure, perm=[1, 0]), sure))
    left = ctx.node("Scan", _good(ctx, rows), close, better, ctx.graph.constant(np.eye(places), bool),
                    num_scan_inputs=3, body=_one_box(places))
    left = ctx.node("And", left, ctx.node("Reshape", ctx.node("Greater", sure, ctx.constant(0.0)), ctx.integers([-1])))
    _yolov2_found(ctx, ctx.node("Compress", rows, left, axis=0))


def _shares(ctx: OnnxContext, low: str, high: str) -> str:
    """Return intersection over union of each two boxes, given by their corners (P, 2): (P, P)."""
    extent = ctx.node("Sub", high, low)
    whole = ctx.node("ReduceMin", extent, ctx.integers([1]))
    area = ctx.node("Where", ctx.node("GreaterOrEqual", whole, ctx.constant(0.0)),
                    ctx.node("ReduceProd", extent, ctx.integers([1])), ctx.constant(0.0))
    sides = ctx.node("Sub", *(ctx.node(op, unsqueezed(ctx, x, 1), unsqueezed(ctx, x, 0))
                              for op, x in (("Min", high), ("Max", low))))
    common = ctx.node("ReduceProd", ctx.node("Max", sides, ctx.constant(0.0)), ctx.integers([2]), keepdims=0)
    union = ctx.node("Sub", ctx.node("Add", area, ctx.node("Transpose", area, perm=[1, 0])), common)
    meet = ctx.node("Greater", common, ctx.constant(0.0))
    share = ctx.node("Div", common, ctx.node("Where", meet, union, ctx.constant(1.0)))
    return ctx.node("Where", meet, share, ctx.constant(0.0))


def _one_box(places: int) -> Any:
    """Return the body of a Scan: which boxes are left; the rows of a box, of those close to it, of the better ones
    among these, and of itself -> which are left then. Those close go, up to the first better one, for which it goes
    itself."""
    from onnx import helper

    def node(op: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(op, inputs.split(), [output], **attributes)

    nodes = [
        node("And", "left own", "alone"), node("Cast", "alone", "alone_number", to=INT64),
        node("ReduceMax", "alone_number", "own_number", keepdims=1), node("Cast", "own_number", "is_left", to=BOOL),
        node("And", "left is_left", "others"),
        node("And", "others close", "near"), node("And", "others better", "over"),
        node("Cast", "over", "over_number", to=INT64), node("CumSum", "over_number axis", "seen"),
        node("Cast", "seen", "behind", to=BOOL), node("Not", "behind", "before"), node("And", "near before", "drops"),
        node("ReduceMax", "over_number", "any_number", keepdims=1), node("Cast", "any_number", "yields", to=BOOL),
        node("And", "own yields", "goes"), node("Or", "drops goes", "gone"), node("Not", "gone", "stays"),
        node("And", "left stays", "left_then")]
    row = [places]
    values = [helper.make_tensor_value_info(name, BOOL, row) for name in ("left", "close", "better", "own")]
    return helper.make_graph(nodes, "box", values, [helper.make_tensor_value_info("left_then", BOOL, row)],
                             [helper.make_tensor("axis", INT64, [], [0])])


@emits_python("DetectionOutput=yolov2")
def yolov2_output_python(ctx: PythonContext) -> str:
    param = ctx.layer.param
    return ctx.call("first_boxes", ctx.x[0], numbers(param.biases[: 2 * param.num_box]), param.num_box,
                    number(param.confidence_threshold), number(param.nms_threshold))


@emits_python("DetectionOutput=yolov2-region")
def region_output_python(ctx: PythonContext) -> str:
    param = ctx.layer.param
    return ctx.call("surest_boxes", ctx.x[0], numbers(param.biases[: 2 * param.num_box]), param.num_box,
                    number(param.confidence_threshold), number(param.nms_threshold))


@emits_onnx("Region")
def region_onnx(ctx: OnnxContext) -> None:
    layer, sizes = ctx.layer, ctx.size()
    rows = ctx.node("Transpose", ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1])), perm=[0, 2, 1])
    rows = ctx.node("Reshape", rows, ctx.integers([-1, 5 + layer.param.classes]))
    box, whole, classes = split(ctx, rows, 4, 1, layer.param.classes)
    if layer.param.softmax:
        classes = ctx.node("Softmax", classes, axis=-1)
    rows = ctx.node("Concat", box, accurate_sigmoid_onnx(ctx, whole), classes, axis=-1)
    ctx.output("Reshape", rows, ctx.integers([-1, *sizes]))


@emits_python("Region")
def region_python(ctx: PythonContext) -> str:
    return ctx.call("region_scores", ctx.x[0], ctx.layer.param.classes, f"softmax={ctx.layer.param.softmax}")
