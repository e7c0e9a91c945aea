"""Layers that interpolate, or repeat pixels, to another size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..onnx_graph import INT64
from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number, numbers, pair
from .rearrangement import INT64_MAX, slice_onnx


@emits_onnx("Upsample=yolo")
def repeated_onnx(ctx: OnnxContext) -> None:
    scales = ctx.constant([1.0, 1.0, float(ctx.layer.scale), float(ctx.layer.scale)])
    ctx.output("Resize", ctx.x[0], "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor")


@emits_python("Upsample=yolo")
def repeated_python(ctx: PythonContext) -> str:
    return f"F.interpolate({ctx.x[0]}, scale_factor={ctx.layer.scale}, mode=\"nearest\")"


@emits_onnx("Interp=pspnet", "Interp=deeplab", "Interp=sized")
def interp_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    if layer.begin or layer.end:
        x = slice_onnx(ctx, x, [layer.begin] * 2, [-layer.end or INT64_MAX] * 2, [2, 3], [1, 1], last=False)
    size = _interp_size(ctx, x) if ctx.has_symbols(ctx.top_shapes[0][2:]) else ctx.integers(list(layer.size))
    _resize_onnx(ctx, x, size)


def _resize_onnx(ctx: OnnxContext, x: str, size: str) -> None:
    """Give the layer's top: x resized bilinearly to (h, w), with the corner pixels aligned."""
    ctx.output("Resize", x, "", "", size, axes=[2, 3], mode="linear", coordinate_transformation_mode="align_corners")


def _resize_python(x: str, size: str) -> str:
    return f"F.interpolate({x}, {size}, mode=\"bilinear\", align_corners=True)"


def _interp_size(ctx: OnnxContext, x: str) -> str:
    """Return the top's height and width, computed from those of x when the file runs."""
    param = ctx.layer.spec.get("interp_param")
    shrink, zoom = param.shrink_factor, param.zoom_factor
    last = ctx.node("Sub", ctx.sizes_of(x, 2), ctx.integers(1))  # the last pixel's index
    if shrink != 1:
        last = ctx.node("Div", last, ctx.integers(shrink))
    return ctx.node("Add", last if zoom == 1 else ctx.node("Mul", last, ctx.integers(zoom)), ctx.integers(1))


@emits_python("Interp=pspnet", "Interp=deeplab", "Interp=sized")
def interp_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    whole = x
    if layer.begin or layer.end:
        part = f"{layer.begin or ''}:{-layer.end or ''}"
        x = f"{x}[:, :, {part}, {part}]"
    size = pair(layer.size)
    if ctx.has_symbols(ctx.top_shapes[0][2:]):
        param, cut = layer.spec.get("interp_param"), layer.begin + layer.end + 1
        size = pair([f"({whole}.shape[{axis}] - {cut}) // {param.shrink_factor} * {param.zoom_factor} + 1"
                     for axis in (2, 3)])
    return _resize_python(x, size)


@emits_onnx("Interp=doubled")
def doubled_onnx(ctx: OnnxContext) -> None:
    doubled = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    inputs = [ctx.x[0], "", ctx.constant([1.0, 1.0, 2.0, 2.0])]
    if not ctx.layer.cut:
        ctx.output("Resize", *inputs, **doubled)
        return
    slice_onnx(ctx, ctx.node("Resize", *inputs, **doubled), [0, 0], [-1, -1], [2, 3], [1, 1])


@emits_python("Interp=doubled")
def doubled_python(ctx: PythonContext) -> str:
    h, w = ctx.plane()
    inner = _resize_python(ctx.x[0], pair((2 * h - 1, 2 * w - 1)))
    return inner if ctx.layer.cut else f'F.pad({inner}, (0, 1, 0, 1), mode="replicate")'


@emits_onnx("Python=custom_interpolation_layer")
def interpolated_maps_onnx(ctx: OnnxContext) -> None:
    _resize_onnx(ctx, ctx.x[0], ctx.integers(list(ctx.layer.shape[2:])))


@emits_python("Python=custom_interpolation_layer")
def interpolated_maps_python(ctx: PythonContext) -> str:
    return _resize_python(ctx.x[0], pair(ctx.layer.shape[2:]))


@emits_onnx("BilinearInterpolation")
def bilinear_onnx(ctx: OnnxContext) -> None:
    _resize_onnx(ctx, ctx.x[0], ctx.integers(list(ctx.layer.size)))


@emits_python("BilinearInterpolation")
def bilinear_python(ctx: PythonContext) -> str:
    return _resize_python(ctx.x[0], pair(ctx.layer.size))


@emits_onnx("ImResize")
def imresize_onnx(ctx: OnnxContext) -> None:
    rows, columns = _resized(ctx, ctx.shape())
    resized = ctx.node("MatMul", ctx.constant(rows), ctx.node("MatMul", ctx.x[0], ctx.constant(columns)))
    ctx.output("ReduceMean", resized, ctx.integers([0]))


@emits_python("ImResize")
def imresize_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    ctx.plane()
    return ctx.call("resize_images", ctx.x[0], pair(layer.size), number(layer.start), number(layer.gap))


def _resized(ctx: EmitContext, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each row and column in each value, (N, 1, H', H) and (N, 1, W, W')."""
    n, _, *plane = sizes
    rows, columns = (torch.stack([ctx.layer._along(torch.eye(size)[None], axis + 1, image) for image in range(n)])
                     for axis, size in enumerate(plane))
    return rows.numpy(), columns.numpy()


@emits_onnx("HyperColumns")
def hyper_columns_onnx(ctx: OnnxContext) -> None:
    _refuse_random_places(ctx)
    maps = []
    for i, x in enumerate(ctx.x[1:], 1):
        rows, columns = ctx.layer.sides(ctx.size(i)[1:], ctx.size()[1:])
        maps.append(ctx.node("MatMul", ctx.constant(rows), ctx.node("MatMul", x, ctx.constant(columns))))
    for x, shape, y in zip((ctx.node("Concat", *maps, axis=1), ctx.x[0]), ctx.top_shapes, ctx.y, strict=True):
        places = ctx.node("Reshape", x, ctx.integers([0, 0, -1]))
        if ctx.layer.step > 1:
            places = slice_onnx(ctx, places, [0], [INT64_MAX], [2], [ctx.layer.step], last=False)
        places = ctx.node("Transpose", places, perm=[0, 2, 1])
        ctx.graph.node("Reshape", [places, ctx.integers([-1, *(int(size) for size in shape[1:])])], [y])


@emits_python("HyperColumns")
def hyper_columns_python(ctx: PythonContext) -> str:
    _refuse_random_places(ctx)
    ctx.plane()
    return ctx.call("hyper_columns", ctx.x[0], f"[{', '.join(ctx.x[1:])}]", ctx.layer.step)


def _refuse_random_places(ctx: EmitContext) -> None:
    if ctx.layer.spec.get("hypercolumns_param").is_train:
        raise ctx.refuse("is_train: true picks random places; set it to false")


@emits_onnx("SparseHypercolumnExtractor")
def sparse_hypercolumns_onnx(ctx: OnnxContext) -> None:
    count = ctx.size()[0]
    places = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, count, 2]))
    at = ctx.graph.nodes_of("Split", [places, ctx.integers([1, 1])], 2, axis=2)  # rows, columns: (N, P, 1)
    found = []
    for i, (scale, top, left, factor) in enumerate(zip(*ctx.layer.given, strict=True), 1):
        plane = ctx.size(i)[1:]
        values = ctx.node("Transpose", ctx.node("Reshape", ctx.x[i], ctx.integers([0, 0, -1])), perm=[0, 2, 1])
        (row, above, below), (column, before, behind) = (
            _cell(ctx, ctx.node("Div", ctx.node("Sub", axis, ctx.constant(offset)), ctx.constant(scale)), extent)
            for axis, offset, extent in zip(at, (top, left), plane, strict=True))
        index = ctx.node("Add", ctx.node("Mul", row, ctx.integers(plane[1])), column)
        (a, b), (c, d) = ([ctx.node("GatherND", values, ctx.node("Add", index, ctx.integers(first + second)),
                                    batch_dims=1) for second in (0, 1)] for first in (0, plane[1]))
        upper, lower = (ctx.node("Add", ctx.node("Mul", before, one), ctx.node("Mul", behind, other))
                        for one, other in ((a, b), (c, d)))
        value = ctx.node("Add", ctx.node("Mul", above, upper), ctx.node("Mul", below, lower))
        found.append(value if factor == 1 else ctx.node("Mul", value, ctx.constant(factor)))
    rows = found[0] if len(found) == 1 else ctx.node("Concat", *found, axis=2)
    ctx.output("Reshape", rows, ctx.integers([-1, int(ctx.top_shapes[0][1])]))


def _cell(ctx: OnnxContext, at: str, extent: int) -> tuple[str, str, str]:
    """Return the cell before a place on an axis, int64, and how much that and the next one count."""
    at = ctx.node("Clip", at, ctx.constant(0.0), ctx.constant(np.float32(extent) - np.float32(1.0001)))
    low = ctx.node("Floor", at)
    after = ctx.node("Sub", at, low)
    before = ctx.node("Sub", ctx.node("Add", low, ctx.constant(1.0)), at)
    return ctx.node("Cast", low, to=INT64), before, after


@emits_python("SparseHypercolumnExtractor")
def sparse_hypercolumns_python(ctx: PythonContext) -> str:
    return ctx.call("columns_at", ctx.x[0], f"[{', '.join(ctx.x[1:])}]", *map(numbers, ctx.layer.given))
