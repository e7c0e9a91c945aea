"""Faces aligned by landmarks, whose parts are looked at one by one."""

from __future__ import annotations

import numpy as np

from rmpe_legacy.caffe.layers.action_units import EYES, UNITS
from rmpe_legacy.caffe.proto.message import Message

from ..onnx_graph import DOUBLE, FLOAT, INT64
from .boxes import half_away, split
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number, pair


@emits_onnx("Division")
def division_onnx(ctx: OnnxContext) -> None:
    h, w = ctx.layer.size
    for (row, column), y in zip(ctx.layer.at, ctx.y, strict=True):
        ctx.graph.node("Slice", [ctx.x[0], *map(ctx.integers, ([row, column], [row + h, column + w], [2, 3]))], [y])


@emits_python("Division")
def division_python(ctx: PythonContext) -> str:
    h, w = ctx.layer.size
    return ", ".join(f"{ctx.x[0]}[:, :, {row}:{row + h}, {column}:{column + w}]" for row, column in ctx.layer.at)


@emits_onnx("Combination")
def combination_onnx(ctx: OnnxContext) -> None:
    (height, width), whole = ctx.layer.size, ""
    for (row, column), x, part in zip(ctx.layer.at, ctx.x, ctx.bottom_shapes, strict=True):
        h, w = map(int, part[2:])
        below, right = height - row - h, width - column - w
        pasted = ctx.node("Pad", x, ctx.integers([0, 0, row, column, 0, 0, below, right]))
        covers = np.pad(np.ones((h, w), bool), ((row, below), (column, right)))
        whole = ctx.node("Where", ctx.graph.constant(covers, bool), pasted, whole) if whole else pasted
    ctx.output("Identity", whole)


@emits_python("Combination")
def combination_python(ctx: PythonContext) -> str:
    return ctx.call("pasted", f"[{', '.join(ctx.x)}]", str([*map(tuple, ctx.layer.at)]), pair(ctx.layer.size))


@emits_onnx("AUMaskBasedLand")
def au_mask_based_land_onnx(ctx: OnnxContext) -> None:
    """All squares at once, (N, squares, S, S): of each unit the first, then of each the second."""
    param, side = _param(ctx), ctx.layer.side
    land = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, int(np.prod(ctx.size()))]))
    across, down = (ctx.node("Slice", land, *map(ctx.integers, ([first], [98], [1], [2]))) for first in (0, 1))
    left, right = (ctx.node("Gather", across, ctx.integers([eye]), axis=1) for eye in EYES)
    apart = ctx.node("Abs", ctx.node("Sub", left, right))
    middles = [middle for both in zip(*UNITS, strict=True) for middle in both]
    marks, below = np.array([mark for mark, _ in middles]), [share for _, share in middles]
    times = np.array([[round(1 / abs(share)) if share else 1 for share in below]])
    moved = ctx.node("Mul", ctx.node("Div", apart, ctx.constant(times)), ctx.constant([np.sign(below)]))
    x, y = (ctx.node("Gather", places, ctx.integers(marks), axis=1) for places in (across, down))
    y = ctx.node("Add", y, moved)
    inside, distance, scale = [], [], ctx.constant(param.spatial_scale)
    half = float(np.float32((param.img_size - 1) / 2.0 * param.spatial_ratio))
    for place, shape in ((y, (side, 1)), (x, (1, side))):
        first, last = (_edge(ctx, ctx.node("Mul", ctx.node("Add", place, ctx.constant(sign * half)), scale))
                       for sign in (-1, 1))
        cells = ctx.constant(np.arange(side).reshape(shape))
        inside += [ctx.node("GreaterOrEqual", cells, first), ctx.node("LessOrEqual", cells, last)]
        middle = ctx.node("Unsqueeze", ctx.node("Mul", place, scale), ctx.integers([2, 3]))
        distance.append(ctx.node("Abs", ctx.node("Sub", cells, middle)))
    step = 100.0 / float(np.float32(param.img_size) * np.float32(param.spatial_scale))
    fallen = ctx.node("Mul", ctx.node("Add", *distance), ctx.constant(param.fill_coeff))
    fallen = ctx.node("Mul", ctx.node("Cast", fallen, to=DOUBLE), ctx.graph.constant(step, np.float64))
    value = ctx.node("Cast", ctx.node("Sub", ctx.graph.constant(1.0, np.float64), fallen), to=FLOAT)
    fill, covers = ctx.constant(param.fill_value), inside[0]
    for side_of in inside[1:]:
        covers = ctx.node("And", covers, side_of)
    if param.fill_type != "manhattan":
        covers = ctx.node("And", covers, ctx.graph.constant(False, bool))
    value = ctx.node("Where", covers, ctx.node("Max", value, fill), fill)
    units = [len(UNITS)] * 2
    (value_1, value_2), (_, covers_2) = (split(ctx, both, *units, axis=1) for both in (value, covers))
    masks = ctx.node("Where", covers_2, value_2, value_1)
    ctx.graph.node("Split", [masks, ctx.integers([1] * len(UNITS))], ctx.y[:-1], axis=1)
    ctx.graph.node("ReduceMax", [value, ctx.integers([1])], [ctx.y[-1]])


def _edge(ctx: OnnxContext, place: str) -> str:
    """Return places (N, K) as cells of the mask (N, K, 1, 1), rounded; what is no number is the first."""
    known = ctx.node("Where", ctx.node("IsNaN", place), ctx.constant(0.0), place)
    near = ctx.node("Clip", known, ctx.constant(-1.0), ctx.constant(float(ctx.layer.side)))
    cell = ctx.node("Clip", half_away(ctx, near), ctx.constant(0.0), ctx.constant(float(ctx.layer.side - 1)))
    return ctx.node("Unsqueeze", cell, ctx.integers([2, 3]))


def _param(ctx: EmitContext) -> Message:
    return ctx.layer.spec.get("au_mask_based_land_param")


@emits_python("AUMaskBasedLand")
def au_mask_based_land_python(ctx: PythonContext) -> str:
    param = _param(ctx)
    units = str([[(mark, number(share)) for mark, share in both] for both in UNITS]).replace("'", "")
    return ctx.call("unit_masks", ctx.x[0], units, EYES, ctx.layer.side, param.img_size,
                    number(param.spatial_scale), number(param.spatial_ratio), number(param.fill_coeff),
                    number(param.fill_value), f"filled={param.fill_type == 'manhattan'}")


@emits_onnx("AlignDataTransform")
def align_data_transform_onnx(ctx: OnnxContext) -> None:
    values = int(np.prod(ctx.size()))
    land = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, values // 2, 2]))
    images = ctx.sizes_of(ctx.x[0], 0, 1)
    crop = ctx.node("Reshape", ctx.x[1], ctx.integers([-1]))
    crop = ctx.node("Slice", crop, ctx.integers([0]), ctx.node("Mul", images, ctx.integers([4])), ctx.integers([0]))
    crop = ctx.node("Reshape", crop, ctx.integers([-1, 1, 4]))
    other = ctx.node("Reshape", ctx.x[2], ctx.integers([-1]))
    other = ctx.node("Slice", other, *map(ctx.integers, ([0], [values // 2], [0])))
    other = ctx.node("Sub", ctx.node("Cast", other, to=INT64), ctx.integers([1]))
    mirrored, width, row, column = split(ctx, crop, 1, 1, 1, 1)
    moved = ctx.node("Sub", land, ctx.node("Concat", column, row, axis=2))
    across, down = split(ctx, moved, 1, 1)
    turned = ctx.node("Sub", ctx.node("Sub", width, ctx.constant(1.0)), across)
    flipped = ctx.node("Gather", ctx.node("Concat", turned, down, axis=2), other, axis=1)
    is_mirrored = ctx.node("Not", ctx.node("Equal", mirrored, ctx.constant(0.0)))
    top = ctx.node("Where", is_mirrored, flipped, moved)
    ctx.graph.reshape(top, ctx.bottom_shapes[0], ctx.top_shapes[0], ctx.y[0])


@emits_python("AlignDataTransform")
def align_data_transform_python(ctx: PythonContext) -> str:
    rest = ", ".join(map(str, ctx.top_shapes[0][1:]))
    return f"{ctx.call('align_landmarks', *ctx.x)}.reshape(-1, {rest})"
