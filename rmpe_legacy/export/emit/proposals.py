"""Regions of interest: where they come from, how they move, and which of them go on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rmpe_legacy.caffe.layers.cascade_boxes import centres

from ..onnx_graph import FLOAT, INT64
from .boxes import last_places, low_high_size, moved, only, regions, split, suppressed, table, unsqueezed
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, numbers, pair

_END = (1 << 63) - 1


@emits_onnx("DecodeBBox")
def decode_bbox_onnx(ctx: OnnxContext) -> None:
    image, corners = regions(ctx)
    low, _, size = low_high_size(ctx, corners)
    moves = split(ctx, table(ctx, 0, 8), 4, 4)[1]
    boxes = moved(ctx, moves, low, size, ctx.layer.mean.tolist(), ctx.layer.std.tolist())
    ctx.output("Unsqueeze", ctx.node("Concat", image, boxes, axis=1), ctx.integers([2, 3]))


@emits_python("DecodeBBox")
def decode_bbox_python(ctx: PythonContext) -> str:
    return ctx.call("move_regions", *ctx.x[:2], *map(numbers, (ctx.layer.mean, ctx.layer.std)))


@emits_onnx("Python=ProposalLayer", "Python=SSH.layers.proposal_layer.ProposalLayer")
def proposal_layer_onnx(ctx: OnnxContext) -> None:
    layer, settings = ctx.layer, ctx.layer.settings
    boxes, score, info = _of_anchors(ctx)
    least = ctx.node("Mul", ctx.node("Gather", info, ctx.integers([2])), ctx.constant(settings["RPN_MIN_SIZE"]))
    smaller = ctx.node("ReduceMin", low_high_size(ctx, boxes)[2], ctx.integers([1]), keepdims=0)
    score = only(ctx, ctx.node("GreaterOrEqual", smaller, least), score)
    boxes, score = (_turned(ctx, x, 0) for x in (boxes, score))  # of equal scores the later anchor goes first
    total = len(layer.shifted(*ctx.size()[1:]))
    score = _best_regions(ctx, boxes, score, int(settings["RPN_PRE_NMS_TOP_N"]) or total, total,
                          int(settings["RPN_POST_NMS_TOP_N"]) or total, settings["RPN_NMS_THRESH"])
    if len(ctx.y) > 1:
        ctx.graph.node("Unsqueeze", [score, ctx.integers([1])], [ctx.y[1]])


@emits_onnx("FrcnnProposal")
def frcnn_proposal_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    boxes, score, info = _of_anchors(ctx)
    least = ctx.node("Mul", ctx.node("Gather", info, ctx.integers([2])), ctx.constant(int(layer.setting(
        "rpn_min_size"))))
    smaller = ctx.node("ReduceMin", low_high_size(ctx, boxes)[2], ctx.integers([1]), keepdims=0)
    kept = ctx.node("GreaterOrEqual", smaller, least)
    total = len(layer.shifted(*ctx.size()[1:]))
    any_score = ctx.graph.constant(np.arange(total) % layer.anchors == 0, np.bool_)
    likely = ctx.node("GreaterOrEqual", score, ctx.constant(layer.settings["test_rpn_score_thresh"]))
    score = only(ctx, ctx.node("And", kept, ctx.node("Or", any_score, likely)), score)
    boxes, score = (_turned(ctx, x, 0) for x in (boxes, score))  # of equal scores the later anchor goes first
    score = _best_regions(ctx, boxes, score, layer.setting("rpn_pre_nms_top_n"), total,
                          layer.setting("rpn_post_nms_top_n"), layer.setting("rpn_nms_thresh"))
    if len(ctx.y) > 1:
        ctx.graph.node("Unsqueeze", [score, ctx.integers([1, 2, 3])], [ctx.y[1]])


@emits_onnx("Proposal")
def proposal_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.param
    boxes, score, info = _of_anchors(ctx)
    least = ctx.node("Mul", ctx.node("Gather", info, ctx.integers([3, 2])), ctx.constant(param.min_size))
    large = ctx.node("Cast", ctx.node("GreaterOrEqual", low_high_size(ctx, boxes)[2], least), to=FLOAT)
    score = ctx.node("Mul", score, ctx.node("ReduceMin", large, ctx.integers([1]), keepdims=0))
    score = _best_regions(ctx, boxes, score, param.pre_nms_topn, len(ctx.layer.shifted(*ctx.size()[1:])),
                          param.post_nms_topn, param.nms_thresh)
    if len(ctx.y) > 1:
        ctx.graph.node("Identity", [score], [ctx.y[1]])


def _of_anchors(ctx: OnnxContext) -> tuple[str, str, str]:
    """Return the moved anchors (P, 4), cut at the image's edges, their scores (P), and what is known of the image."""
    boxes, info = _moved_anchors(ctx)
    channels = ctx.size()[0]
    score = ctx.node("Slice", ctx.x[0], *map(ctx.integers, ([channels // 2], [channels], [1])))
    score = ctx.node("Reshape", ctx.node("Transpose", score, perm=[0, 2, 3, 1]), ctx.integers([-1]))
    return boxes, score, info


def _moved_anchors(ctx: OnnxContext) -> tuple[str, str]:
    """Return the moved anchors (P, 4), cut at the image's edges, and what is known of the image."""
    layer, (_, h, w) = ctx.layer, ctx.size()
    anchors = layer.shifted(h, w).astype(np.float32)
    size = anchors[:, 2:] - anchors[:, :2] + np.float32(1)
    centre = anchors[:, :2] + np.float32(0.5) * size
    moves = ctx.node("Reshape", ctx.node("Transpose", ctx.x[1], perm=[0, 2, 3, 1]), ctx.integers([-1, 4]))
    shift, stretch = split(ctx, moves, 2, 2)
    sizes = ctx.graph.parameter(f"{layer.spec.name}.sizes", size)
    middle = ctx.node("Add", ctx.node("Mul", shift, sizes),
                      ctx.graph.parameter(f"{layer.spec.name}.centres", centre))
    return _within(ctx, _around(ctx, middle, stretch, sizes), 2)


def _around(ctx: OnnxContext, middle: str, stretch: str, sizes: str) -> str:
    """Return the boxes (P, 4) around their middles, `sizes` times the exponential of `stretch` large."""
    half = ctx.node("Mul", ctx.constant(0.5), ctx.node("Mul", ctx.node("Exp", stretch), sizes))
    return ctx.node("Concat", ctx.node("Sub", middle, half), ctx.node("Add", middle, half), axis=-1)


def _within(ctx: OnnxContext, boxes: str, index: int) -> tuple[str, str]:
    """Return boxes cut at the edges of the image that a bottom tells of, and that bottom as a list."""
    info = ctx.node("Reshape", ctx.x[index], ctx.integers([-1]))
    ends = ctx.node("Sub", ctx.node("Gather", info, ctx.integers([1, 0, 1, 0])), ctx.constant(1.0))
    return ctx.node("Min", ctx.node("Max", boxes, ctx.constant(0.0)), ends), info


def _turned(ctx: OnnxContext, x: str, axis: int) -> str:
    """Return a value with an axis in reverse order: of equal scores, ONNX's operators take the first."""
    return ctx.node("Slice", x, *map(ctx.integers, ([-1], [-_END], [axis], [-1])))


def _best_regions(ctx: OnnxContext, boxes: str, score: str, before: int, total: int, after: int, limit: float) -> str:
    """Write the first top, regions of image 0, and return their scores (R). See `_best_boxes`."""
    kept, score = _best_boxes(ctx, boxes, score, before, total, after, limit)
    margin = ctx.integers([0, 1, 0, 0])
    if len(ctx.top_shapes[0]) == 2:
        ctx.output("Pad", kept, margin)
    else:
        ctx.output("Unsqueeze", ctx.node("Pad", kept, margin), ctx.integers([2, 3]))
    return score


def _best_boxes(ctx: OnnxContext, boxes: str, score: str, before: int, total: int, after: int, limit: float
                ) -> tuple[str, str]:
    """Return the boxes (R, 4) that stay, best first, and their scores (R).

    Args:
        ctx: The layer.
        boxes: (total, 4).
        score: (total).
        before: How many of the best are suppressed.
        total: How many there are.
        after: How many stay at most.
        limit: A box goes if a better one overlaps it by more; if infinite, none does.
    """
    if limit == float("inf"):
        score, place = ctx.graph.nodes_of("TopK", [score, ctx.integers([min(before, total, after)])], 2, axis=0)
        stays = ctx.node("Greater", score, ctx.constant(-float("inf")))
        boxes = ctx.node("Compress", ctx.node("Gather", boxes, place, axis=0), stays, axis=0)
        return boxes, ctx.node("Compress", score, stays, axis=0)
    if before < total:
        score, place = ctx.graph.nodes_of("TopK", [score, ctx.integers([before])], 2, axis=0)
        boxes = ctx.node("Gather", boxes, place, axis=0)
    found = suppressed(ctx, unsqueezed(ctx, boxes, 0), unsqueezed(ctx, score, 0, 1), after, limit)
    place = last_places(ctx, found)
    return ctx.node("Gather", boxes, place, axis=0), ctx.node("Gather", score, place, axis=0)


@emits_onnx("Python=rpn.proposal_layer.ProposalLayer")
def span_proposal_onnx(ctx: OnnxContext) -> None:
    """A span is a box without a height."""
    layer, settings, (channels, length, *_) = ctx.layer, ctx.layer.settings, ctx.size()
    anchors = layer.shifted(length).astype(np.float32)
    size = anchors[:, 1:] - anchors[:, :1] + np.float32(1)
    scores, moves = (ctx.node("Reshape", x, ctx.integers([channels, length])) for x in ctx.x)
    moves = ctx.node("Reshape", ctx.node("Transpose", moves, perm=[1, 0]), ctx.integers([-1, 2]))
    shift, stretch = split(ctx, moves, 1, 1)
    score = ctx.node("Slice", scores, *map(ctx.integers, ([channels // 2], [channels], [0])))
    score = ctx.node("Reshape", ctx.node("Transpose", score, perm=[1, 0]), ctx.integers([-1]))
    sizes = ctx.graph.parameter(f"{layer.spec.name}.sizes", size)
    middle = ctx.node("Add", ctx.node("Mul", shift, sizes), ctx.graph.parameter(
        f"{layer.spec.name}.centres", anchors[:, :1] + np.float32(0.5) * size))
    spans = ctx.node("Clip", _around(ctx, middle, stretch, sizes), ctx.constant(0.0),
                     ctx.constant(length * layer.stride - 1))
    begin, end = split(ctx, spans, 1, 1)
    long = ctx.node("GreaterOrEqual", ctx.node("Add", ctx.node("Sub", end, begin), ctx.constant(1.0)),
                    ctx.constant(settings["RPN_MIN_SIZE"]))
    score = only(ctx, ctx.node("Squeeze", long, ctx.integers([1])), score)
    zero = ctx.node("Mul", begin, ctx.constant(0.0))
    boxes = ctx.node("Concat", begin, zero, end, zero, axis=1)
    boxes, score = (_turned(ctx, x, 0) for x in (boxes, score))  # of equal scores the later anchor goes first
    total = len(anchors)
    kept, score = _best_boxes(ctx, boxes, score, int(settings["RPN_PRE_NMS_TOP_N"]) or total, total,
                              int(settings["RPN_POST_NMS_TOP_N"]) or total, settings["RPN_NMS_THRESH"])
    ctx.output("Pad", ctx.node("Gather", kept, ctx.integers([0, 2]), axis=1), ctx.integers([0, 1, 0, 0]))
    if len(ctx.y) > 1:
        ctx.graph.node("Unsqueeze", [score, ctx.integers([1])], [ctx.y[1]])


@emits_python("Python=rpn.proposal_layer.ProposalLayer")
def span_proposal_python(ctx: PythonContext) -> str:
    layer, settings = ctx.layer, ctx.layer.settings
    length = ctx.bottom_shapes[0][2]
    if not isinstance(length, int):
        raise ctx.refuse("it is written for fixed sizes only")
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(length)).float())
    call = ctx.call("propose_spans", arguments(
        *ctx.x, anchors, number(length * layer.stride - 1), f"before={settings['RPN_PRE_NMS_TOP_N']}",
        f"after={settings['RPN_POST_NMS_TOP_N']}", f"threshold={number(settings['RPN_NMS_THRESH'])}",
        f"least={settings['RPN_MIN_SIZE']}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_python("Python=ProposalLayer", "Python=SSH.layers.proposal_layer.ProposalLayer")
def proposal_layer_python(ctx: PythonContext) -> str:
    layer, settings = ctx.layer, ctx.layer.settings
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(*map(int, ctx.bottom_shapes[0][2:]))).float())
    call = ctx.call("propose", arguments(
        *ctx.x, anchors, f"before={settings['RPN_PRE_NMS_TOP_N']}", f"after={settings['RPN_POST_NMS_TOP_N']}",
        f"threshold={number(settings['RPN_NMS_THRESH'])}", f"least={settings['RPN_MIN_SIZE']}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_python("FrcnnProposal")
def frcnn_proposal_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(*ctx.plane())).float())
    call = ctx.call("propose_likely", arguments(
        *ctx.x, anchors, f"least_score={number(layer.settings['test_rpn_score_thresh'])}",
        f"before={layer.setting('rpn_pre_nms_top_n')}", f"after={layer.setting('rpn_post_nms_top_n')}",
        f"threshold={number(layer.setting('rpn_nms_thresh'))}", f"least={int(layer.setting('rpn_min_size'))}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_python("Proposal")
def proposal_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.param
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(*ctx.plane())))
    call = ctx.call("propose_by_scale", arguments(
        *ctx.x, anchors, f"before={param.pre_nms_topn}", f"after={param.post_nms_topn}",
        f"threshold={number(param.nms_thresh)}", f"least={number(param.min_size)}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_onnx("Python=lib.layers.proposal_layer.ProposalLayer")
def small_face_proposal_onnx(ctx: OnnxContext) -> None:
    """No box is smaller than ANCHOR_MIN_SIZE, which is 0."""
    layer, (channels, h, w) = ctx.layer, ctx.size()
    settings, anchors = layer.settings, len(layer.anchors)
    boxes = _turned(ctx, _moved_anchors(ctx)[0], 0)  # of equal scores the later anchor goes first
    each = ctx.node("Reshape", ctx.x[0], ctx.integers([channels // anchors, anchors, h, w]))
    each = ctx.node("Reshape", ctx.node("Transpose", each, perm=[2, 3, 1, 0]), ctx.integers([-1, channels // anchors]))
    each = _turned(ctx, each, 0)
    objects = ctx.node("Slice", each, *map(ctx.integers, ([1], [_END], [1])))
    best = ctx.node("ReduceMax", objects, ctx.integers([1]), keepdims=0)
    likely = ctx.node("Cast", ctx.node("GreaterOrEqual", best, ctx.constant(settings["SCORE_THRESH"])), to=INT64)
    enough = ctx.node("Max", ctx.node("ReduceSum", likely, ctx.integers([0])), ctx.integers([1]))
    most = ctx.integers([min(settings["N_DETS_PER_MODULE"], anchors * h * w)])
    place = ctx.graph.nodes_of("TopK", [best, ctx.node("Min", enough, most)], 2, axis=0)[1]
    ctx.output("Pad", ctx.node("Gather", boxes, place, axis=0), ctx.integers([0, 1, 0, 0]))
    if len(ctx.y) > 1:
        ctx.graph.node("Gather", [each, place], [ctx.y[1]], axis=0)


@emits_python("Python=lib.layers.proposal_layer.ProposalLayer")
def small_face_proposal_python(ctx: PythonContext) -> str:
    layer, settings = ctx.layer, ctx.layer.settings
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(*ctx.plane())).float())
    call = ctx.call("propose_classes", arguments(*ctx.x, anchors, f"above={number(settings['SCORE_THRESH'])}",
                                                 f"most={settings['N_DETS_PER_MODULE']}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_onnx("Python=BoxTransformLayer")
def box_transform_onnx(ctx: OnnxContext) -> None:
    low, _, size = low_high_size(ctx, _last_four(ctx))
    moves = ctx.node("Add", ctx.node("Mul", ctx.x[1], ctx.constant(ctx.layer.deviations)),
                     ctx.constant(ctx.layer.means))
    shift, stretch = split(ctx, moves, 2, 2)
    centre = ctx.node("Add", low, ctx.node("Mul", ctx.constant(0.5), size))
    boxes = _around(ctx, ctx.node("Add", ctx.node("Mul", shift, size), centre), stretch, size)
    ctx.output("Pad", boxes, ctx.integers([0, 1, 0, 0]))


def _last_four(ctx: OnnxContext) -> str:
    values = int(ctx.bottom_shapes[0][1])
    return ctx.x[0] if values == 4 else split(ctx, ctx.x[0], values - 4, 4)[1]


@emits_python("Python=BoxTransformLayer")
def box_transform_python(ctx: PythonContext) -> str:
    return ctx.call("transform_boxes", *ctx.x, *map(numbers, (ctx.layer.means, ctx.layer.deviations)))


@emits_onnx("Python=RoISelectLayer")
def roi_select_onnx(ctx: OnnxContext) -> None:
    scores, classes = ctx.x[1], ctx.integers(np.arange(1, ctx.layer.classes))
    label = ctx.node("ArgMax", scores, axis=1)
    own = only(ctx, ctx.node("Equal", label, classes), ctx.node("ReduceMax", scores, ctx.integers([1])))
    someone = ctx.node("Greater", ctx.node("ReduceMax", own, ctx.integers([0])), ctx.constant(-float("inf")))
    best = ctx.node("ArgMax", ctx.node("Where", someone, own, ctx.node("Gather", scores, classes, axis=1)), axis=0,
                    keepdims=0)
    ctx.output("Gather", table(ctx, 0, 5), best, axis=0)


@emits_python("Python=RoISelectLayer")
def roi_select_python(ctx: PythonContext) -> str:
    return ctx.call("best_of_classes", *ctx.x)


@emits_onnx("Python=pylayer.proposal_layer.ProposalLayer")
def cascade_proposal_onnx(ctx: OnnxContext) -> None:
    _only_regions(ctx)
    proposal_layer_onnx(ctx)


@emits_python("Python=pylayer.proposal_layer.ProposalLayer")
def cascade_proposal_python(ctx: PythonContext) -> str:
    _only_regions(ctx)
    return proposal_layer_python(ctx)


def _only_regions(ctx: EmitContext) -> None:
    if len(ctx.top_shapes) > 1:
        raise ctx.refuse("its second top, the numbers of the anchors, is for training")


@emits_onnx("Python=StageBridgeLayer")
def stage_bridge_onnx(ctx: OnnxContext) -> None:
    classes = int(ctx.bottom_shapes[2][1])
    best = ctx.node("ArgMax", ctx.x[2], axis=1)
    moves = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, classes, 4]))
    shift, stretch = split(ctx, ctx.node("GatherND", moves, best, batch_dims=1), 2, 2)
    low, _, size = low_high_size(ctx, regions(ctx, 0)[1])
    middle = ctx.node("Add", low, ctx.node("Mul", ctx.constant(0.5), size))
    boxes = _around(ctx, ctx.node("Add", ctx.node("Mul", shift, size), middle), stretch, size)
    ctx.output("Pad", _within(ctx, boxes, 3)[0], ctx.integers([0, 1, 0, 0]))


@emits_python("Python=StageBridgeLayer")
def stage_bridge_python(ctx: PythonContext) -> str:
    return ctx.call("move_by_best", *ctx.x)


@emits_onnx("ScaleRoute")
def scale_route_onnx(ctx: OnnxContext) -> None:
    least, end, middle = ctx.layer.limits()
    low, high, size = low_high_size(ctx, regions(ctx, 0)[1])
    smallest = ctx.node("ReduceMin", ctx.node("Sub", high, low), ctx.integers([1]), keepdims=0)
    area = ctx.node("ReduceProd", size, ctx.integers([1]), keepdims=0)
    scale = ctx.node("Sqrt", ctx.node("Where", ctx.node("Less", smallest, ctx.constant(0.0)), ctx.constant(0.0), area))
    good = ctx.node("And", ctx.node("GreaterOrEqual", scale, ctx.constant(least)),
                    ctx.node("Less", scale, ctx.constant(end)))
    place = ctx.node("Reshape", ctx.node("NonZero", good), ctx.integers([-1]))
    none = ctx.node("Cast", ctx.node("Equal", ctx.node("Shape", place), ctx.integers([0])), to=INT64)
    apart = ctx.node("Abs", ctx.node("Log", ctx.node("Div", scale, ctx.constant(middle))))
    nearest = ctx.node("Slice", ctx.node("ArgMin", apart, axis=0), ctx.integers([0]), none)
    place = ctx.node("Concat", place, nearest, axis=0)
    for x, shape, y in zip(ctx.x, ctx.top_shapes, ctx.y, strict=True):
        rows = ctx.node("Reshape", x, ctx.integers([-1, *(int(size) for size in shape[1:])]))
        ctx.graph.node("Gather", [rows, place], [y], axis=0)


@emits_python("ScaleRoute")
def scale_route_python(ctx: PythonContext) -> str:
    call = ctx.call("route", f"[{', '.join(ctx.x)}]", *map(number, ctx.layer.limits()))
    return call if len(ctx.x) > 1 else f"{call}[0]"


@emits_onnx("BoxGroupOutput")
def box_group_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    images = ctx.shape()[0] // len(layer.groups[0].field_w)
    boxes, scores = _together(ctx, [_of_group(ctx, i, images) for i in range(len(layer.groups))])
    total = sum(len(group.field_w) * int(np.prod(ctx.size(2 * i)[1:])) for i, group in enumerate(layer.groups))
    _best_of_fields(ctx, images, total, boxes, scores)


@emits_onnx("BoxOutput")
def box_output_onnx(ctx: OnnxContext) -> None:
    images = ctx.shape()[0]
    boxes, scores = _together(ctx, [_of_map(ctx, i, images) for i in range(len(ctx.x))])
    # Of equal scores the later one goes first.
    boxes, scores = (_turned(ctx, x, 1) for x in (boxes, scores))
    total = sum(int(np.prod(ctx.size(i)[1:])) for i in range(len(ctx.x)))
    _best_of_fields(ctx, images, total, boxes, scores, pixels=False)


def _together(ctx: OnnxContext, parts: Sequence[tuple[str, str]]) -> list[str]:
    return [each[0] if len(parts) == 1 else ctx.node("Concat", *each, axis=1) for each in zip(*parts, strict=True)]


def _of_group(ctx: OnnxContext, index: int, images: int) -> tuple[str, str]:
    """Return the boxes (images, P, 4) and scores (images, P) of one pair of bottoms; -inf for those that go."""
    group, (probability, moves) = ctx.layer.groups[index], ctx.x[2 * index : 2 * index + 2]
    plane = ctx.size(2 * index)[1:]
    fields = np.array(list(zip(group.field_w, group.field_h, strict=True)) * images, np.float32)
    low, high = [], []
    for axis, (begin, size) in enumerate(_of_fields(ctx, moves, fields, group.stride, plane)):
        end = ctx.node("Sub", ctx.node("Add", begin, size), ctx.constant(1.0))
        low.append(ctx.node("Max", begin, ctx.constant(0.0)))
        high.append(ctx.node("Min", end, ctx.constant(float(plane[1 - axis] * group.stride))))
    boxes = _rows(ctx, [*low, *high], images)
    first = ctx.node("Slice", probability, *map(ctx.integers, ([0], [1], [1])))
    score = ctx.node("Reshape", ctx.node("Sub", ctx.constant(1.0), first), ctx.integers([images, -1]))
    return boxes, _large(ctx, low_high_size(ctx, boxes)[2], score)


def _of_map(ctx: OnnxContext, index: int, images: int) -> tuple[str, str]:
    """Return the same of one bottom of BoxOutput."""
    field_w, field_h, stride = ctx.layer.windows[index]
    channels, *plane = ctx.size(index)
    background, objects, moves = split(ctx, ctx.x[index], 1, channels - 5, 4, axis=1)
    low, high, sizes = [], [], []
    fields = np.array([[field_w, field_h]], np.float32)
    for axis, (begin, size) in enumerate(_of_fields(ctx, moves, fields, stride, plane)):
        low.append(ctx.node("Max", begin, ctx.constant(0.0)))
        end = ctx.constant(float(plane[1 - axis] * stride))
        sizes.append(ctx.node("Min", size, ctx.node("Sub", end, low[-1])))
        high.append(ctx.node("Add", low[-1], sizes[-1]))
    best = ctx.node("ReduceMax", objects, ctx.integers([1]))
    score = ctx.node("Reshape", ctx.node("Sub", best, background), ctx.integers([images, -1]))
    return _rows(ctx, [*low, *high], images), _large(ctx, _rows(ctx, sizes, images), score)


def _of_fields(ctx: OnnxContext, moves: str, fields: np.ndarray, stride: float, plane: Sequence[int]
               ) -> list[tuple[str, str]]:
    """Return where boxes begin and how large they are, (N, 1, H, W) each: of columns, then of rows.

    Args:
        ctx: The layer.
        moves: (N, 4, H, W).
        fields: Width and height of each image's field, (N, 2) or (1, 2).
        stride: The pixels between cells.
        plane: (H, W).
    """
    layer, (h, w) = ctx.layer, plane
    x, y = centres(h, w, stride, torch.zeros(()))
    mean, std = (ctx.constant(values.reshape(1, 4, 1, 1).numpy()) for values in (layer.mean, layer.std))
    of_axis = split(ctx, ctx.node("Add", ctx.node("Mul", moves, std), mean), 1, 1, 1, 1, axis=1)
    near, far, small, large = map(ctx.constant, layer.limits)
    found = []
    for axis, at in enumerate((x.reshape(1, 1, 1, w), y.reshape(1, 1, h, 1))):
        field = ctx.constant(fields[:, axis].reshape(-1, 1, 1, 1))
        middle = ctx.node("Add", ctx.node("Mul", ctx.node("Clip", of_axis[axis], near, far), field),
                          ctx.constant(at.numpy()))
        size = ctx.node("Mul", field, ctx.node("Exp", ctx.node("Clip", of_axis[2 + axis], small, large)))
        found.append((ctx.node("Sub", middle, ctx.node("Div", size, ctx.constant(2.0))), size))
    return found


def _rows(ctx: OnnxContext, of_axis: Sequence[str], images: int) -> str:
    """Return maps (N, 1, H, W) of K values as rows (images, P, K)."""
    maps = ctx.node("Transpose", ctx.node("Concat", *of_axis, axis=1), perm=[0, 2, 3, 1])
    return ctx.node("Reshape", maps, ctx.integers([images, -1, len(of_axis)]))


def _large(ctx: OnnxContext, sizes: str, score: str) -> str:
    """Return the scores of boxes that are large and good enough, else -inf."""
    smaller = ctx.node("ReduceMin", sizes, ctx.integers([2]), keepdims=0)
    return only(ctx, ctx.node("And", ctx.node("GreaterOrEqual", score, ctx.constant(ctx.layer.param.fg_thr)),
                              ctx.node("GreaterOrEqual", smaller, ctx.constant(ctx.layer.param.min_size))), score)


def _best_of_fields(ctx: OnnxContext, images: int, total: int, boxes: str, scores: str, pixels: bool = True) -> None:
    """Write the tops: the best of `total` regions of each image. If there are none, the region (0, 1, 1, 10, 10)."""
    if ctx.layer.param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {ctx.layer.param.nms_type}; ONNX's NonMaxSuppression has IOU")
    found = [_best(ctx, image, total, boxes, scores, pixels) for image in range(images)]
    rows = found[0] if images == 1 else ctx.node("Concat", *found, axis=0)
    none = ctx.node("Cast", ctx.node("Equal", ctx.node("Shape", rows, start=0, end=1), ctx.integers([0])), to=INT64)
    empty = ctx.node("Expand", ctx.constant([[0.0, 1.0, 1.0, 10.0, 10.0, 0.0]]),
                     ctx.node("Concat", none, ctx.integers([6]), axis=0))
    rows = ctx.node("Concat", rows, empty, axis=0)
    ctx.output("Unsqueeze", split(ctx, rows, 5, 1)[0], ctx.integers([2, 3]))
    if len(ctx.y) > 1:  # as published, that of nothing found is all 0
        some = ctx.node("Sub", ctx.constant(1.0), ctx.node("Cast", none, to=FLOAT))
        ctx.graph.node("Unsqueeze", [ctx.node("Mul", rows, some), ctx.integers([2, 3])], [ctx.y[1]])


def _best(ctx: OnnxContext, image: int, total: int, boxes: str, scores: str, pixels: bool) -> str:
    """Return the rows (K, 6) of image, box and score that stay of one image."""
    param = ctx.layer.param
    boxes, scores = (ctx.node("Gather", x, ctx.integers(image), axis=0) for x in (boxes, scores))
    if 0 < param.max_nms_num < total:
        scores, place = ctx.graph.nodes_of("TopK", [scores, ctx.integers([param.max_nms_num])], 2, axis=0)
        boxes = ctx.node("Gather", boxes, place, axis=0)
    found = suppressed(ctx, unsqueezed(ctx, boxes, 0), unsqueezed(ctx, scores, 0, 1), param.max_post_nms_num or total,
                       param.iou_thr, pixels)
    place = last_places(ctx, found)
    chosen = ctx.node("Concat", ctx.node("Gather", boxes, place, axis=0),
                      unsqueezed(ctx, ctx.node("Gather", scores, place, axis=0), 1), axis=1)
    return ctx.node("Pad", chosen, ctx.integers([0, 1, 0, 0]), ctx.constant(float(image)))


@emits_python("BoxGroupOutput")
def box_group_python(ctx: PythonContext) -> str:
    maps = []
    for i, group in enumerate(ctx.layer.groups):
        fields = f"[{', '.join(map(pair, zip(group.field_w, group.field_h, strict=True)))}]"
        maps.append(ctx.call("group_regions", *ctx.x[2 * i : 2 * i + 2], fields, number(group.stride), *_how(ctx)))
    return _best_python(ctx, maps, pixels=True)


@emits_python("BoxOutput")
def box_output_python(ctx: PythonContext) -> str:
    maps = [ctx.call("map_regions", x, pair((field_w, field_h)), number(stride), *_how(ctx))
            for x, (field_w, field_h, stride) in zip(ctx.x, ctx.layer.windows, strict=True)]
    # Of equal scores the later one goes first, and that of a later map.
    return _best_python(ctx, maps[::-1], pixels=False)


def _how(ctx: PythonContext) -> list[str]:
    """Mean and deviation of moves, and their limits."""
    layer = ctx.layer
    return [*(numbers(values) for values in (layer.mean, layer.std)), pair(map(number, layer.limits))]


def _best_python(ctx: PythonContext, maps: Sequence[str], pixels: bool) -> str:
    param = ctx.layer.param
    if param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {param.nms_type}; use IOU")
    call = ctx.call("best_regions", arguments(
        f"[{', '.join(maps)}]", f"above={number(param.fg_thr)}", f"least={number(param.min_size)}",
        f"before={param.max_nms_num}", f"after={param.max_post_nms_num}", f"threshold={number(param.iou_thr)}",
        f"pixels={pixels}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"
