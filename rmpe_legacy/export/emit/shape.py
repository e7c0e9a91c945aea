"""Layers that move values and change none."""

from __future__ import annotations

from rmpe_legacy.caffe.layers.network_cascades import MASK

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import reshape_arguments


@emits_onnx("Concat")
def concat_onnx(ctx: OnnxContext) -> None:
    if len(ctx.x) == 1:
        ctx.output("Identity", *ctx.x)
    else:
        ctx.output("Concat", *ctx.x, axis=ctx.layer.along)


@emits_python("Concat")
def concat_python(ctx: PythonContext) -> str:
    return ctx.x[0] if len(ctx.x) == 1 else f"torch.cat([{', '.join(ctx.x)}], {ctx.layer.along})"


@emits_onnx("Slice")
def slice_onnx(ctx: OnnxContext) -> None:
    if len(ctx.y) == 1:
        ctx.output("Identity", *ctx.x)
        return
    sizes = [shape[ctx.layer.along] for shape in ctx.top_shapes]
    if not all(isinstance(size, int) for size in sizes):
        ctx.fix_batch("cuts along the batch")
        return
    ctx.graph.node("Split", [*ctx.x, ctx.integers(sizes)], ctx.y, axis=ctx.layer.along)


@emits_python("Slice")
def slice_python(ctx: PythonContext) -> str:
    parts = [shape[ctx.layer.along] for shape in ctx.top_shapes]
    if len(parts) == 1:
        return ctx.x[0]
    if len(set(parts)) == 1:
        return f"{ctx.x[0]}.chunk({len(parts)}, {ctx.layer.along})"
    return f"{ctx.x[0]}.split([{', '.join(map(str, parts))}], {ctx.layer.along})"


@emits_onnx("Split")
def split_onnx(ctx: OnnxContext) -> None:
    for y in ctx.y:
        ctx.graph.node("Identity", ctx.x, [y])


@emits_python("Split")
def split_python(ctx: PythonContext) -> str:
    return ", ".join(ctx.x * len(ctx.top_shapes))


@emits_onnx("Reshape", "Reshape=in-place")
def reshape_onnx(ctx: OnnxContext) -> None:
    ctx.graph.reshape(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0], ctx.y[0])


@emits_python("Reshape", "Reshape=in-place")
def reshape_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.reshape({reshape_arguments(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0])})"


@emits_onnx("Flatten")
def flatten_onnx(ctx: OnnxContext) -> None:
    if len(ctx.top_shapes[0]) == 2 and ctx.bottom_shapes[0][:1] == ctx.top_shapes[0][:1]:
        ctx.output("Flatten", *ctx.x)
    else:
        ctx.graph.reshape(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0], ctx.y[0])


@emits_python("Flatten")
def flatten_python(ctx: PythonContext) -> str:
    if len(ctx.top_shapes[0]) == 2 and ctx.bottom_shapes[0][:1] == ctx.top_shapes[0][:1]:
        return f"{ctx.x[0]}.flatten(1)"
    return reshape_python(ctx)


@emits_onnx("Permute")
def permute_onnx(ctx: OnnxContext) -> None:
    ctx.output("Transpose", *ctx.x, perm=ctx.layer.order)


@emits_python("Permute")
def permute_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.permute({', '.join(map(str, ctx.layer.order))})"


@emits_onnx("Crop")
def crop_onnx(ctx: OnnxContext) -> None:
    cut: dict[int, int] = {}  # axis -> where the crop begins
    for axis, part in enumerate(ctx.layer.parts):
        have, want = ctx.bottom_shapes[0][axis], ctx.top_shapes[0][axis]
        if part == slice(None) or have == want:
            continue
        if ctx.graph.graph.dynamic is None and not (isinstance(have, int) and isinstance(want, int)):
            ctx.fix_batch("crops the batch")
            return
        cut[axis] = part.start
    crop_to(ctx, cut)


def crop_to(ctx: OnnxContext, cut: dict[int, int]) -> None:
    """Cut the first bottom to the top's sizes; on an axis that has another size for other inputs, to the second
    bottom's. cut: axis -> where the part begins."""
    axes = sorted(cut)
    if not axes:
        ctx.output("Identity", ctx.x[0])
        return
    starts = ctx.integers([cut[axis] for axis in axes])
    wanted = [ctx.top_shapes[0][axis] for axis in axes]
    fixed = [size for size in wanted if isinstance(size, int)]
    if len(fixed) < len(wanted):
        sizes = ctx.node("Gather", ctx.sizes_of(ctx.x[1], 0), ctx.integers(axes))
        ends = ctx.node("Add", sizes, starts) if any(cut.values()) else sizes
    else:
        ends = ctx.integers([cut[axis] + size for axis, size in zip(axes, fixed, strict=True)])
    ctx.output("Slice", ctx.x[0], starts, ends, ctx.integers(axes))


@emits_python("Crop")
def crop_python(ctx: PythonContext) -> str:
    have, want = ctx.bottom_shapes[0], ctx.top_shapes[0]
    parts = [":" if part == slice(None) or have[i] == want[i] else cut_python(ctx, i, part.start)
             for i, part in enumerate(ctx.layer.parts)]
    while parts and parts[-1] == ":":
        parts.pop()
    return f"{ctx.x[0]}[{', '.join(parts)}]" if parts else ctx.x[0]


def cut_python(ctx: PythonContext, axis: int, begin: int) -> str:
    """Return the slice of the first bottom that gives an axis of the top: the second bottom's size, if that varies."""
    size = ctx.top_shapes[0][axis]
    if isinstance(size, int):
        return f"{begin}:{begin + size}"
    size = f"{ctx.x[1]}.shape[{axis}]"
    return f"{begin}:{begin} + {size}" if begin else f":{size}"


@emits_onnx("Tile")
def tile_onnx(ctx: OnnxContext) -> None:
    ctx.output("Tile", *ctx.x, ctx.integers(list(ctx.layer.times)))


@emits_python("Tile")
def tile_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.repeat({', '.join(map(str, ctx.layer.times))})"


@emits_onnx("Python=MaskLayer")
def cascade_mask_onnx(ctx: OnnxContext) -> None:
    ctx.output("Reshape", *ctx.x[:1], ctx.integers([-1, 1, MASK, MASK]))


@emits_python("Python=MaskLayer")
def cascade_mask_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.reshape(-1, 1, {MASK}, {MASK})"


@emits_onnx("Duplicate")
def duplicate_onnx(ctx: OnnxContext) -> None:
    one = ctx.graph.reshape(ctx.x[0], ctx.bottom_shapes[0], (*ctx.bottom_shapes[0][:2], 1, 1))
    ctx.output("Expand", one, ctx.integers([1, 1, *map(int, ctx.top_shapes[0][2:])]))


@emits_python("Duplicate")
def duplicate_python(ctx: PythonContext) -> str:
    h, w = ctx.plane(top=True)
    return f"{ctx.x[0]}.flatten(1)[:, :, None, None].expand(-1, -1, {h}, {w})"
