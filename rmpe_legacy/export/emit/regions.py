"""Regions of interest: their proposal, pooling inside them, and the boxes that come of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from rmpe_legacy.caffe.layers.cascade_boxes import centres
from rmpe_legacy.caffe.layers.nms_peaks import REACH

from ..onnx_graph import FLOAT, FLT_MAX, INT64
from .activation import accurate_sigmoid_onnx
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .detection import or_nothing_found
from .expressions import arguments, number, pair

_LOWEST = -float("inf")
_END = (1 << 63) - 1


def _columns(ctx: OnnxContext, x: str, *widths: int, axis: int = -1) -> list[str]:
    return ctx.graph.nodes_of("Split", [x, ctx.integers(list(widths))], len(widths), axis=axis)


def _table(ctx: OnnxContext, index: int, values: int) -> str:
    """Return a bottom as rows of so many values."""
    if len(ctx.bottom_shapes[index]) == 2:
        return ctx.x[index]
    return ctx.node("Reshape", ctx.x[index], ctx.integers([-1, values]))


def _regions(ctx: OnnxContext, index: int = 1) -> tuple[str, str]:
    """Return the image numbers (R, 1) and the corners (R, 4) of a bottom."""
    image, corners = _columns(ctx, _table(ctx, index, 5), 1, 4)
    return image, corners


def _extent(ctx: OnnxContext, boxes: str) -> tuple[str, str, str]:
    """Return the low and the high corner of boxes (.., 4), and what lies between, one more than the difference."""
    low, high = _columns(ctx, boxes, 2, 2)
    return low, high, ctx.node("Add", ctx.node("Sub", high, low), ctx.constant(1.0))


def _padded(ctx: OnnxContext, corners: str, ratio: float) -> str:
    if not ratio:
        return corners
    low, high, size = _extent(ctx, corners)
    pad = ctx.node("Mul", size, ctx.constant(ratio))
    return ctx.node("Concat", ctx.node("Sub", low, pad), ctx.node("Add", high, pad), axis=-1)


def _half_away(ctx: OnnxContext, x: str) -> str:
    """Round as C does: halves go away from 0."""
    rounded = ctx.node("Floor", ctx.node("Add", ctx.node("Abs", x), ctx.constant(0.5)))
    return ctx.node("Mul", ctx.node("Sign", x), rounded)


# --- pooling ------------------------------------------------------------------------------------------------------


@emits_onnx("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def roi_pooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if len(layer.pooled) != 2:
        raise ctx.refuse("regions in volumes are not supported")
    rois = _table(ctx, 1, 5)
    if layer.pad_ratio:
        image, corners = _regions(ctx)
        rois = ctx.node("Concat", image, _padded(ctx, corners, layer.pad_ratio), axis=1)
    ctx.output("MaxRoiPool", ctx.x[0], rois, pooled_shape=list(layer.pooled), spatial_scale=layer.scale)


@emits_python("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def roi_pooling_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if len(layer.pooled) != 2:
        raise ctx.refuse("regions in volumes are not supported")
    return ctx.call("roi_max_pool", arguments(*ctx.x, pair(layer.pooled), number(layer.scale),
                                              pad_ratio=(number(layer.pad_ratio), "0")))


@emits_onnx("PSROIPooling")
def psroi_pooling_onnx(ctx: OnnxContext) -> None:
    """Sum each bin by matrices of 0 and 1 that say which rows and columns it has."""
    layer, (_, h, w) = ctx.layer, ctx.size()
    group, dim = layer.group, layer.dim
    image, corners = _regions(ctx)
    low, high = _columns(ctx, _half_away(ctx, corners), 2, 2)
    scale = ctx.constant(layer.scale)
    begin = ctx.node("Mul", low, scale)
    size = ctx.node("Sub", ctx.node("Mul", ctx.node("Add", high, ctx.constant(1.0)), scale), begin)
    step = ctx.node("Div", ctx.node("Max", size, ctx.constant(0.1)), ctx.constant(float(group)))
    of_axis = [_columns(ctx, both, 1, 1) for both in (begin, step)]  # columns, then rows
    across, down = (_bins(ctx, of_axis[0][i], of_axis[1][i], group, extent) for i, extent in ((0, w), (1, h)))

    count = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", ctx.node("Shape", ctx.x[0], start=0, end=1)),
                     ctx.integers(1))
    own = ctx.node("Cast", ctx.node("Equal", ctx.node("Cast", image, to=INT64), count), to=FLOAT)  # (R, N)
    rows = ctx.node("Mul", ctx.node("Unsqueeze", own, ctx.integers([0, 3])),
                    ctx.node("Unsqueeze", ctx.node("Transpose", down, perm=[1, 0, 2]), ctx.integers([2])))
    rows = ctx.node("Reshape", rows, ctx.integers([0, 0, -1]))  # (group, R, N * H)
    maps = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, dim, group, group, h, w]))
    maps = ctx.node("Reshape", ctx.node("Transpose", maps, perm=[2, 0, 4, 1, 3, 5]),
                    ctx.integers([group, -1, dim * group * w]))
    sums = ctx.node("Reshape", ctx.node("MatMul", rows, maps), ctx.integers([0, 0, dim, group, w]))
    inside = ctx.node("Mul", sums, ctx.node("Unsqueeze", across, ctx.integers([0, 2])))
    total = ctx.node("Transpose", ctx.node("ReduceSum", inside, ctx.integers([4]), keepdims=0), perm=[1, 2, 0, 3])
    cells = [ctx.node("ReduceSum", mask, ctx.integers([2]), keepdims=0) for mask in (down, across)]
    area = ctx.node("Mul", ctx.node("Unsqueeze", cells[0], ctx.integers([1, 3])),
                    ctx.node("Unsqueeze", cells[1], ctx.integers([1, 2])))
    ctx.output("Div", total, ctx.node("Max", area, ctx.constant(1.0)))


def _bins(ctx: OnnxContext, begin: str, step: str, bins: int, extent: int) -> str:
    """Return 1 for the cells of an axis that lie in a bin, else 0: begin and step (R, 1) -> (R, bins, extent)."""
    first = ctx.node("Add", ctx.node("Mul", ctx.constant(np.arange(bins)), step), begin)
    last = ctx.node("Add", ctx.node("Mul", ctx.constant(np.arange(1, bins + 1)), step), begin)
    first, last = (ctx.node("Unsqueeze", ctx.node(op, x), ctx.integers([2]))
                   for op, x in (("Floor", first), ("Ceil", last)))
    cell = ctx.constant(np.arange(extent))
    return ctx.node("Cast", ctx.node("And", ctx.node("GreaterOrEqual", cell, first), ctx.node("Less", cell, last)),
                    to=FLOAT)


@emits_python("PSROIPooling")
def psroi_pooling_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("psroi_pool", *ctx.x, layer.dim, layer.group, number(layer.scale))


@emits_onnx("ROIAlign")
def roi_align_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    image, corners = _regions(ctx)
    corners = ctx.node("Sub", ctx.node("Mul", _padded(ctx, corners, layer.pad_ratio), ctx.constant(layer.scale)),
                       ctx.constant(0.5))
    low, high = _columns(ctx, corners, 2, 2)
    length = ctx.node("Sub", high, low)
    begins, lengths = (_columns(ctx, both, 1, 1) for both in (low, length))
    samples = [_samples(ctx, begins[1 - axis], lengths[1 - axis], bins, extent)
               for axis, (bins, extent) in enumerate(zip(layer.pooled, ctx.size()[1:], strict=True))]
    features = ctx.node("Transpose", ctx.x[0], perm=[0, 2, 3, 1])
    image = ctx.node("Unsqueeze", ctx.node("Cast", image, to=INT64), ctx.integers([2]))  # (R, 1, 1)
    (rows, down, seen_rows), (columns, across, seen_columns) = samples
    shape = ctx.node("Shape", ctx.node("Mul", ctx.node("Unsqueeze", down[0], ctx.integers([2])),
                                       ctx.node("Unsqueeze", across[0], ctx.integers([1]))))
    parts = []
    for i in range(2):
        for j in range(2):
            place = [image, ctx.node("Unsqueeze", rows[i], ctx.integers([2])),
                     ctx.node("Unsqueeze", columns[j], ctx.integers([1]))]
            spread = [ctx.node("Unsqueeze", ctx.node("Expand", p, shape), ctx.integers([3])) for p in place]
            weight = ctx.node("Mul", ctx.node("Unsqueeze", across[j], ctx.integers([1, 3])),
                              ctx.node("Unsqueeze", down[i], ctx.integers([2, 3])))
            parts.append(ctx.node("Mul", weight, ctx.node("GatherND", features,
                                                          ctx.node("Concat", *spread, axis=3))))
    value = ctx.node("Sum", *parts)
    has_size = ctx.node("Greater", ctx.node("ReduceMin", length, ctx.integers([1])), ctx.constant(0.0))  # (R, 1)
    inside = ctx.node("And", ctx.node("And", ctx.node("Unsqueeze", seen_rows, ctx.integers([2, 3])),
                                      ctx.node("Unsqueeze", seen_columns, ctx.integers([1, 3]))),
                      ctx.node("Unsqueeze", has_size, ctx.integers([2, 3])))
    ctx.output("Transpose", ctx.node("Where", inside, value, ctx.constant(0.0)), perm=[0, 3, 1, 2])


def _samples(ctx: OnnxContext, begin: str, length: str, bins: int, extent: int
             ) -> tuple[tuple[str, str], tuple[str, str], str]:
    """Return the two cells beside each point of an axis, their shares, and whether it is on the map: (R, bins + 1)."""
    step = ctx.node("Div", length, ctx.constant(float(bins)))
    at = ctx.node("Add", begin, ctx.node("Mul", ctx.constant(np.arange(bins + 1)), step))
    low, last = ctx.node("Floor", at), ctx.constant(extent - 1)
    near, far = (ctx.node("Clip", x, ctx.constant(0.0), last)
                 for x in (low, ctx.node("Add", low, ctx.constant(1.0))))
    share = ctx.node("Sub", ctx.node("Clip", at, ctx.constant(0.0), last), near)
    seen = ctx.node("And", ctx.node("GreaterOrEqual", at, ctx.constant(-0.5)),
                    ctx.node("LessOrEqual", at, ctx.constant(extent - 0.5)))
    cells = ctx.node("Cast", near, to=INT64), ctx.node("Cast", far, to=INT64)
    return cells, (ctx.node("Sub", ctx.constant(1.0), share), share), seen


@emits_python("ROIAlign")
def roi_align_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("roi_grid_sample", arguments(*ctx.x, pair(layer.pooled), number(layer.scale),
                                                 pad_ratio=(number(layer.pad_ratio), "0")))


# --- boxes --------------------------------------------------------------------------------------------------------


def _moved(ctx: OnnxContext, moves: str, low: str, size: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Return Cascade R-CNN's boxes: moves (.., 4) of corners and sizes that broadcast with (.., 2)."""
    moves = ctx.node("Add", ctx.node("Mul", moves, ctx.constant(std)), ctx.constant(mean))
    shift, stretch = _columns(ctx, moves, 2, 2)
    high = ctx.node("Sub", ctx.node("Add", low, size), ctx.constant(1.0))
    centre = ctx.node("Mul", ctx.constant(0.5), ctx.node("Add", high, low))
    sides = ctx.node("Mul", size, ctx.node("Exp", stretch))
    beyond = ctx.node("Sub", sides, ctx.constant(1.0))
    corner = ctx.node("Sub", ctx.node("Add", ctx.node("Mul", shift, size), centre),
                      ctx.node("Div", beyond, ctx.constant(2.0)))
    return ctx.node("Concat", corner, ctx.node("Sub", ctx.node("Add", corner, sides), ctx.constant(1.0)), axis=-1)


@emits_onnx("DecodeBBox")
def decode_bbox_onnx(ctx: OnnxContext) -> None:
    image, corners = _regions(ctx)
    low, _, size = _extent(ctx, corners)
    moves = _columns(ctx, _table(ctx, 0, 8), 4, 4)[1]
    boxes = _moved(ctx, moves, low, size, ctx.layer.mean.tolist(), ctx.layer.std.tolist())
    ctx.output("Unsqueeze", ctx.node("Concat", image, boxes, axis=1), ctx.integers([2, 3]))


@emits_python("DecodeBBox")
def decode_bbox_python(ctx: PythonContext) -> str:
    mean, std = ("[" + ", ".join(map(number, values.tolist())) + "]" for values in (ctx.layer.mean, ctx.layer.std))
    return ctx.call("move_regions", *ctx.x[:2], mean, std)


def _suppressed(ctx: OnnxContext, boxes: str, scores: str, most: int | str, limit: float, pixels: bool = True,
                centred: bool = False) -> str:
    """Return which boxes stay, best first, (K, 3) of image, class and place; scores of -inf do not count.

    Args:
        ctx: The layer.
        boxes: (images, P, 4).
        scores: (images, classes, P).
        most: How many of a class stay at most; or the name of that number.
        limit: A box goes if a better one overlaps it by more.
        pixels: Both ends of a box belong to it.
        centred: Boxes are centre and size.
    """
    if not 0 <= limit <= 1:
        raise ctx.refuse(f"an overlap of {limit:g}, which is not within 0 and 1")
    if pixels:
        low, high = _columns(ctx, boxes, 2, 2)
        boxes = ctx.node("Concat", low, ctx.node("Add", high, ctx.constant(1.0)), axis=-1)
    most = ctx.integers(most) if isinstance(most, int) else most
    return ctx.node("NonMaxSuppression", boxes, scores, most, ctx.constant([limit]), ctx.constant([-FLT_MAX]),
                    center_point_box=int(centred))


def _only(ctx: OnnxContext, kept: str, scores: str) -> str:
    """Return scores with -inf where not kept."""
    return ctx.node("Where", kept, scores, ctx.constant(_LOWEST))


def _last(ctx: OnnxContext, found: str) -> str:
    """Return the places (K) of what `_suppressed` found."""
    return ctx.node("Squeeze", _columns(ctx, found, 1, 1, 1)[2], ctx.integers([1]))


def _batched(ctx: OnnxContext, x: str, *axes: int) -> str:
    return ctx.node("Unsqueeze", x, ctx.integers(list(axes)))


@emits_onnx("Python=ProposalLayer")
def proposal_onnx(ctx: OnnxContext) -> None:
    layer, (channels, h, w) = ctx.layer, ctx.size()
    count, settings = channels // 2, layer.settings
    anchors = layer.shifted(h, w).astype(np.float32)
    size = anchors[:, 2:] - anchors[:, :2] + np.float32(1)
    centre = anchors[:, :2] + np.float32(0.5) * size
    shift, stretch = _columns(ctx, ctx.node("Reshape", ctx.node("Transpose", ctx.x[1], perm=[0, 2, 3, 1]),
                                            ctx.integers([-1, 4])), 2, 2)
    sizes = ctx.graph.parameter(f"{layer.spec.name}.sizes", size)
    middle = ctx.node("Add", ctx.node("Mul", shift, sizes),
                      ctx.graph.parameter(f"{layer.spec.name}.centres", centre))
    half = ctx.node("Mul", ctx.constant(0.5), ctx.node("Mul", ctx.node("Exp", stretch), sizes))
    boxes = ctx.node("Concat", ctx.node("Sub", middle, half), ctx.node("Add", middle, half), axis=-1)

    info = ctx.node("Reshape", ctx.x[2], ctx.integers([-1]))
    ends = ctx.node("Sub", ctx.node("Gather", info, ctx.integers([1, 0, 1, 0])), ctx.constant(1.0))
    boxes = ctx.node("Min", ctx.node("Max", boxes, ctx.constant(0.0)), ends)
    score = ctx.node("Slice", ctx.x[0], *map(ctx.integers, ([count], [channels], [1])))
    score = ctx.node("Reshape", ctx.node("Transpose", score, perm=[0, 2, 3, 1]), ctx.integers([-1]))
    least = ctx.node("Mul", ctx.node("Gather", info, ctx.integers([2])), ctx.constant(settings["RPN_MIN_SIZE"]))
    smaller = ctx.node("ReduceMin", _extent(ctx, boxes)[2], ctx.integers([1]), keepdims=0)
    score = _only(ctx, ctx.node("GreaterOrEqual", smaller, least), score)

    # Of equal scores the later anchor goes first; ONNX's operators take the first.
    turned = [ctx.integers([-1]), ctx.integers([-_END]), ctx.integers([0]), ctx.integers([-1])]
    boxes, score = (ctx.node("Slice", x, *turned) for x in (boxes, score))
    total, before = len(anchors), int(settings["RPN_PRE_NMS_TOP_N"])
    if 0 < before < total:
        score, place = ctx.graph.nodes_of("TopK", [score, ctx.integers([before])], 2, axis=0)
        boxes = ctx.node("Gather", boxes, place, axis=0)
    found = _suppressed(ctx, _batched(ctx, boxes, 0), _batched(ctx, score, 0, 1),
                        int(settings["RPN_POST_NMS_TOP_N"]) or total, settings["RPN_NMS_THRESH"])
    place = _last(ctx, found)
    ctx.output("Pad", ctx.node("Gather", boxes, place, axis=0), ctx.integers([0, 1, 0, 0]))  # of image 0
    if len(ctx.y) > 1:
        ctx.graph.node("Unsqueeze", [ctx.node("Gather", score, place, axis=0), ctx.integers([1])], [ctx.y[1]])


@emits_python("Python=ProposalLayer")
def proposal_python(ctx: PythonContext) -> str:
    layer, settings = ctx.layer, ctx.layer.settings
    anchors = ctx.writer.buffer(layer, torch.from_numpy(layer.shifted(*map(int, ctx.bottom_shapes[0][2:]))).float())
    call = ctx.call("propose", arguments(
        *ctx.x, anchors, f"before={settings['RPN_PRE_NMS_TOP_N']}", f"after={settings['RPN_POST_NMS_TOP_N']}",
        f"threshold={number(settings['RPN_NMS_THRESH'])}", f"least={settings['RPN_MIN_SIZE']}"))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"


@emits_onnx("ScaleRoute")
def scale_route_onnx(ctx: OnnxContext) -> None:
    least, end, middle = ctx.layer.limits()
    low, high, size = _extent(ctx, _regions(ctx, 0)[1])
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


@emits_onnx("BoxGroupOutput")
def box_group_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.param
    if param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {param.nms_type}; ONNX's NonMaxSuppression has IOU")
    images = ctx.shape()[0] // len(layer.groups[0].field_w)
    parts = [_of_group(ctx, i, images) for i in range(len(layer.groups))]
    boxes, scores = (ctx.node("Concat", *several, axis=1) for several in zip(*parts, strict=True))
    rows = ctx.node("Concat", *(_best(ctx, image, boxes, scores) for image in range(images)), axis=0)
    none = ctx.node("Cast", ctx.node("Equal", ctx.node("Shape", rows, start=0, end=1), ctx.integers([0])), to=INT64)
    empty = ctx.node("Expand", ctx.constant([[0.0, 1.0, 1.0, 10.0, 10.0, 0.0]]),
                     ctx.node("Concat", none, ctx.integers([6]), axis=0))
    rows = ctx.node("Concat", rows, empty, axis=0)
    ctx.output("Unsqueeze", _columns(ctx, rows, 5, 1)[0], ctx.integers([2, 3]))
    if len(ctx.y) > 1:  # as published, that of nothing found is all 0
        some = ctx.node("Sub", ctx.constant(1.0), ctx.node("Cast", none, to=FLOAT))
        ctx.graph.node("Unsqueeze", [ctx.node("Mul", rows, some), ctx.integers([2, 3])], [ctx.y[1]])


def _of_group(ctx: OnnxContext, index: int, images: int) -> tuple[str, str]:
    """Return the boxes (images, P, 4) and scores (images, P) of one pair of bottoms; -inf for those that go."""
    layer, group, param = ctx.layer, ctx.layer.groups[index], ctx.layer.param
    probability, moves = ctx.x[2 * index], ctx.x[2 * index + 1]
    h, w = ctx.size(2 * index)[1:]
    fields = np.array(list(zip(group.field_w, group.field_h, strict=True)) * images, np.float32)
    x, y = centres(h, w, group.stride, torch.zeros(()))
    mean, std = (ctx.constant(values.reshape(1, 4, 1, 1).numpy()) for values in (layer.mean, layer.std))
    moves = ctx.node("Add", ctx.node("Mul", moves, std), mean)
    of_axis = _columns(ctx, moves, 1, 1, 1, 1, axis=1)
    low, high = [], []
    for axis, at in enumerate((x.reshape(1, 1, 1, w), y.reshape(1, 1, h, 1))):
        field = ctx.constant(fields[:, axis].reshape(-1, 1, 1, 1))
        near, far, small, large = map(ctx.constant, layer.limits)
        middle = ctx.node("Add", ctx.node("Mul", ctx.node("Clip", of_axis[axis], near, far), field),
                          ctx.constant(at.numpy()))
        size = ctx.node("Mul", field, ctx.node("Exp", ctx.node("Clip", of_axis[2 + axis], small, large)))
        begin = ctx.node("Sub", middle, ctx.node("Div", size, ctx.constant(2.0)))
        end = ctx.node("Sub", ctx.node("Add", begin, size), ctx.constant(1.0))
        low.append(ctx.node("Max", begin, ctx.constant(0.0)))
        high.append(ctx.node("Min", end, ctx.constant(float((w, h)[axis] * group.stride))))
    boxes = ctx.node("Transpose", ctx.node("Concat", *low, *high, axis=1), perm=[0, 2, 3, 1])
    boxes = ctx.node("Reshape", boxes, ctx.integers([images, -1, 4]))
    first = ctx.node("Slice", probability, *map(ctx.integers, ([0], [1], [1])))
    score = ctx.node("Reshape", ctx.node("Sub", ctx.constant(1.0), first), ctx.integers([images, -1]))
    smaller = ctx.node("ReduceMin", _extent(ctx, boxes)[2], ctx.integers([2]), keepdims=0)
    good = ctx.node("And", ctx.node("GreaterOrEqual", score, ctx.constant(param.fg_thr)),
                    ctx.node("GreaterOrEqual", smaller, ctx.constant(param.min_size)))
    return boxes, _only(ctx, good, score)


def _best(ctx: OnnxContext, image: int, boxes: str, scores: str) -> str:
    """Return the rows (K, 6) of image, box and score that stay of one image."""
    param = ctx.layer.param
    boxes, scores = (ctx.node("Gather", x, ctx.integers(image), axis=0) for x in (boxes, scores))
    total = sum(ctx.shape(i)[0] * ctx.size(i)[1] * ctx.size(i)[2] for i in range(0, len(ctx.x), 2))
    if 0 < param.max_nms_num < total // ctx.shape()[0] * len(ctx.layer.groups[0].field_w):
        scores, place = ctx.graph.nodes_of("TopK", [scores, ctx.integers([param.max_nms_num])], 2, axis=0)
        boxes = ctx.node("Gather", boxes, place, axis=0)
    found = _suppressed(ctx, _batched(ctx, boxes, 0), _batched(ctx, scores, 0, 1), param.max_post_nms_num or total,
                        param.iou_thr)
    place = _last(ctx, found)
    chosen = ctx.node("Concat", ctx.node("Gather", boxes, place, axis=0),
                      _batched(ctx, ctx.node("Gather", scores, place, axis=0), 1), axis=1)
    return ctx.node("Pad", chosen, ctx.integers([0, 1, 0, 0]), ctx.constant(float(image)))


@emits_onnx("FrcnnOutput")
def frcnn_output_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.param
    if param.nms_type != "IOU":
        raise ctx.refuse(f"nms_type {param.nms_type}; ONNX's NonMaxSuppression has IOU")
    classes = ctx.size()[0]
    scores = _columns(ctx, _table(ctx, 0, classes), 1, classes - 1)[1]
    regions = ctx.node("Slice", ctx.node("Flatten", ctx.x[2]), *map(ctx.integers, ([1], [5], [1])))
    low, _, size = _extent(ctx, regions)
    moves = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, classes if layer.aware else 2, 4]))
    boxes = _moved(ctx, moves, _batched(ctx, low, 1), _batched(ctx, size, 1), layer.mean.tolist(),
                   layer.std.tolist())
    corner, end = _columns(ctx, boxes, 2, 2)
    limit = ctx.node("Gather", ctx.node("Reshape", ctx.x[3], ctx.integers([-1])), ctx.integers([1, 0]))
    boxes = ctx.node("Concat", ctx.node("Max", corner, ctx.constant(0.0)), ctx.node("Min", end, limit), axis=-1)
    boxes = ctx.node("Transpose", boxes, perm=[1, 0, 2])
    boxes = ctx.node("Slice", boxes, *map(ctx.integers, ([1], [_END], [0])))  # (classes - 1, R, 4), or (1, R, 4)
    scores = _only(ctx, ctx.node("GreaterOrEqual", scores, ctx.constant(param.conf_thr)), scores)
    scores = ctx.node("Transpose", scores, perm=[1, 0])
    most = ctx.node("Shape", ctx.x[0], start=0, end=1)
    found = _suppressed(ctx, boxes, _batched(ctx, scores, 1 if layer.aware else 0), most, param.iou_thr)
    image, label, place = _columns(ctx, found, 1, 1, 1)
    label, box = (image, ctx.node("Concat", image, place, axis=1)) if layer.aware else (
        label, ctx.node("Concat", image, place, axis=1))
    score = ctx.node("GatherND", scores, ctx.node("Concat", label, place, axis=1))
    rows = ctx.node("Concat", ctx.node("GatherND", boxes, box),
                    ctx.node("Cast", ctx.node("Add", label, ctx.integers(1)), to=FLOAT), _batched(ctx, score, 1),
                    axis=1)
    if param.max_det_num:
        count = ctx.node("Min", ctx.node("Shape", rows, start=0, end=1), ctx.integers([param.max_det_num]))
        best = ctx.graph.nodes_of("TopK", [score, count], 2, axis=0)[1]
        rows = ctx.node("Gather", rows, ctx.graph.nodes_of("TopK", [best, count], 2, axis=0, largest=0)[0], axis=0)
    rows = ctx.node("Concat", ctx.constant([[0.0, *[-1.0] * 6]]), ctx.node("Pad", rows, ctx.integers([0, 1, 0, 0])),
                    axis=0)
    ctx.output("Unsqueeze", rows, ctx.integers([2, 3]))


@emits_onnx("YoloDetectionOutput", "Yolov3DetectionOutput")
def yolo_output_onnx(ctx: OnnxContext) -> None:
    """All images together; a box goes if a better one overlaps it by nms_threshold or more."""
    layer = ctx.layer
    parts = [_yolo_boxes(ctx, i) for i in range(len(ctx.x))]
    boxes, scores, labels = (parts[0][i] if len(parts) == 1 else
                             ctx.node("Concat", *(part[i] for part in parts), axis=0) for i in range(3))
    limit = float(np.nextafter(np.float32(layer.nms), np.float32(-1)))
    total = ctx.node("Shape", scores, start=0, end=1)
    place = _last(ctx, _suppressed(ctx, _batched(ctx, boxes, 0), _batched(ctx, scores, 0, 1), total, min(limit, 1.0),
                                   pixels=False, centred=True))
    middle, size = _columns(ctx, ctx.node("Gather", boxes, place, axis=0), 2, 2)
    half = ctx.node("Div", size, ctx.constant(2.0))
    label, score = (_batched(ctx, ctx.node("Gather", x, place, axis=0), 1) for x in (labels, scores))
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
    x, y, size, whole, scores = _columns(ctx, ctx.node("Transpose", x, perm=[0, 3, 4, 1, 2]), 1, 1, 2, 1,
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
        boxes = ctx.node("Expand", _batched(ctx, boxes, 4), shape)
        label = ctx.node("Expand", ctx.constant(np.arange(layer.classes)), ctx.node("Shape", score))
    else:
        probability = ctx.node("Softmax", scores, axis=-1)
        score = ctx.node("Mul", whole, ctx.node("ReduceMax", probability, ctx.integers([4])))
        label = ctx.node("Cast", ctx.node("ArgMax", probability, axis=4), to=FLOAT)
        kept = ctx.node("GreaterOrEqual", score, ctx.constant(layer.threshold))
    return (ctx.node("Reshape", boxes, ctx.integers([-1, 4])), ctx.node("Reshape", _only(ctx, kept, score), flat),
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


# --- peaks --------------------------------------------------------------------------------------------------------


@emits_onnx("Nms")
def peaks_onnx(ctx: OnnxContext) -> None:
    """As the layer, in the order of rows; all places of the memory are numbers in one row of values."""
    layer, (n, _, h, w) = ctx.layer, ctx.shape()
    parts, most = layer.parts, layer.most
    memory = ctx.node("Reshape", ctx.x[0], ctx.integers([-1]))
    beyond = max(0, w - h + 1) * w + REACH * w
    memory = ctx.node("Pad", memory, ctx.integers([0, beyond]))
    maps = ctx.node("Slice", memory, *map(ctx.integers, ([0], [n * parts * h * w], [0])))
    maps = ctx.node("Reshape", maps, ctx.integers([n, parts, h, w]))
    peak = _is_peak(ctx, maps, layer.threshold, h, w)
    counted = ctx.node("ReduceSum", ctx.node("Cast", peak, to=FLOAT), ctx.integers([2, 3]))

    order = -np.arange(h * w, dtype=np.float32)  # the first peak is the largest
    if h * w > 1 << 24:
        raise ctx.refuse("maps of more than 2^24 places")
    flat = ctx.node("Reshape", peak, ctx.integers([n, parts, h * w]))
    key = ctx.node("Where", flat, ctx.constant(order), ctx.constant(-2.0 * h * w))
    taken = min(most, h * w)
    place = ctx.graph.nodes_of("TopK", [key, ctx.integers([taken])], 2, axis=2)[1]
    found = ctx.node("Unsqueeze", ctx.node("GatherElements", flat, place, axis=2), ctx.integers([3]))
    rows = ctx.node("Where", found, _centroids(ctx, memory, place, n, parts, h, w), ctx.constant(0.0))
    rows = ctx.node("Pad", rows, ctx.integers([0, 0, 0, 0, 0, 0, most - taken, 0]))
    count = ctx.node("Pad", counted, ctx.integers([0, 0, 0, 0, 0, 0, 0, 2]))
    ctx.output("Concat", count, rows, axis=2)


def _is_peak(ctx: OnnxContext, maps: str, threshold: float, h: int, w: int) -> str:
    around = ctx.node("Pad", maps, ctx.integers([0, 0, 1, 1, 0, 0, 1, 1]), ctx.constant(float("inf")))
    peak = ctx.node("Greater", maps, ctx.constant(threshold))
    for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)):
        beside = ctx.node("Slice", around, *map(ctx.integers, ([dy, dx], [dy + h, dx + w], [2, 3])))
        peak = ctx.node("And", peak, ctx.node("Greater", maps, beside))
    return peak


def _centroids(ctx: OnnxContext, memory: str, place: str, n: int, parts: int, h: int, w: int) -> str:
    """Return x, y and value (n, parts, K, 3) of peaks at places (n, parts, K) of their maps."""
    steps = np.arange(-REACH, REACH + 1)
    begin = ctx.integers((np.arange(n * parts) * h * w).reshape(n, parts, 1))
    row, column = (ctx.node("Unsqueeze", x, ctx.integers([3, 4]))
                   for x in (ctx.node("Div", place, ctx.integers(w)), ctx.node("Mod", place, ctx.integers(w))))
    rows = ctx.node("Add", row, ctx.integers(steps.reshape(-1, 1)))
    columns = ctx.node("Add", column, ctx.integers(steps.reshape(1, -1)))
    counts = [ctx.node("And", ctx.node("Greater", x, ctx.integers(0)), ctx.node("Less", x, ctx.integers(w)))
              for x in (rows, columns)]
    index = ctx.node("Add", ctx.node("Mul", rows, ctx.integers(w)), columns)
    index = ctx.node("Add", index, ctx.node("Unsqueeze", begin, ctx.integers([3, 4])))
    inside = ctx.node("And", *counts)
    index = ctx.node("Where", inside, index, ctx.integers(0))
    around = ctx.node("Max", ctx.node("Gather", memory, index, axis=0), ctx.constant(0.0))
    around = ctx.node("Where", inside, around, ctx.constant(0.0))
    axes = ctx.integers([3, 4])
    total = ctx.node("ReduceSum", around, axes, keepdims=0)
    middle = [ctx.node("Div", ctx.node("ReduceSum", ctx.node("Mul", around, ctx.node("Cast", x, to=FLOAT)), axes,
                                       keepdims=0), total) for x in (columns, rows)]
    value = ctx.node("Gather", memory, ctx.node("Add", place, begin), axis=0)
    return ctx.node("Concat", *(ctx.node("Unsqueeze", x, ctx.integers([3])) for x in (*middle, value)), axis=3)


@emits_onnx("Maximum")
def maximum_onnx(ctx: OnnxContext) -> None:
    w = ctx.size()[2]
    flat = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1]))
    least = ctx.constant(float(np.finfo(np.float32).tiny))
    value = ctx.node("ReduceMax", flat, ctx.integers([2]))
    found = ctx.node("Greater", value, least)
    at = ctx.node("Where", found, ctx.node("ArgMax", flat, axis=2), ctx.integers(0))
    x, y = (ctx.node("Cast", ctx.node(op, at, ctx.integers(w)), to=FLOAT) for op in ("Mod", "Div"))
    ctx.output("Unsqueeze", ctx.node("Concat", x, y, ctx.node("Where", found, value, least), axis=2),
               ctx.integers([2]))


@emits_python("Maximum")
def maximum_python(ctx: PythonContext) -> str:
    return ctx.call("peak_of_planes", ctx.x[0])
