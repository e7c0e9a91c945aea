"""Features interpolated at points of regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.caffe.layers.base import FLT_MAX
from rmpe_legacy.caffe.layers.roi_align_sampled import POINTS, SAMPLES

from ..onnx_graph import DOUBLE, FLOAT, INT64
from .boxes import finite_regions, half_away, padded, split
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, numbers, pair


@emits_onnx("ROIAlign")
def roi_align_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    image, corners = finite_regions(ctx)
    corners = ctx.node("Sub", ctx.node("Mul", padded(ctx, corners, layer.pad_ratio), ctx.constant(layer.scale)),
                       ctx.constant(0.5))
    low, high = split(ctx, corners, 2, 2)
    length = ctx.node("Sub", high, low)
    has_size = ctx.node("Greater", ctx.node("ReduceMin", length, ctx.integers([1])), ctx.constant(0.0))  # (R, 1)
    _sample(ctx, image, _grid(ctx, low, length, layer.pooled, [bins + 1 for bins in layer.pooled]), has_size)


@emits_onnx("ROIWarping")
def roi_warping_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    image, corners = finite_regions(ctx)
    low, high = split(ctx, half_away(ctx, ctx.node("Mul", corners, ctx.constant(layer.scale))), 2, 2)
    length = ctx.node("Max", ctx.node("Sub", high, low), ctx.constant(0.0))
    _sample(ctx, image, _grid(ctx, low, length, layer.size, layer.size))


@emits_python("ROIWarping")
def roi_warping_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("roi_warp", *ctx.x, pair(layer.size), number(layer.scale))


@dataclass(frozen=True)
class _Points:
    """Names of what is known of points along an axis of the map, (R, points) each.

    Attributes:
        cells: The cells on both sides of each point.
        shares: How much each of these counts.
        seen: Which points have a value other than 0.
    """

    cells: tuple[str, str]
    shares: tuple[str, str]
    seen: str


def _sample(ctx: OnnxContext, image: str, points: Sequence[_Points], valid: str | None = None) -> None:
    """Write the top: features, interpolated at rows and columns of points in each region; 0 where none is seen.

    Args:
        ctx: The layer.
        image: Each region's image, (R, 1).
        points: Those of the rows and of the columns.
        valid: Which regions have values other than 0, (R, 1); all if None.
    """
    features = ctx.node("Transpose", ctx.x[0], perm=[0, 2, 3, 1])
    image = ctx.node("Unsqueeze", ctx.node("Cast", image, to=INT64), ctx.integers([2]))  # (R, 1, 1)
    rows, columns = points
    shape = ctx.node("Shape", ctx.node("Mul", ctx.node("Unsqueeze", rows.shares[0], ctx.integers([2])),
                                       ctx.node("Unsqueeze", columns.shares[0], ctx.integers([1]))))
    parts = []
    for i in range(2):
        for j in range(2):
            place = [image, ctx.node("Unsqueeze", rows.cells[i], ctx.integers([2])),
                     ctx.node("Unsqueeze", columns.cells[j], ctx.integers([1]))]
            spread = [ctx.node("Unsqueeze", ctx.node("Expand", p, shape), ctx.integers([3])) for p in place]
            weight = ctx.node("Mul", ctx.node("Unsqueeze", columns.shares[j], ctx.integers([1, 3])),
                              ctx.node("Unsqueeze", rows.shares[i], ctx.integers([2, 3])))
            parts.append(ctx.node("Mul", weight, ctx.node("GatherND", features,
                                                          ctx.node("Concat", *spread, axis=3))))
    value = ctx.node("Sum", *parts)
    inside = ctx.node("And", ctx.node("Unsqueeze", rows.seen, ctx.integers([2, 3])),
                      ctx.node("Unsqueeze", columns.seen, ctx.integers([1, 3])))
    if valid is not None:
        inside = ctx.node("And", inside, ctx.node("Unsqueeze", valid, ctx.integers([2, 3])))
    ctx.output("Transpose", ctx.node("Where", inside, value, ctx.constant(0.0)), perm=[0, 3, 1, 2])


def _grid(ctx: OnnxContext, begin: str, length: str, bins: Sequence[int], points: Sequence[int]) -> list[_Points]:
    """Return rows and columns of points from `begin` (R, 2) on, columns first, in steps of `length` (R, 2) / bins."""
    begins, lengths = (split(ctx, both, 1, 1) for both in (begin, length))
    return [_along(ctx, begins[1 - axis], lengths[1 - axis], bins[axis], points[axis], size)
            for axis, size in enumerate(ctx.size()[1:])]


def _along(ctx: OnnxContext, begin: str, length: str, bins: int, points: int, size: int) -> _Points:
    step = ctx.node("Div", length, ctx.constant(float(bins)))
    at = ctx.node("Add", begin, ctx.node("Mul", ctx.constant(np.arange(points)), step))
    seen = _is_on_map(ctx, at, size)
    at = ctx.node("Where", seen, at, ctx.constant(0.0))  # nan is no place
    low, last = ctx.node("Floor", at), ctx.constant(size - 1)
    near, far = (ctx.node("Clip", x, ctx.constant(0.0), last)
                 for x in (low, ctx.node("Add", low, ctx.constant(1.0))))
    share = ctx.node("Sub", ctx.node("Clip", at, ctx.constant(0.0), last), near)
    cells = ctx.node("Cast", near, to=INT64), ctx.node("Cast", far, to=INT64)
    return _Points(cells, (ctx.node("Sub", ctx.constant(1.0), share), share), seen)


def _is_on_map(ctx: OnnxContext, at: str, size: int) -> str:
    """Return which points are at most half a pixel beyond the pixels of an axis; none that is nan."""
    return ctx.node("And", ctx.node("GreaterOrEqual", at, ctx.constant(-0.5)),
                    ctx.node("LessOrEqual", at, ctx.constant(size - 0.5)))


@emits_python("ROIAlign")
def roi_align_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    return ctx.call("roi_grid_sample", arguments(*ctx.x, pair(layer.pooled), number(layer.scale),
                                                 pad_ratio=(number(layer.pad_ratio), "0")))


@emits_onnx("ROIAlignment")
def roi_alignment_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    image, corners = finite_regions(ctx)
    corner = split(ctx, ctx.node("Mul", corners, ctx.constant(layer.scale)), 1, 1, 1, 1)
    points = [_in_the_middle(ctx, corner[1 - axis], corner[3 - axis], bins, size)
              for axis, (bins, size) in enumerate(zip(layer.pooled, ctx.size()[1:], strict=True))]
    _sample(ctx, image, points)


def _in_the_middle(ctx: OnnxContext, first: str, last: str, bins: int, size: int) -> _Points:
    """Return the middles of bins of regions (R, 1) that are cut at the map."""
    one, least, most = (ctx.constant(float(v)) for v in (1, 0, size - 1))
    step = ctx.node("Div", ctx.node("Max", ctx.node("Add", ctx.node("Sub", last, first), one), one),
                    ctx.constant(float(bins)))
    edges = ctx.node("Add", ctx.node("Mul", ctx.constant(np.arange(bins + 1)), step), first)
    begin, end = (ctx.node("Min", ctx.node("Max", ctx.node("Gather", edges, ctx.integers(np.arange(bins) + i), axis=1),
                                           least), most) for i in (0, 1))
    seen = ctx.node("GreaterOrEqual", end, begin)
    at = ctx.node("Where", seen, ctx.node("Mul", ctx.node("Add", begin, end), ctx.constant(0.5)), least)
    low = ctx.node("Floor", at)
    share = ctx.node("Sub", at, low)
    cells = ctx.node("Cast", low, to=INT64), ctx.node("Cast", ctx.node("Min", ctx.node("Ceil", at), most), to=INT64)
    return _Points(cells, (ctx.node("Sub", one, share), share), seen)


@emits_python("ROIAlignment")
def roi_alignment_python(ctx: PythonContext) -> str:
    return ctx.call("roi_middles", *ctx.x, pair(ctx.layer.pooled), number(ctx.layer.scale))


@emits_onnx("ROIAlign=mask-rcnn")
def sampled_roi_align_onnx(ctx: OnnxContext) -> None:
    """Weigh the first points of each bin by a matrix of points and samples. Values have axes region, channel, row of
    bins, column of bins, point and sample."""
    layer, (channels, h, w) = ctx.layer, ctx.size()
    image, corners = finite_regions(ctx)
    x0, y0, x1, y1 = split(ctx, ctx.node("Mul", corners, ctx.constant(layer.scale)), 1, 1, 1, 1)
    (row, rows, empty_row), (column, columns, empty_column) = (
        _points_of_bins(ctx, *each, axis) for axis, each in enumerate((
            (y0, y1, layer.pooled[0], h), (x0, x1, layer.pooled[1], w)), 1))
    k, many = ctx.constant(np.arange(POINTS)), ctx.node("Max", columns, ctx.constant(1.0))
    line = ctx.node("Floor", ctx.node("Div", k, many))
    y = ctx.node("Add", row, line)
    x = ctx.node("Add", column, ctx.node("Sub", k, ctx.node("Mul", line, many)))
    there = ctx.node("Less", k, ctx.node("Mul", rows, columns))
    down, across = (ctx.node("Unsqueeze", _on_region(ctx, *each), ctx.integers([4]))
                    for each in ((y, y0, y1), (x, x0, x1)))
    of_x, of_y = (_nearness(ctx, at, [sample[i] for sample in SAMPLES]) for i, at in enumerate((across, down)))
    weight = ctx.node("Where", ctx.node("Unsqueeze", there, ctx.integers([4])), ctx.node("Mul", of_x, of_y),
                      ctx.constant(0.0))
    place = ctx.node("Where", there, ctx.node("Add", ctx.node("Mul", y, ctx.constant(float(w))), x), ctx.constant(0.0))
    values = ctx.node("Unsqueeze", _read_on(ctx, image, place, channels, h * w, w + POINTS), ctx.integers([4]))
    best = ctx.node("ReduceMax", ctx.node("MatMul", values, ctx.node("Unsqueeze", weight, ctx.integers([1]))),
                    ctx.integers([4, 5]), keepdims=0)
    empty = ctx.node("Unsqueeze", ctx.node("Squeeze", ctx.node("Or", empty_row, empty_column), ctx.integers([3])),
                     ctx.integers([1]))
    ctx.output("Max", best, ctx.node("Where", empty, ctx.constant(0.0), ctx.constant(-FLT_MAX)))


def _points_of_bins(ctx: OnnxContext, low: str, high: str, bins: int, size: int, axis: int) -> tuple[str, str, str]:
    """Return of bins along an axis of (R, rows, columns, 1) the first point, how many there are, and which bins are
    empty."""
    other = [1, 2][axis % 2]
    low, high = (ctx.node("Unsqueeze", x, ctx.integers([2, 3])) for x in (low, high))
    one, end_of_map = ctx.constant(1.0), ctx.constant(float(size))
    step = ctx.node("Div", ctx.node("Max", ctx.node("Add", ctx.node("Sub", high, low), one), one),
                    ctx.constant(float(bins)))
    k = np.expand_dims(np.arange(bins), [0, other, 3])
    begin, end = (ctx.node("Min", ctx.node("Max", ctx.node("Add", ctx.node("Mul", ctx.constant(k + i), step), low),
                                           ctx.constant(0.0)), end_of_map) for i in (0, 1))
    first = ctx.node("Ceil", begin)
    number_of = ctx.node("Add", ctx.node("Sub", ctx.node("Floor", end), first), one)
    return first, ctx.node("Max", number_of, ctx.constant(0.0)), ctx.node("Not", ctx.node("Greater", end, begin))


def _on_region(ctx: OnnxContext, place: str, low: str, high: str) -> str:
    """Return where points lie on their regions, from -1 to 1."""
    low, high = (ctx.node("Unsqueeze", x, ctx.integers([2, 3])) for x in (low, high))
    zero, one = ctx.constant(0.0), ctx.constant(1.0)
    extent = ctx.node("Sub", high, low)
    flat = ctx.node("Equal", extent, zero)
    from_low = ctx.node("Mul", ctx.node("Sub", place, low), ctx.constant(2.0))
    at = ctx.node("Sub", ctx.node("Div", from_low, ctx.node("Where", flat, one, extent)), one)
    return ctx.node("Min", ctx.node("Max", ctx.node("Where", flat, zero, at), ctx.constant(-1.0)), one)


def _nearness(ctx: OnnxContext, at: str, samples: Sequence[float]) -> str:
    """Return how near points (.., 1) lie to samples, from 0 to 1: (.., samples)."""
    apart = ctx.node("Abs", ctx.node("Sub", ctx.constant(samples), at))
    return ctx.node("Max", ctx.node("Sub", ctx.constant(1.0), apart), ctx.constant(0.0))


def _read_on(ctx: OnnxContext, image: str, place: str, channels: int, plane: int, beyond: int) -> str:
    """Return the values of every channel at places of its plane, (R, ...) -> (R, C, ...); up to `beyond` places behind
    the last value they are 0."""
    flat = ctx.node("Pad", ctx.node("Reshape", ctx.x[0], ctx.integers([-1])), ctx.integers([0, beyond]))
    first = ctx.node("Add", ctx.node("Mul", ctx.node("Cast", image, to=INT64), ctx.integers(channels)),
                     ctx.integers(np.arange(channels)))  # (R, C)
    first = ctx.node("Unsqueeze", ctx.node("Mul", first, ctx.integers(plane)), ctx.integers([2, 3, 4]))
    at = ctx.node("Unsqueeze", ctx.node("Cast", place, to=INT64), ctx.integers([1]))
    return ctx.node("Gather", flat, ctx.node("Add", first, at))


@emits_python("ROIAlign=mask-rcnn")
def sampled_roi_align_python(ctx: PythonContext) -> str:
    return ctx.call("roi_best_samples", *ctx.x, pair(ctx.layer.pooled), number(ctx.layer.scale))


@emits_onnx("DeformablePSROIPooling")
def deformable_psroi_pooling_onnx(ctx: OnnxContext) -> None:
    """Values have axes region, channel of the top, row of bins, column of bins, row of samples, column of samples."""
    layer, (channels, h, w) = ctx.layer, ctx.size()
    image, corners = finite_regions(ctx)
    low, high = split(ctx, half_away(ctx, corners), 2, 2)
    scale, half = ctx.constant(layer.scale), ctx.constant(0.5)
    begin = ctx.node("Sub", ctx.node("Mul", low, scale), half)
    end = ctx.node("Sub", ctx.node("Mul", ctx.node("Add", high, ctx.constant(1.0)), scale), half)
    size = ctx.node("Max", ctx.node("Sub", end, begin), ctx.constant(0.1))
    moves = _moves_of_bins(ctx)
    (row, rows_inside), (column, columns_inside) = (
        _samples_of_bins(ctx, begin, size, moves, axis, extent) for axis, extent in enumerate((h, w)))
    own = np.arange(channels).reshape(1, layer.dim, *[layer.group] * 2, 1, 1)
    plane = ctx.node("Add", ctx.node("Mul", ctx.node("Unsqueeze", ctx.node("Cast", image, to=INT64),
                                                     ctx.integers([2, 3, 4, 5])), ctx.integers(channels)),
                     ctx.integers(own))
    flat, parts = ctx.node("Reshape", ctx.x[0], ctx.integers([-1])), []
    for i, down in _beside(ctx, row):
        line = ctx.node("Mul", ctx.node("Add", ctx.node("Mul", plane, ctx.integers(h)), i), ctx.integers(w))
        for j, across in _beside(ctx, column):
            parts.append(ctx.node("Mul", ctx.node("Gather", flat, ctx.node("Add", line, j)),
                                  ctx.node("Mul", down, across)))
    inside = ctx.node("And", rows_inside, columns_inside)
    samples = ctx.integers([4, 5])
    total = ctx.node("ReduceSum", ctx.node("Where", inside, ctx.node("Sum", *parts), ctx.constant(0.0)), samples,
                     keepdims=0)
    counted = ctx.node("ReduceSum", ctx.node("Cast", inside, to=FLOAT), samples, keepdims=0)
    ctx.output("Div", total, ctx.node("Max", counted, ctx.constant(1.0)))


def _moves_of_bins(ctx: OnnxContext) -> str:
    """Return how far bins are moved, in sizes of the region: (R, channels of the top, 2, rows, columns); "" if not."""
    layer = ctx.layer
    if layer.param.no_trans:
        return ""
    moves, part, group = ctx.x[2], ctx.integers(layer.part_of_bin().numpy()), layer.group
    for axis in (2, 3):
        moves = ctx.node("Gather", moves, part, axis=axis)
    moves = ctx.node("Mul", moves, ctx.constant(layer.param.trans_std))
    classes = int(ctx.bottom_shapes[2][1]) // 2
    moves = ctx.node("Reshape", moves, ctx.integers([-1, classes, 1, 2, group, group]))
    moves = ctx.node("Expand", moves, ctx.integers([1, 1, layer.dim // classes, 1, 1, 1]))
    return ctx.node("Reshape", moves, ctx.integers([-1, layer.dim, 2, group, group]))


def _samples_of_bins(ctx: OnnxContext, begin: str, size: str, moves: str, axis: int, extent: int) -> tuple[str, str]:
    """Return where the samples of bins are on an axis of the map, rows or columns, and which of them count."""
    group, many = ctx.layer.group, ctx.layer.param.sample_per_part
    begin, size = (ctx.node("Unsqueeze", ctx.node("Gather", x, ctx.integers([1 - axis]), axis=1), ctx.integers([2, 3]))
                   for x in (begin, size))  # (R, 1, 1, 1)
    each = ctx.node("Div", size, ctx.constant(float(group)))
    bins = np.arange(group)[:, None] if axis == 0 else np.arange(group)
    start = ctx.node("Add", ctx.node("Mul", ctx.constant(bins), each), begin)
    if moves:
        own = ctx.node("Gather", moves, ctx.integers(1 - axis), axis=2)
        start = ctx.node("Add", start, ctx.node("Mul", own, size))
    start, step = (ctx.node("Unsqueeze", x, ctx.integers([4, 5]))
                   for x in (start, ctx.node("Div", each, ctx.constant(float(many)))))
    sample = np.arange(many)[:, None] if axis == 0 else np.arange(many)
    at = ctx.node("Add", start, ctx.node("Mul", ctx.constant(sample), step))
    inside = _is_on_map(ctx, at, extent)
    on_map = ctx.node("Clip", at, ctx.constant(0.0), ctx.constant(float(extent - 1)))
    return ctx.node("Where", inside, on_map, ctx.constant(0.0)), inside


def _beside(ctx: OnnxContext, at: str) -> list[tuple[str, str]]:
    """Return the cells before and after each place, each with how much it counts."""
    low = ctx.node("Floor", at)
    share = ctx.node("Sub", at, low)
    return [(ctx.node("Cast", low, to=INT64), ctx.node("Sub", ctx.constant(1.0), share)),
            (ctx.node("Cast", ctx.node("Ceil", at), to=INT64), share)]


@emits_python("DeformablePSROIPooling")
def deformable_psroi_pooling_python(ctx: PythonContext) -> str:
    layer, moves = ctx.layer, "None"
    if not layer.param.no_trans:
        part = ", ".join(map(str, layer.part_of_bin().tolist()))
        moved = f"{ctx.x[2]}[:, :, [{part}]][..., [{part}]] * {number(layer.param.trans_std)}"
        moves = f"({moved}).unflatten(1, (-1, 2))"
    return ctx.call("deformable_psroi_pool", *ctx.x[:2], moves, layer.dim, layer.group, layer.param.sample_per_part,
                    number(layer.scale))


@emits_onnx("RegionPooling")
def region_features_onnx(ctx: OnnxContext) -> None:
    """Read the maps at all points, and weigh them: (points, 1, K) times (points, K, F)."""
    param, (_, h, w) = ctx.layer.spec.get("region_pooling_param"), ctx.size()
    regions, k, features = param.num_regions * param.num_samples, param.num_rfcn_regions, param.num_features
    base = ctx.node("Cast", ctx.node("Reshape", ctx.x[1], ctx.integers([-1, 1, 2])), to=INT64)
    base = ctx.node("Cast", base, to=FLOAT)
    offsets = ctx.node("Reshape", ctx.x[2], ctx.integers([-1, regions, 2]))
    column, row = split(ctx, ctx.node("Cast", ctx.node("Add", offsets, base), to=INT64), 1, 1)
    place = ctx.node("Reshape", ctx.node("Add", ctx.node("Mul", row, ctx.integers(w)), column), ctx.integers([-1]))
    maps = ctx.node("Reshape", ctx.x[0], ctx.integers([k, features, h * w]))
    found = ctx.node("Gather", ctx.node("Transpose", maps, perm=[2, 0, 1]), place, axis=0)
    weights = ctx.node("Reshape", ctx.x[3], ctx.integers([-1, 1, k]))
    mean = ctx.node("Div", ctx.node("MatMul", weights, found), ctx.constant(float(k)))
    ctx.output("Reshape", mean, ctx.integers([-1, param.num_regions, param.num_samples, features]))


@emits_python("RegionPooling")
def region_features_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("region_pooling_param")
    return ctx.call("weighed_features", *ctx.x, param.num_regions, param.num_samples, param.num_rfcn_regions)


@emits_onnx("RandBI")
def pixel_features_onnx(ctx: OnnxContext) -> None:
    """In double precision, as the layer."""
    *maps, pixels = ctx.x
    image, place = split(ctx, pixels, 1, 2)
    image = ctx.node("Cast", image, to=INT64)
    columns = []
    for x, first, rate in zip(maps, ctx.layer.first, ctx.layer.rates, strict=True):
        at = ctx.node("Div", ctx.node("Sub", place, ctx.constant(first)), ctx.constant(float(rate)))
        low, high = (ctx.node("Max", ctx.node(op, at), ctx.constant(0.0)) for op in ("Floor", "Ceil"))
        share = ctx.node("Where", ctx.node("Equal", low, high), ctx.constant(0.0), ctx.node("Sub", at, low))
        down, across = split(ctx, ctx.node("Cast", share, to=DOUBLE), 1, 1)
        ends = [split(ctx, ctx.node("Cast", edge, to=INT64), 1, 1) for edge in (low, high)]
        last = ctx.node("Transpose", x, perm=[0, 2, 3, 1])
        one = ctx.graph.constant(1.0, np.float64)
        total = ""
        for row, by_row in ((ends[0][0], ctx.node("Sub", one, down)), (ends[1][0], down)):
            for column, by_column in ((ends[0][1], ctx.node("Sub", one, across)), (ends[1][1], across)):
                pixel = ctx.node("GatherND", last, ctx.node("Concat", image, row, column, axis=1))
                part = ctx.node("Mul", ctx.node("Cast", pixel, to=DOUBLE), ctx.node("Mul", by_row, by_column))
                total = ctx.node("Add", total, part) if total else part
        columns.append(ctx.node("Cast", total, to=FLOAT))
    ctx.output("Concat", *columns, axis=1)


@emits_python("RandBI")
def pixel_features_python(ctx: PythonContext) -> str:
    *maps, pixels = ctx.x
    return ctx.call("features_of_pixels", f"[{', '.join(maps)}]", pixels, numbers(ctx.layer.first),
                    numbers(ctx.layer.rates))
