"""RMPE's spatial transformer, and joints from heatmaps."""

from __future__ import annotations

import numpy as np

from ..onnx_graph import DOUBLE, FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number

GRID_SAMPLE_IN_DOUBLE = 20  # the first version whose GridSample onnxruntime has in double precision


@emits_onnx("SpatialTransformer")
def spatial_transformer_onnx(ctx: OnnxContext) -> None:
    """Write ops.spatial_transformer_composite, sampling in double: in float32, GridSample's rounding of coordinates
    changes values by about 1e-5 of the image's range."""
    ctx.graph.needs(GRID_SAMPLE_IN_DOUBLE)
    theta = _theta(ctx)
    if ctx.layer.mode == "paper":
        theta = _inverse(ctx, theta)
    elif ctx.layer.mode == "published-identity":
        theta = _identity(ctx)
    grid = _grid(ctx, theta)
    image = ctx.node("Cast", ctx.x[0], to=DOUBLE)
    sampled = ctx.node("GridSample", image, grid, mode="linear", padding_mode="zeros", align_corners=0)
    ctx.output("Cast", sampled, to=FLOAT)


def _theta(ctx: OnnxContext) -> str:
    """Return theta (N, 6), from the bottom and the numbers that the prototxt fixes."""
    fixed = [value for value in ctx.layer.fixed if value is not None]
    if len(fixed) == 6:
        return _repeated(ctx, fixed)
    free = ctx.node("Flatten", ctx.x[1]) if len(ctx.bottom_shapes[1]) != 2 else ctx.x[1]
    if not fixed:
        return free
    places = iter(range(6 - len(fixed)))
    others = iter(range(6 - len(fixed), 6))
    order = [next(places if value is None else others) for value in ctx.layer.fixed]
    return ctx.node("Gather", ctx.node("Concat", free, _repeated(ctx, fixed), axis=1), ctx.integers(order), axis=1)


def _repeated(ctx: OnnxContext, row: list[float]) -> str:
    """Repeat a row of numbers for each image."""
    images = ctx.node("Shape", ctx.x[0], start=0, end=1)
    return ctx.node("Expand", ctx.constant([row]), ctx.node("Concat", images, ctx.integers([len(row)]), axis=0))


def _identity(ctx: OnnxContext) -> str:
    return _repeated(ctx, [1, 0, 0, 0, 1, 0])


def _inverse(ctx: OnnxContext, theta: str) -> str:
    """Invert affine maps in double, (N, 6) -> (N, 6); a singular map gives the identity."""
    theta = ctx.node("Cast", theta, to=DOUBLE)
    a, b, c, d, e, f = ctx.graph.nodes_of("Split", [theta, ctx.integers([1] * 6)], 6, axis=1)

    def minor(p: str, q: str, r: str, s: str) -> str:
        return ctx.node("Sub", ctx.node("Mul", p, q), ctx.node("Mul", r, s))

    determinant = minor(a, e, b, d)
    singular = ctx.node("Equal", determinant, ctx.graph.constant(0, np.float64))
    divisor = ctx.node("Where", singular, ctx.graph.constant(1, np.float64), determinant)
    parts = [e, ctx.node("Neg", b), minor(b, f, e, c), ctx.node("Neg", d), a, minor(d, c, a, f)]
    adjugate = ctx.node("Concat", *parts, axis=1)
    inverse = ctx.node("Cast", ctx.node("Div", adjugate, divisor), to=FLOAT)
    return ctx.node("Where", singular, _identity(ctx), inverse)


def _grid(ctx: OnnxContext, theta: str) -> str:
    """Return GridSample's grid, (N, out_h, out_w, 2) double: the image position for each output pixel."""
    (out_h, out_w), size = ctx.layer.out, ctx.size()[1:]
    u, v = (np.arange(n, dtype=np.float64) / n * 2 - 1 for n in (out_h, out_w))
    rows = ctx.node("Reshape", theta, ctx.integers([-1, 2, 3, 1, 1]))
    columns = [ctx.node("Squeeze", part, ctx.integers([2]))
               for part in ctx.graph.nodes_of("Split", [rows, ctx.integers([1, 1, 1])], 3, axis=2)]
    point = ctx.node("Mul", columns[0], ctx.graph.constant(u.astype(np.float32)[:, None]))
    # Round this product and sum once, as a GPU build of the fork fuses them.
    more = ctx.node("Mul", ctx.node("Cast", columns[1], to=DOUBLE),
                    ctx.graph.constant(v.astype(np.float32).astype(np.float64), np.float64))
    point = ctx.node("Cast", ctx.node("Add", ctx.node("Cast", point, to=DOUBLE), more), to=FLOAT)
    point = ctx.node("Add", ctx.node("Add", point, columns[2]), ctx.constant(1.0))
    sides = np.reshape(size, (2, 1, 1))
    point = ctx.node("Mul", ctx.node("Div", point, ctx.constant(2.0)), ctx.constant(sides))
    point = ctx.node("Mul", ctx.node("Cast", point, to=DOUBLE), ctx.graph.constant(2, np.float64))
    one = ctx.graph.constant(1, np.float64)
    point = ctx.node("Div", ctx.node("Add", point, one), ctx.graph.constant(sides, np.float64))
    # Far outside, the result is 0 anyway; clipped coordinates stay in the range of integers.
    point = ctx.node("Clip", ctx.node("Sub", point, one), *(ctx.graph.constant(end, np.float64) for end in (-2, 2)))
    xy = ctx.node("Gather", point, ctx.integers([1, 0]), axis=1)
    return ctx.node("Transpose", xy, perm=[0, 2, 3, 1])


@emits_python("SpatialTransformer")
def spatial_transformer_python(ctx: PythonContext) -> str:
    layer, theta = ctx.layer, ctx.x[1]
    if any(value is not None for value in layer.fixed):
        theta = ctx.call("with_fixed", theta, *("None" if v is None else number(v) for v in layer.fixed))
    elif len(ctx.bottom_shapes[1]) != 2:
        theta = f"{theta}.flatten(1)"
    if layer.mode == "paper":
        theta = ctx.call("inverse_map", theta)
    elif layer.mode == "published-identity":
        theta = ctx.call("with_fixed", theta, 1, 0, 0, 0, 1, 0)
    return ctx.call("spatial_transformer", ctx.x[0], theta, *layer.out)


@emits_onnx("PredictionHeatmap")
def prediction_heatmap_onnx(ctx: OnnxContext) -> None:
    """Write ops.prediction_heatmap's composite: positions are numbered as in the published code's matrix."""
    joints, h, w = (*ctx.size(), 1, 1, 1)[:3]
    stride = min(h, w)
    y, x = np.arange(h)[:, None], np.arange(w)
    kept = ((y + stride >= h) | (x == 0)).ravel()
    place = np.where(kept, (x * stride + y).ravel(), h * w)
    value = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, joints, h * w]))
    lowest = ctx.constant(-float("inf"))
    value = ctx.node("Where", ctx.node("IsNaN", value), lowest, value)
    if not kept.all():
        value = ctx.node("Where", ctx.graph.constant(kept, np.bool_), value, lowest)
    if h > stride and w > 1:  # the first of the positions that stay 0
        pads = ctx.integers([0, 0, 0, 0, 0, 1])
        value, place = ctx.node("Pad", value, pads, ctx.constant(0.0)), np.append(place, (w - 1) * stride + h)
    score = ctx.node("ReduceMax", value, ctx.integers([2]))
    first = ctx.node("Where", ctx.node("Equal", value, score), ctx.integers(place.tolist()), ctx.integers(h * w))
    first = ctx.node("ReduceMin", first, ctx.integers([2]))
    xy = [ctx.node("Cast", ctx.node(op, first, ctx.integers(stride)), to=FLOAT) for op in ("Div", "Mod")]
    ctx.output("Reshape", ctx.node("Concat", *xy, score, axis=2), ctx.integers([1, 1, -1, 3 * joints]))


@emits_python("PredictionHeatmap")
def prediction_heatmap_python(ctx: PythonContext) -> str:
    x = ctx.x[0]
    if len(ctx.bottom_shapes[0]) < 4:
        x = f"{x}[{', '.join([':'] * len(ctx.bottom_shapes[0]) + ['None'] * (4 - len(ctx.bottom_shapes[0])))}]"
    return ctx.call("heatmap_peaks", x)
