"""Pooling inside regions of interest."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import FLOAT, INT64
from .boxes import finite_regions, half_away, padded, split, table
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, pair, reshape_arguments
from .flow import interpolated

_FAR = 2.0**29  # no map is as large, and twice as much is still an int


@emits_onnx("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def roi_pooling_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if len(layer.pooled) != 2:
        raise ctx.refuse("regions in volumes are not supported")
    image, corners = finite_regions(ctx)
    rois = ctx.node("Concat", image, _as_ints(ctx, padded(ctx, corners, layer.pad_ratio)), axis=1)
    ctx.output("MaxRoiPool", ctx.x[0], rois, pooled_shape=list(layer.pooled), spatial_scale=layer.scale)


def _as_ints(ctx: OnnxContext, corners: str) -> str:
    """Return corners that are ints once they are scaled: far from the map if one of the region is nan.

    ONNX leaves the conversion open, as C does.
    """
    far = _FAR / max(1.0, ctx.layer.scale)
    lost = ctx.node("IsNaN", ctx.node("ReduceSum", corners, ctx.integers([1])))
    near = ctx.node("Clip", corners, ctx.constant(-far), ctx.constant(far))
    return ctx.node("Where", lost, ctx.constant([-far] * 4), near)


@emits_python("ROIPooling=rcnn", "ROIPooling=cascade", "ROIPooling=mscnn", "ROIPooling=intel")
def roi_pooling_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if len(layer.pooled) != 2:
        raise ctx.refuse("regions in volumes are not supported")
    return ctx.call("roi_max_pool", arguments(*ctx.x, pair(layer.pooled), number(layer.scale),
                                              pad_ratio=(number(layer.pad_ratio), "0")))


@emits_onnx("ROIPooling=r-c3d")
def span_pooling_onnx(ctx: OnnxContext) -> None:
    """Pool the bins of rows and columns, which are the same for each span, as channels of one column."""
    layer, (channels, length, *plane) = ctx.layer, ctx.size()
    x = ctx.x[0]
    for axis, bins in enumerate(layer.plane_bins(plane), 3):
        x = ctx.node("Concat", *(_bin(ctx, x, axis, *ends) for ends in bins), axis=axis)
    x = ctx.node("Reshape", ctx.node("Transpose", x, perm=[0, 1, 3, 4, 2]), ctx.integers([0, -1, length, 1]))
    video, begin, end = split(ctx, table(ctx, 1, 3), 1, 1, 1)
    zero = ctx.node("Mul", ctx.node("Add", begin, end), ctx.constant(0.0))  # nan for a span without an end
    corners = ctx.node("Concat", zero, begin, zero, end, axis=1)
    rois = ctx.node("Concat", video, _as_ints(ctx, corners), axis=1)
    steps, *pooled = layer.pooled
    top = ctx.node("MaxRoiPool", x, rois, pooled_shape=[steps, 1], spatial_scale=layer.scale)
    top = ctx.node("Reshape", top, ctx.integers([-1, channels, *pooled, steps]))
    ctx.output("Transpose", top, perm=[0, 1, 4, 2, 3])


def _bin(ctx: OnnxContext, x: str, axis: int, begin: int, end: int) -> str:
    """Return the largest values between two places of an axis; 0 if there are none."""
    if begin >= end:
        return ctx.node("Mul", ctx.node("Slice", x, *map(ctx.integers, ([0], [1], [axis]))), ctx.constant(0.0))
    part = ctx.node("Slice", x, *map(ctx.integers, ([begin], [end], [axis])))
    return ctx.node("ReduceMax", part, ctx.integers([axis]))


@emits_python("ROIPooling=r-c3d")
def span_pooling_python(ctx: PythonContext) -> str:
    return ctx.call("span_max_pool", *ctx.x, pair(ctx.layer.pooled), number(ctx.layer.scale))


@emits_onnx("PSROIPooling")
def psroi_pooling_onnx(ctx: OnnxContext) -> None:
    """Sum each bin by matrices of 0 and 1 that say which rows and columns it has."""
    layer, (_, h, w) = ctx.layer, ctx.size()
    group = layer.group
    image, corners = finite_regions(ctx)
    low, high = split(ctx, half_away(ctx, corners), 2, 2)
    scale = ctx.constant(layer.scale)
    begin = ctx.node("Mul", low, scale)
    size = ctx.node("Sub", ctx.node("Mul", ctx.node("Add", high, ctx.constant(1.0)), scale), begin)
    step = ctx.node("Div", ctx.node("Max", size, ctx.constant(0.1)), ctx.constant(float(group)))
    of_axis = [split(ctx, both, 1, 1) for both in (begin, step)]  # columns, then rows
    across, down = (_bins(ctx, of_axis[0][i], of_axis[1][i], group, extent) for i, extent in ((0, w), (1, h)))

    total = _weighted_sums(ctx, image, down, across)
    cells = [ctx.node("ReduceSum", mask, ctx.integers([2]), keepdims=0) for mask in (down, across)]
    area = ctx.node("Mul", ctx.node("Unsqueeze", cells[0], ctx.integers([1, 3])),
                    ctx.node("Unsqueeze", cells[1], ctx.integers([1, 2])))
    ctx.output("Div", total, ctx.node("Max", area, ctx.constant(1.0)))


def _weighted_sums(ctx: OnnxContext, image: str, down: str, across: str) -> str:
    """Return the sums of each bin, of the channels that belong to it, (R, dim, group, group).

    Args:
        ctx: The layer.
        image: Each region's image, (R, 1).
        down: How much each row of the map counts in each row of bins, (R, group, H).
        across: The same for columns, (R, group, W).
    """
    layer, (_, h, w) = ctx.layer, ctx.size()
    group, dim = layer.group, layer.dim
    count = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", ctx.node("Shape", ctx.x[0], start=0, end=1)),
                     ctx.integers(1))
    own = ctx.node("Cast", ctx.node("Equal", ctx.node("Cast", image, to=INT64), count), to=FLOAT)  # (R, N)
    rows = ctx.node("Mul", ctx.node("Unsqueeze", own, ctx.integers([0, 3])),
                    ctx.node("Unsqueeze", ctx.node("Transpose", down, perm=[1, 0, 2]), ctx.integers([2])))
    images = ctx.bottom_shapes[0][0]
    if isinstance(images, int):
        every_row = ctx.integers([images * h])
    else:
        every_row = ctx.node("Mul", ctx.sizes_of(ctx.x[0], 0, 1), ctx.integers([h]))
    target = ctx.node("Concat", ctx.integers([group, -1]), every_row, axis=0)  # -1: there may be 0 regions
    rows = ctx.node("Reshape", rows, target)  # (group, R, N * H)
    maps = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, dim, group, group, h, w]))
    maps = ctx.node("Reshape", ctx.node("Transpose", maps, perm=[2, 0, 4, 1, 3, 5]),
                    ctx.integers([group, -1, dim * group * w]))
    sums = ctx.node("Reshape", ctx.node("MatMul", rows, maps), ctx.integers([0, 0, dim, group, w]))
    inside = ctx.node("Mul", sums, ctx.node("Unsqueeze", across, ctx.integers([0, 2])))
    return ctx.node("Transpose", ctx.node("ReduceSum", inside, ctx.integers([4]), keepdims=0), perm=[1, 2, 0, 3])


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


@emits_onnx("PSROIAlign")
def psroi_align_onnx(ctx: OnnxContext) -> None:
    """Sum each bin by matrices of how much the rows and columns count that lie beside its samples."""
    layer, (_, h, w) = ctx.layer, ctx.size()
    image, corners = finite_regions(ctx)
    low, high = split(ctx, corners, 2, 2)
    scale = ctx.constant(layer.scale)
    begin = ctx.node("Mul", low, scale)
    size = ctx.node("Sub", ctx.node("Mul", ctx.node("Add", high, ctx.constant(1.0)), scale), begin)
    step = ctx.node("Div", ctx.node("Max", size, ctx.constant(0.1)), ctx.constant(float(layer.group)))
    of_axis = [split(ctx, both, 1, 1) for both in (begin, step)]  # columns, then rows
    across, down = (_shares(ctx, of_axis[0][i], of_axis[1][i], extent) for i, extent in ((0, w), (1, h)))
    ctx.output("Div", _weighted_sums(ctx, image, down, across), ctx.constant(float(layer.samples**2)))


def _shares(ctx: OnnxContext, begin: str, step: str, extent: int) -> str:
    """Return how much each cell of an axis counts in each bin: begin and step (R, 1) -> (R, bins, extent)."""
    bins, samples = ctx.layer.group, ctx.layer.samples
    zero, one, last_cell = (ctx.constant(float(v)) for v in (0, 1, extent - 1))
    first, last = (ctx.node("Unsqueeze", ctx.node("Clip", ctx.node("Add", ctx.node(
        "Mul", ctx.constant(np.arange(bins) + i), step), begin), zero, last_cell), ctx.integers([2])) for i in (0, 1))
    gap = ctx.node("Unsqueeze", ctx.node("Div", step, ctx.constant(float(samples + 1))), ctx.integers([2]))
    at = ctx.node("Add", first, ctx.node("Mul", ctx.constant(np.arange(1, samples + 1)), gap))  # (R, bins, samples)
    counts = ctx.node("And", ctx.node("Less", at, last), ctx.node("Greater", last, first))
    apart = ctx.node("Abs", ctx.node("Sub", ctx.node("Unsqueeze", at, ctx.integers([3])),
                                     ctx.constant(np.arange(extent))))
    share = ctx.node("Max", ctx.node("Sub", one, apart), zero)
    share = ctx.node("Where", ctx.node("Unsqueeze", counts, ctx.integers([3])), share, zero)
    return ctx.node("ReduceSum", share, ctx.integers([2]), keepdims=0)


@emits_python("PSROIAlign")
def psroi_align_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("psroi_align", *ctx.x, layer.dim, layer.group, layer.samples, number(layer.scale))


@emits_onnx("MaskPooling")
def mask_pooling_onnx(ctx: OnnxContext) -> None:
    n, _, *plane = ctx.top_shapes[0]
    shapes = ctx.top_shapes[0], (n, 1, *plane)
    ctx.output("Mul", *(x if have == want else ctx.graph.reshape(x, have, want)
                        for x, have, want in zip(ctx.x, ctx.bottom_shapes, shapes, strict=True)))


@emits_python("MaskPooling")
def mask_pooling_python(ctx: PythonContext) -> str:
    n, _, *plane = ctx.top_shapes[0]
    shapes = ctx.top_shapes[0], (n, 1, *plane)
    return " * ".join(x if have == want else f"{x}.reshape({reshape_arguments(x, have, want)})"
                      for x, have, want in zip(ctx.x, ctx.bottom_shapes, shapes, strict=True))


@emits_onnx("MaskResize")
def mask_resize_onnx(ctx: OnnxContext) -> None:
    rows, columns = ctx.layer.sides(ctx.size()[1:])
    ctx.output("MatMul", ctx.constant(rows.numpy()), ctx.node("MatMul", ctx.x[0], ctx.constant(columns.t().numpy())))


@emits_python("MaskResize")
def mask_resize_python(ctx: PythonContext) -> str:
    rows, columns = ctx.layer.sides(ctx.plane())
    return interpolated(ctx, rows, columns.t())


@emits_onnx("MultiROIPooling")
def multi_roi_pooling_onnx(ctx: OnnxContext) -> None:
    """Read the places of each part in the map with a margin of a part's size, which is where they all are."""
    (h, w), (_, *plane) = ctx.layer.pooled, ctx.size()
    wide = ctx.node("Transpose", ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, h, w] * 2)), perm=[0, 2, 3, 1])
    points = ctx.node("Mul", ctx.x[1], ctx.constant(ctx.layer.spec.get("multi_roi_pooling_param").spatial_scale))
    corner = half_away(ctx, ctx.node("Sub", points, ctx.constant([w // 2, h // 2])))
    corner = ctx.node("Min", ctx.node("Max", corner, ctx.constant([-w, -h])), ctx.constant(plane[::-1]))
    begin = ctx.node("Add", ctx.node("Cast", corner, to=INT64), ctx.integers([w, h]))  # (N, points, 2)
    for i, y in enumerate(ctx.y):
        column, row = split(ctx, ctx.node("Gather", begin, ctx.integers([i]), axis=1), 1, 1)  # (N, 1, 1)
        places = [ctx.node("Add", row, ctx.integers(np.arange(h)[:, None] * np.ones((1, w)))),
                  ctx.node("Add", column, ctx.integers(np.arange(w) * np.ones((h, 1))))]
        part = ctx.node("GatherND", wide, ctx.node("Concat", *(ctx.node("Unsqueeze", place, ctx.integers([3]))
                                                               for place in places), axis=3), batch_dims=1)
        ctx.graph.node("Transpose", [part], [y], perm=[0, 3, 1, 2])


@emits_python("MultiROIPooling")
def multi_roi_pooling_python(ctx: PythonContext) -> str:
    scale = ctx.layer.spec.get("multi_roi_pooling_param").spatial_scale
    call = ctx.call("parts_around", *ctx.x, pair(ctx.layer.pooled), number(scale))
    return call if len(ctx.top_shapes) > 1 else f"{call}[0]"
