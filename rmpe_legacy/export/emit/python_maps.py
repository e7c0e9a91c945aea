"""Python layers of published networks that compute maps of maps, or compare them."""

from __future__ import annotations

import numpy as np

from rmpe_legacy.caffe.layers.python_maps import WHITE

from ..onnx_graph import DOUBLE, FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number


@emits_onnx("Python=CmapLayer")
def class_maps_onnx(ctx: OnnxContext) -> None:
    first = ctx.node("Slice", ctx.x[0], *map(ctx.integers, ([0], [1], [0])))
    first = ctx.node("Reshape", first, ctx.integers([1, -1, 1, 1]))
    h, w = ctx.layer.shape[2:]
    ctx.output("Expand", first, ctx.node("Concat", ctx.sizes_of(ctx.x[0], 0, 1), ctx.integers([1, h, w]), axis=0))


@emits_python("Python=CmapLayer")
def class_maps_python(ctx: PythonContext) -> str:
    h, w = ctx.layer.shape[2:]
    return f"{ctx.x[0]}[:1].reshape(1, -1, 1, 1).expand(len({ctx.x[0]}), -1, {h}, {w})"


@emits_onnx("Python=resize_to_same_size")
def joined_maps_onnx(ctx: OnnxContext) -> None:
    parts, whole = [], ctx.size()[1:]
    for i, x in enumerate(ctx.x):
        missing = []
        for axis, (size, own) in enumerate(zip(whole, ctx.size(i)[1:], strict=True), 2):
            places = np.repeat(np.arange(own), size // own)
            missing.append(size - len(places))
            if len(places) != own:
                x = ctx.node("Gather", x, ctx.integers(places), axis=axis)
        parts.append(ctx.node("Pad", x, ctx.integers([0] * 6 + missing)) if any(missing) else x)
    ctx.output("Concat", *parts, axis=1)


@emits_python("Python=resize_to_same_size")
def joined_maps_python(ctx: PythonContext) -> str:
    return ctx.call("joined_maps", *ctx.x)


@emits_onnx("Python=guided_filer")
def guided_filter_onnx(ctx: OnnxContext) -> None:
    """In double precision, as the layer: variances are small differences of large numbers."""
    layer, plane = ctx.layer, ctx.size()[1:]
    rows, columns = (_within(size, layer.radius) for size in plane)
    size = ctx.graph.constant(np.outer(rows.sum(1), columns.sum(1)), np.float64)
    down, across = (ctx.graph.constant(matrix, np.float64) for matrix in (rows, columns.T))

    def mean(x: str, to: int = DOUBLE) -> str:
        total = ctx.node("MatMul", down, ctx.node("MatMul", x, across))
        if to == FLOAT:
            total = ctx.node("Cast", ctx.node("Cast", total, to=FLOAT), to=DOUBLE)
        return ctx.node("Div", total, size)

    image = ctx.node("Div", ctx.x[0], ctx.constant(WHITE))
    middle, energy = (mean(ctx.node("Cast", x, to=DOUBLE), FLOAT) for x in (image, ctx.node("Mul", image, image)))
    variance = ctx.node("Sub", energy, ctx.node("Mul", middle, middle))
    slope = ctx.node("Div", variance, ctx.node("Add", variance, ctx.graph.constant(layer.epsilon, np.float64)))
    level = ctx.node("Sub", middle, ctx.node("Mul", slope, middle))
    smooth = ctx.node("Add", ctx.node("Mul", mean(slope), ctx.node("Cast", image, to=DOUBLE)), mean(level))
    smooth = ctx.node("Mul", smooth, ctx.graph.constant(WHITE, np.float64))
    ctx.output("Cast", ctx.node("Sub", ctx.node("Cast", ctx.x[0], to=DOUBLE), smooth), to=FLOAT)


def _within(size: int, radius: int) -> np.ndarray:
    """Which places of an axis are in the window of which: (size, size), 0 and 1."""
    place = np.arange(size)
    return (abs(place[:, None] - place) <= radius).astype(np.float64)


@emits_python("Python=guided_filer")
def guided_filter_python(ctx: PythonContext) -> str:
    return ctx.call("guided_filter_rest", ctx.x[0], ctx.layer.radius, number(ctx.layer.epsilon))


@emits_onnx("Python=OrdinalDecodeLayer")
def ordinal_decode_onnx(ctx: OnnxContext) -> None:
    pairs = ctx.size()[0] // 2
    odd, even = (ctx.node("Slice", ctx.x[0], *map(ctx.integers, ([first], [2 * pairs], [1], [2]))) for first in (1, 0))
    larger = ctx.node("Cast", ctx.node("Greater", odd, even), to=FLOAT)
    counts = ctx.node("Unsqueeze", ctx.node("ReduceSum", larger, ctx.integers([1]), keepdims=0), ctx.integers([0]))
    shape = ctx.node("Concat", ctx.sizes_of(ctx.x[0], 0, 1), ctx.integers([1, 1, 1]), axis=0)
    ctx.output("Expand", counts, shape)


@emits_python("Python=OrdinalDecodeLayer")
def ordinal_decode_python(ctx: PythonContext) -> str:
    x = ctx.x[0]
    end = f"{x}.shape[1] // 2 * 2"
    larger = f"({x}[:, 1::2] > {x}[:, :{end}:2])"
    return f"{larger}.sum(1, dtype={x}.dtype).expand(len({x}), -1, -1, -1)"
