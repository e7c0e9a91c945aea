"""AttentionMask's choice of windows."""

from __future__ import annotations

import math

import numpy as np

from rmpe_legacy.caffe.layers.attention_mask import HAS_NONE, HAS_OBJECT

from ..onnx_graph import BOOL, FLOAT, INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python

_END = (1 << 63) - 1
_ROW = [1, 1, 1, -1]
_COLUMN = [-1, 1, 1, 1]


def _flat(ctx: OnnxContext, x: str) -> str:
    return ctx.node("Reshape", x, ctx.integers([-1]))


def _part(ctx: OnnxContext, x: str, begin: str, end: str) -> str:
    """Return the rows of x from one number, (1,), to another."""
    return ctx.node("Slice", x, begin, end, ctx.integers([0]))


@emits_onnx("CheckAtt")
def check_att_onnx(ctx: OnnxContext) -> None:
    shape = ctx.shape()
    first = np.arange(math.prod(shape)).reshape(shape) == 0
    larger = ctx.node("ReduceMax", ctx.node("Cast", ctx.node("Greater", *ctx.x), to=FLOAT), keepdims=0)
    none = ctx.node("Not", ctx.node("Cast", larger, to=BOOL))
    changed = ctx.node("And", ctx.graph.constant(first, bool), none)
    for x, value, y in zip(ctx.x, (HAS_OBJECT, HAS_NONE), ctx.y, strict=True):
        ctx.graph.node("Where", [changed, ctx.constant(value), x], [y])


@emits_python("CheckAtt")
def check_att_python(ctx: PythonContext) -> str:
    return ctx.call("with_an_object", *ctx.x, HAS_OBJECT, HAS_NONE)


@emits_onnx("ArgMaxMy", "ArgMaxAll")
def arg_max_my_onnx(ctx: OnnxContext) -> None:
    """Of equal scores the last goes first; TopK takes the first, so the row is reversed."""
    param, places = ctx.layer.spec.get("argmax_param"), ctx.size()[-1]
    larger = _flat(ctx, ctx.node("Cast", ctx.node("Greater", *ctx.x), to=INT64))
    kept = ctx.node("Max", ctx.node("ReduceSum", larger, ctx.integers([0])), ctx.integers([ctx.layer.least]))
    turned = ctx.node("Slice", _flat(ctx, ctx.x[0]), *map(ctx.integers, ([-1], [-_END], [0], [-1])))
    values, at = ctx.graph.nodes_of("TopK", [turned, kept], 2, axis=0)
    numbers = ctx.node("Cast", ctx.node("Sub", ctx.integers(places - 1), at), to=FLOAT)
    both = param.out_max_val and not param.has("axis")
    rows = ctx.node("Concat", numbers, values, axis=0) if both else values if param.out_max_val else numbers
    shape = (1, 1, 1, -1) if param.has("axis") else (1, 1 + both, -1, 1)
    ctx.output("Reshape", rows, ctx.integers(shape))
    ctx.graph.shapes[ctx.y[0]] = tuple("places" if size == -1 else size for size in shape)


@emits_python("ArgMaxMy", "ArgMaxAll")
def arg_max_my_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("argmax_param")
    return ctx.call("best_places", *ctx.x, ctx.layer.least, f"in_row={param.has('axis')}",
                    f"scores={param.out_max_val}")


@emits_onnx("ConvertIndices")
def convert_indices_onnx(ctx: OnnxContext) -> None:
    at = ctx.node("Cast", _flat(ctx, ctx.x[0]), to=INT64)
    ones = ctx.node("Expand", ctx.constant(1.0), ctx.node("Shape", at))
    flags = ctx.node("ScatterElements", ctx.constant(np.zeros(ctx.size(1)[-1])), at, ones)
    there = ctx.node("Gather", _flat(ctx, ctx.x[1]), at)
    for x, shape, y in zip((flags, there), (_ROW, _COLUMN), ctx.y, strict=True):
        ctx.graph.node("Reshape", [x, ctx.integers(shape)], [y])


@emits_python("ConvertIndices")
def convert_indices_python(ctx: PythonContext) -> str:
    numbers, scores = ctx.x
    at = f"{numbers}.flatten().long()"
    return (f"torch.zeros_like({scores}).index_fill(3, {at}, 1), "
            f"{scores}.flatten()[{at}].reshape(-1, 1, 1, 1)")


@emits_onnx("FlagsToIndices")
def flags_to_indices_onnx(ctx: OnnxContext) -> None:
    at = ctx.node("NonZero", ctx.node("Equal", _flat(ctx, ctx.x[0]), ctx.constant(1.0)))
    ctx.output("Reshape", ctx.node("Cast", at, to=FLOAT), ctx.integers(_COLUMN))
    ctx.graph.shapes[ctx.y[0]] = ("flags", 1, 1, 1)


@emits_python("FlagsToIndices")
def flags_to_indices_python(ctx: PythonContext) -> str:
    return f"({ctx.x[0]}.flatten() == 1).nonzero().to({ctx.x[0]}).reshape(-1, 1, 1, 1)"


@emits_onnx("SplitIndices")
def split_indices_onnx(ctx: OnnxContext) -> None:
    ctx.graph.node("Split", [ctx.x[0], ctx.integers(ctx.layer.sizes)], ctx.y, axis=3)


@emits_python("SplitIndices")
def split_indices_python(ctx: PythonContext) -> str:
    parts = f"{ctx.x[0]}.split({ctx.layer.sizes}, 3)"
    return parts if len(ctx.top_shapes) > 1 else f"{parts}[0]"


@emits_onnx("SlidingWindowIndex")
def sliding_window_index_onnx(ctx: OnnxContext) -> None:
    """Gather each window from the padded map, and one of zeros for the case that there is none."""
    (h, w), (channels, _, wide) = ctx.layer.window, ctx.size()
    at = _flat(ctx, ctx.node("NonZero", ctx.node("Greater", _flat(ctx, ctx.x[1]), ctx.constant(0.0))))
    at = ctx.node("Unsqueeze", at, ctx.integers([1, 2]))
    row = ctx.node("Div", at, ctx.integers(wide + 1))
    column = ctx.node("Sub", at, ctx.node("Mul", row, ctx.integers(wide + 1)))
    places = (np.arange(h)[:, None] * (wide + w) + np.arange(w)).astype(np.int64)
    at = ctx.node("Add", ctx.node("Add", ctx.node("Mul", row, ctx.integers(wide + w)), column), ctx.integers(places))
    padded = ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, h // 2, w // 2] * 2))
    padded = ctx.node("Reshape", padded, ctx.integers([channels, -1]))
    found = ctx.node("Transpose", ctx.node("Gather", padded, at, axis=1), perm=[1, 0, 2, 3])
    count = ctx.node("Max", ctx.node("Shape", found, start=0, end=1), ctx.integers([1]))
    found = ctx.node("Concat", found, ctx.constant(np.zeros((1, channels, h, w))), axis=0)
    ctx.output("Slice", found, ctx.integers([0]), count, ctx.integers([0]))
    ctx.graph.shapes[ctx.y[0]] = ("windows", channels, h, w)


@emits_python("SlidingWindowIndex")
def sliding_window_index_python(ctx: PythonContext) -> str:
    return ctx.call("windows_at", *ctx.x, tuple(ctx.layer.window))


@emits_onnx("TopK", "TopKOld")
def top_k_onnx(ctx: OnnxContext) -> None:
    scores = ctx.node("Reshape", ctx.x[1], ctx.integers([0, -1]))
    if math.prod(ctx.size(1)) > 1:
        scores = ctx.node("Slice", scores, *map(ctx.integers, ([1], [_END], [1])))
        scores = ctx.node("Max", ctx.node("ReduceMax", scores, ctx.integers([1])), ctx.constant(0.0))
    count, wanted = (ctx.sizes_of(x, 0, 1) for x in (ctx.x[0], ctx.x[2]))
    kept = ctx.node("Min", count, wanted)
    order = ctx.graph.nodes_of("TopK", [_flat(ctx, scores), count], 2, axis=0)[1]
    best = ctx.graph.nodes_of("TopK", [_part(ctx, order, ctx.integers([0]), kept), kept], 2, axis=0, largest=0)[0]
    missing = ctx.node("Sub", wanted, kept)
    if ctx.layer.spec.type == "TopK":
        ctx.output("Gather", ctx.x[0], best, axis=0)
    else:
        zeros = [0] * len(ctx.bottom_shapes[0])
        pads = ctx.node("Concat", ctx.integers(zeros), missing, ctx.integers(zeros[1:]), axis=0)
        ctx.output("Pad", ctx.node("Gather", ctx.x[0], best, axis=0), pads)
    if len(ctx.y) == 2:
        numbers = ctx.node("Concat", best, _part(ctx, order, kept, ctx.integers([_END])), axis=0)
        numbers = ctx.node("Cast", _part(ctx, numbers, ctx.integers([0]), wanted), to=FLOAT)
        numbers = ctx.node("Pad", numbers, ctx.node("Concat", ctx.integers([0]), missing, axis=0))
        ctx.graph.node("Reshape", [numbers, ctx.integers(_COLUMN)], [ctx.y[1]])


@emits_python("TopK", "TopKOld")
def top_k_python(ctx: PythonContext) -> str:
    both = ctx.call("rows_of_best", *ctx.x, f"filled={ctx.layer.spec.type == 'TopKOld'}")
    return both if len(ctx.top_shapes) == 2 else f"{both}[0]"
