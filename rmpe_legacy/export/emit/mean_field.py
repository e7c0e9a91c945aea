"""Mean field inference of a conditional random field; see ``layers.permutohedral`` for the lattice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmpe_legacy.caffe.layers.dense_crf import STEPS, places
from rmpe_legacy.caffe.layers.multi_stage_meanfield import TINY
from rmpe_legacy.caffe.layers.permutohedral import TOGETHER, Lattice, step_along

from ..onnx_graph import FLOAT, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number, numbers, pair
from .rearrangement import INT64_MAX, slice_onnx


@dataclass(frozen=True)
class _Lattice:
    """Names of a lattice's values.

    Attributes:
        vertex: The vertices around each point, (N, d + 1).
        weight: Their weights, (N, d + 1, 1).
        neighbors: For each axis, the vertices on both sides of each vertex.
        size: One more than there are vertices, (1).
        scale: What the sums over a point's vertices are multiplied by.
    """

    vertex: str
    weight: str
    neighbors: list[tuple[str, str]]
    size: str
    scale: float


@emits_onnx("MultiStageMeanfield")
def mean_field_onnx(ctx: OnnxContext) -> None:
    n, c, h, w = ctx.shape()
    weights = [ctx.graph.parameter(f"{ctx.layer.spec.name}.{declared.name}", ctx.blob(i)[0, 0].T)
               for i, declared in enumerate(ctx.layer.declared)]
    spatial = _constant(ctx, ctx.layer.positions(ctx.layer.thetas[2]))
    scores, start, image = (ctx.node("Transpose", ctx.node("Reshape", x, ctx.integers([n, channels, h * w])),
                                     perm=[0, 2, 1]) for x, channels in zip(ctx.x, (c, c, 3), strict=True))
    images = []
    for i in range(n):
        flat, current, picture = (ctx.node("Gather", x, ctx.integers(i), axis=0) for x in (scores, start, image))
        colors = ctx.node("Div", picture, ctx.constant(ctx.layer.thetas[1]))
        bilateral = _bilateral(ctx, ctx.layer.positions(ctx.layer.thetas[0]), colors)
        filters = [(lattice, _norm(ctx, lattice, h * w)) for lattice in (spatial, bilateral)]
        for _ in range(ctx.layer.iterations):
            share = ctx.node("Softmax", current, axis=1)
            parts = [ctx.node("MatMul", ctx.node("Mul", _filtered(ctx, lattice, share, c), norm), weight)
                     for (lattice, norm), weight in zip(filters, weights, strict=False)]
            current = ctx.node("Sub", flat, ctx.node("MatMul", ctx.node("Add", *parts), weights[2]))
        images.append(ctx.node("Unsqueeze", current, ctx.integers([0])))
    found = ctx.node("Transpose", ctx.node("Concat", *images, axis=0), perm=[0, 2, 1])
    ctx.output("Reshape", found, ctx.integers([n, c, h, w]))


def _constant(ctx: OnnxContext, features: np.ndarray) -> _Lattice:
    lattice = Lattice(features)
    return _Lattice(ctx.integers(lattice.vertex.numpy()), ctx.constant(lattice.weight.numpy()[..., None]),
                    [(ctx.integers(low.numpy()), ctx.integers(high.numpy())) for low, high in lattice.neighbors],
                    ctx.integers([lattice.size + 1]), lattice.scale)


def _bilateral(ctx: OnnxContext, place: np.ndarray, colors: str) -> _Lattice:
    """Build the lattice of an image's points, places (N, 2) and colours (N, 3) as they are compared, by the operations
    of ``Lattice`` in their order."""
    d, points = 5, len(place)
    features = ctx.node("Concat", ctx.constant(place), colors, axis=1)
    if extra := -points % TOGETHER:
        features = ctx.node("Pad", features, ctx.integers([0, 0, extra, 0]))
    keys, weights = _simplices(ctx, ctx.node("Transpose", features, perm=[1, 0]), d)
    first = ctx.integers([0])
    rows, at = _distinct(ctx, ctx.node("Reshape", keys, ctx.integers([-1, d])))
    size = ctx.sizes_of(rows, 0, 1)
    steps = [sign * step_along(axis, d) for axis in range(d + 1) for sign in (-1, 1)]
    every = ctx.node("Concat", rows, *(ctx.node("Add", rows, ctx.integers(step)) for step in steps), axis=0)
    distinct, code = _distinct(ctx, every)
    own = ctx.node("Slice", code, first, size, first)
    none = ctx.node("Expand", size, ctx.sizes_of(distinct, 0, 1))
    number_of = ctx.node("ScatterElements", none, own, ctx.node(
        "Range", ctx.integers(0), ctx.node("Squeeze", size), ctx.integers(1)), axis=0)
    others = ctx.node("Gather", number_of, ctx.node("Slice", code, size, ctx.integers([INT64_MAX]), first))
    others = ctx.node("Reshape", others, ctx.node("Concat", ctx.integers([len(steps)]), size, axis=0))
    of_step = [ctx.node("Gather", others, ctx.integers(i), axis=0) for i in range(len(steps))]
    vertex = ctx.node("Reshape", at, ctx.integers([-1, d + 1]))
    vertex, weights = (slice_onnx(ctx, x, [0], [points], [0], [1], last=False) for x in (vertex, weights))
    return _Lattice(vertex, ctx.node("Unsqueeze", weights, ctx.integers([2])),
                    list(zip(of_step[::2], of_step[1::2], strict=True)), ctx.node("Add", size, ctx.integers([1])),
                    float(np.float32(1) / (1 + np.float32(2.0) ** -d)))


def _distinct(ctx: OnnxContext, rows: str) -> tuple[str, str]:
    """Return the distinct rows, and for each row which of them it is."""
    distinct, _, code, _ = ctx.graph.nodes_of("Unique", [rows], 4, axis=0)
    return distinct, code


def _simplices(ctx: OnnxContext, features: str, d: int) -> tuple[str, str]:
    """Return the keys (N, d + 1, d) of each point's vertices and their weights (N, d + 1): see the layer's own."""
    deviation = float(np.float32(np.sqrt(2.0 / 3.0) * (d + 1)))
    scale = np.array([1.0 / np.sqrt((i + 2) * (i + 1)) * deviation for i in range(d)], np.float32)
    parts = ctx.graph.nodes_of("Split", [ctx.node("Mul", features, ctx.constant(scale[:, None])),
                                         ctx.integers([1] * d)], d, axis=0)
    total, rows = "", []
    for j in range(d, 0, -1):
        step = ctx.node("Mul", parts[j - 1], ctx.constant(float(j)))
        rows.append(ctx.node("Sub", total, step) if total else ctx.node("Neg", step))
        total = ctx.node("Add", total, parts[j - 1]) if total else parts[j - 1]
    elevated = ctx.node("Concat", total, *rows[::-1], axis=0)  # (d + 1, N)
    down = ctx.constant(np.float32(1) / np.float32(d + 1))
    nearest = ctx.node("Round", ctx.node("Mul", elevated, down))
    base = ctx.node("Mul", nearest, ctx.constant(float(d + 1)))
    rank = ctx.node("Add", _ranks(ctx, ctx.node("Sub", elevated, base), d),
                    ctx.node("ReduceSum", nearest, ctx.integers([0])))
    low, high = (ctx.node("Cast", ctx.node(op, rank, ctx.constant(limit)), to=FLOAT)
                 for op, limit in (("Less", 0.0), ("Greater", float(d))))
    shift = ctx.node("Mul", ctx.node("Sub", low, high), ctx.constant(float(d + 1)))
    rank, base = ctx.node("Add", rank, shift), ctx.node("Add", base, shift)
    share = ctx.node("Mul", ctx.node("Sub", elevated, base), down)
    has = ctx.node("Equal", ctx.node("Unsqueeze", rank, ctx.integers([0])),
                   ctx.constant(np.arange(d, -1, -1)[:, None, None]))
    falling = ctx.node("ReduceSum", ctx.node("Where", has, share, ctx.constant(0.0)), ctx.integers([1]), keepdims=0)
    top, last = (slice_onnx(ctx, falling, [begin], [end], [0], [1], last=False) for begin, end in ((0, 1), (d, d + 1)))
    first = ctx.node("Add", top, ctx.node("Sub", ctx.constant(1.0), last))
    more = ctx.node("Sub", *(slice_onnx(ctx, falling, [begin], [begin + d], [0], [1], last=False) for begin in (1, 0)))
    weights = ctx.node("Transpose", ctx.node("Concat", first, more, axis=0), perm=[1, 0])
    whole, of_axis = (ctx.node("Unsqueeze", ctx.node("Transpose", slice_onnx(ctx, x, [0], [d], [0], [1], last=False),
                                                     perm=[1, 0]), ctx.integers([1])) for x in (base, rank))
    vertex = np.arange(d + 1)[:, None]
    beyond = ctx.node("Cast", ctx.node("Greater", of_axis, ctx.constant(d - vertex)), to=FLOAT)
    keys = ctx.node("Sub", ctx.node("Add", whole, ctx.constant(vertex)),
                    ctx.node("Mul", beyond, ctx.constant(float(d + 1))))
    return ctx.node("Cast", keys, to=INT64), weights


def _ranks(ctx: OnnxContext, apart: str, d: int) -> str:
    """Return how many of the d + 1 differences of a point are larger, or equal and earlier: (d + 1, N)."""
    less = ctx.node("Cast", ctx.node("Less", ctx.node("Unsqueeze", apart, ctx.integers([1])),
                                     ctx.node("Unsqueeze", apart, ctx.integers([0]))), to=FLOAT)
    later = ctx.constant(np.triu(np.ones((d + 1, d + 1)), 1)[..., None])
    ahead = ctx.node("ReduceSum", ctx.node("Mul", less, later), ctx.integers([1]), keepdims=0)
    behind = ctx.node("ReduceSum", ctx.node("Mul", ctx.node("Sub", ctx.constant(1.0), less), later),
                      ctx.integers([0]), keepdims=0)
    return ctx.node("Add", ahead, behind)


def _filtered(ctx: OnnxContext, lattice: _Lattice, values: str, channels: int) -> str:
    """Return (N, C) values after the filter.

    They are added up by ScatterElements, because onnxruntime's ScatterND loses some of those that several threads add
    to one vertex (its issue 18048).
    """
    start = ctx.node("ConstantOfShape", ctx.node("Concat", lattice.size, ctx.integers([channels]), axis=0))
    spread = ctx.node("Reshape", ctx.node("Mul", ctx.node("Unsqueeze", values, ctx.integers([1])), lattice.weight),
                      ctx.integers([-1, channels]))
    row = ctx.node("Expand", ctx.node("Reshape", lattice.vertex, ctx.integers([-1, 1])), ctx.integers([1, channels]))
    at = ctx.node("ScatterElements", start, row, spread, axis=0, reduction="add")
    none = ctx.node("ConstantOfShape", ctx.integers([1, channels]))  # of vertices that no point has
    for low, high in lattice.neighbors:
        beside = ctx.node("Add", ctx.node("Gather", at, low), ctx.node("Gather", at, high))
        own = slice_onnx(ctx, at, [0], [-1], [0], [1], last=False)
        at = ctx.node("Concat", ctx.node("Add", own, ctx.node("Mul", beside, ctx.constant(0.5))), none, axis=0)
    weight = ctx.node("Mul", lattice.weight, ctx.constant(lattice.scale))
    return ctx.node("ReduceSum", ctx.node("Mul", weight, ctx.node("Gather", at, lattice.vertex)), ctx.integers([1]),
                    keepdims=0)


def _norm(ctx: OnnxContext, lattice: _Lattice, points: int) -> str:
    """Return what filtered values are multiplied by so that the weights' sum is 1, (N, 1)."""
    total = _filtered(ctx, lattice, ctx.constant(np.ones((points, 1))), 1)
    return ctx.node("Reciprocal", ctx.node("Add", total, ctx.constant(TINY)))


@emits_python("MultiStageMeanfield")
def mean_field_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    ctx.plane()
    inside = f"{ctx.top_shapes[0][1]}, {layer.iterations}, {pair(map(number, layer.thetas))}"
    state = {declared.name: blob[0, 0] for declared, blob in zip(layer.declared, layer.blobs(), strict=True)}
    constructor = f"{ctx.writer.use('MeanField')}({inside})"
    return f"{ctx.writer.module(layer, constructor, state)}({', '.join(ctx.x)})"


@emits_onnx("DenseCRF")
def dense_crf_onnx(ctx: OnnxContext) -> None:
    layer, param, (n, c, h, w) = ctx.layer, ctx.layer.spec.get("densecrf_param"), ctx.shape()
    near, alike = (np.array(scale, np.float32) for scale in (layer.near, layer.alike))
    spatial = _constant(ctx, places(h, w) / near)
    scores, image = (ctx.node("Transpose", ctx.node("Reshape", x, ctx.integers([n, channels, h * w])), perm=[0, 2, 1])
                     for x, channels in zip(ctx.x, (c, 3), strict=True))
    image = ctx.node("Mod", ctx.node("Cast", image, to=INT64), ctx.integers(256))  # cut to bytes
    image = ctx.node("Gather", ctx.node("Cast", image, to=FLOAT), ctx.integers([2, 1, 0]), axis=2)
    colors = ctx.node("Div", image, ctx.constant(alike[2:]))
    labels = []
    for i in range(n):
        unary, color = (ctx.node("Gather", x, ctx.integers(i), axis=0) for x in (scores, colors))
        filters = [(lattice, ctx.node("Mul", _norm(ctx, lattice, h * w), ctx.constant(weight)))
                   for lattice, weight in ((spatial, param.wt_gauss),
                                           (_bilateral(ctx, places(h, w) / alike[:2], color), param.wt_bilateral))]
        share = ctx.node("Softmax", unary, axis=1)
        for _ in range(STEPS):
            parts = [ctx.node("Mul", _filtered(ctx, lattice, share, c), norm) for lattice, norm in filters]
            share = ctx.node("Softmax", ctx.node("Add", unary, ctx.node("Add", *parts)), axis=1)
        labels.append(ctx.node("ArgMax", share, axis=1, keepdims=0))
    found = ctx.node("Cast", ctx.node("Concat", *labels, axis=0), to=FLOAT)
    ctx.output("Reshape", found, ctx.integers([n, 1, h, w]))


@emits_python("DenseCRF")
def dense_crf_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.spec.get("densecrf_param")
    return ctx.call("crf_labels", *ctx.x, *map(numbers, (layer.near, layer.alike)), number(param.wt_gauss),
                    number(param.wt_bilateral))
