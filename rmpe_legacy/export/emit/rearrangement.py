"""Layers that move values and compute nothing: slices, flips, permutations, padding."""

from __future__ import annotations

import math

import torch

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import pair, reshape_arguments
from .shape import crop_to, cut_python

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def slice_onnx(ctx: OnnxContext, x: str, begin: list[int], end: list[int], axes: list[int], steps: list[int],
           last: bool = True) -> str:
    inputs = (x, *map(ctx.integers, (begin, end, axes, steps)))
    if last:
        ctx.output("Slice", *inputs)
        return ctx.y[0]
    return ctx.node("Slice", *inputs)


@emits_onnx("Padding")
def padding_onnx(ctx: OnnxContext) -> None:
    begin, end = ctx.layer.begin, ctx.layer.end
    ctx.output("Pad", ctx.maps(), ctx.integers([0, 0, begin, begin, 0, 0, end, end]))


@emits_python("Padding")
def padding_python(ctx: PythonContext) -> str:
    begin, end = ctx.layer.begin, ctx.layer.end
    return f"F.pad({ctx.maps()}, ({begin}, {end}, {begin}, {end}))"


@emits_onnx("Reorg", "Reorg=yolo9000", "Python=darknet_reorg")
def reorg_onnx(ctx: OnnxContext) -> None:
    c, h, w = ctx.size()
    s = ctx.layer.stride
    if ctx.layer.backwards:
        split, order = [-1, s, s, c // s**2, h, w], [0, 3, 4, 1, 5, 2]
    else:
        split, order = [-1, c // s**2, h, s, w, s], [0, 3, 5, 1, 2, 4]
    x = ctx.node("Transpose", ctx.node("Reshape", ctx.x[0], ctx.integers(split)), perm=order)
    ctx.output("Reshape", x, ctx.integers([-1, *ctx.graph.graph.at_own_sizes(ctx.top_shapes[0][1:])]))


@emits_python("Reorg", "Reorg=yolo9000", "Python=darknet_reorg")
def reorg_python(ctx: PythonContext) -> str:
    c, h, w = ctx.bottom_shapes[0][1:]
    s = ctx.layer.stride
    if ctx.layer.backwards:
        split, order = (-1, s, s, c // s**2, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, order = (-1, c // s**2, h, s, w, s), (0, 3, 5, 1, 2, 4)
    return f"{ctx.x[0]}.reshape{split}.permute{order}.reshape{(-1, *ctx.top_shapes[0][1:])}"


@emits_onnx("Flip")
def flip_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("flip_param")
    axes = [axis for axis, wanted in ((2, param.flip_height), (3, param.flip_width)) if wanted]
    if not axes:
        ctx.output("Identity", ctx.x[0])
        return
    slice_onnx(ctx, ctx.x[0], [-1] * len(axes), [INT64_MIN] * len(axes), axes, [-1] * len(axes))


@emits_python("Flip")
def flip_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("flip_param")
    return f"{ctx.x[0]}.flip({[axis for axis, on in ((2, param.flip_height), (3, param.flip_width)) if on]})"


@emits_onnx("Reverse")
def reverse_onnx(ctx: OnnxContext) -> None:
    slice_onnx(ctx, ctx.x[0], [-1], [INT64_MIN], [ctx.layer.along], [-1])


@emits_python("Reverse")
def reverse_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.flip({ctx.layer.along})"


@emits_onnx("Transpose")
def transpose_onnx(ctx: OnnxContext) -> None:
    ctx.output("Transpose", ctx.x[0], perm=list(ctx.layer.order))


@emits_python("Transpose")
def transpose_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.permute({pair(ctx.layer.order)})"


@emits_onnx("ShuffleChannel")
def shuffle_channel_onnx(ctx: OnnxContext) -> None:
    c, *rest = ctx.size()
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, ctx.layer.group, c // ctx.layer.group, math.prod(rest)]))
    ctx.output("Reshape", ctx.node("Transpose", x, perm=[0, 2, 1, 3]), ctx.integers([-1, c, *rest]))


@emits_python("ShuffleChannel")
def shuffle_channel_python(ctx: PythonContext) -> str:
    c, *rest = ctx.bottom_shapes[0][1:]
    return (f"{ctx.x[0]}.unflatten(1, ({ctx.layer.group}, {c // ctx.layer.group})).transpose(1, 2)"
            f".reshape{(-1, c, *rest)}")


@emits_onnx("AutoCrop", "Crop=hed")
def aligned_crop_onnx(ctx: OnnxContext) -> None:
    top, left = ctx.layer.offset
    crop_to(ctx, {2: top, 3: left})


@emits_python("AutoCrop", "Crop=hed")
def aligned_crop_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}[:, :, {', '.join(cut_python(ctx, axis, ctx.layer.offset[axis - 2]) for axis in (2, 3))}]"


@emits_onnx("Gather")
def gather_onnx(ctx: OnnxContext) -> None:
    for x, y in zip(ctx.x, ctx.y, strict=True):
        ctx.graph.node("Identity", [x], [y])


@emits_python("Gather")
def gather_python(ctx: PythonContext) -> str:
    return ", ".join(ctx.x)


@emits_onnx("CropCenter")
def crop_center_onnx(ctx: OnnxContext) -> None:
    cut = {axis: margin for axis, margin in enumerate(ctx.layer.margins) if margin}
    if not cut:
        ctx.output("Identity", ctx.x[0])
        return
    margins = list(cut.values())
    slice_onnx(ctx, ctx.x[0], margins, [-margin for margin in margins], list(cut), [1] * len(cut))


@emits_python("CropCenter")
def crop_center_python(ctx: PythonContext) -> str:
    parts = [f"{margin}:-{margin}" if margin else ":" for margin in ctx.layer.margins]
    return f"{ctx.x[0]}[{', '.join(parts)}]"


@emits_onnx("Tiling", "Reshape=pixelshuffler")
def tiling_onnx(ctx: OnnxContext) -> None:
    ctx.output("DepthToSpace", ctx.x[0], blocksize=ctx.layer.side, mode="CRD")


@emits_python("Tiling", "Reshape=pixelshuffler")
def tiling_python(ctx: PythonContext) -> str:
    return f"F.pixel_shuffle({ctx.x[0]}, {ctx.layer.side})"


@emits_onnx("PeriodicShuffle")
def periodic_shuffle_onnx(ctx: OnnxContext) -> None:
    ctx.output("DepthToSpace", ctx.x[0], blocksize=ctx.layer.block, mode="DCR")


@emits_python("PeriodicShuffle")
def periodic_shuffle_python(ctx: PythonContext) -> str:
    return ctx.call("depth_to_space", ctx.x[0], ctx.layer.block)


@emits_onnx("Transpose=places")
def transposed_places_onnx(ctx: OnnxContext) -> None:
    size = _channels_and_places(ctx)
    turned = ctx.node("Transpose", ctx.node("Reshape", ctx.x[0], ctx.integers(size)), perm=[0, 2, 1])
    ctx.output("Reshape", turned, ctx.integers(ctx.graph.graph.at_own_sizes(ctx.top_shapes[0])))


@emits_python("Transpose=places")
def transposed_places_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.reshape{tuple(_channels_and_places(ctx))}.mT.reshape{ctx.top_shapes[0]}"


def _channels_and_places(ctx: EmitContext) -> list[int]:
    """The shape of the bottom with one axis of channels and one of places, in the order that it has them."""
    sizes = tuple(size for size in ctx.bottom_shapes[0] if isinstance(size, int))
    if sizes != ctx.bottom_shapes[0]:
        raise ctx.refuse("its top has a fixed size")
    n, c, h, w = ctx.layer.nchw(sizes)
    return [n, c, h * w] if ctx.layer.spec.get("transpose_param").transposetype == "CONVTOLSTM" else [n, h * w, c]


@emits_onnx("Mask=border")
def border_mask_onnx(ctx: OnnxContext) -> None:
    ctx.output("Identity", ctx.constant(ctx.layer.forward().numpy()))


@emits_python("Mask=border")
def border_mask_python(ctx: PythonContext) -> str:
    return ctx.writer.buffer(ctx.layer, ctx.layer.forward())


@emits_onnx("MTranspose")
def mtranspose_onnx(ctx: OnnxContext) -> None:
    begin, end = _side_by_side(ctx)
    parts = ctx.node("Transpose", ctx.node("Reshape", ctx.x[0], ctx.integers(begin)), perm=[0, 1, 3, 2])
    ctx.output("Reshape", parts, ctx.integers(end))


@emits_python("MTranspose")
def mtranspose_python(ctx: PythonContext) -> str:
    begin, end = _side_by_side(ctx)
    return f"{ctx.x[0]}.reshape{tuple(begin)}.transpose(2, 3).reshape{tuple(end)}"


def _side_by_side(ctx: EmitContext) -> tuple[list[int], list[int]]:
    """The shape whose last two axes are exchanged, and that of the top."""
    if ctx.has_symbols(ctx.bottom_shapes[0][1:]):
        raise ctx.refuse("it is written for fixed sizes only")
    (_, c, h, w), groups = ctx.layer.size, ctx.layer.groups
    if ctx.layer.inverse:
        return [-1, c // groups, h * w, groups], [-1, c, h, w]
    return [-1, c // groups, groups, h * w], [-1, groups]


@emits_onnx("DynamicMaskData")
def dynamic_mask_data_onnx(ctx: OnnxContext) -> None:
    have, want = ctx.bottom_shapes[0], ctx.top_shapes[0]
    x = ctx.x[0] if have == want else ctx.graph.reshape(ctx.x[0], have, want)
    ctx.output("Expand", ctx.constant(_kept(ctx).numpy()), ctx.node("Shape", x))


@emits_python("DynamicMaskData")
def dynamic_mask_data_python(ctx: PythonContext) -> str:
    mask = ctx.writer.buffer(ctx.layer, _kept(ctx))
    return f"{mask}.expand({reshape_arguments(ctx.x[0], ctx.bottom_shapes[0], ctx.top_shapes[0])})"


def _kept(ctx: EmitContext) -> torch.Tensor:
    """1 for the channels that are kept, else 0: (1, C, 1, 1)."""
    channels = ctx.top_shapes[0][1]
    if not isinstance(channels, int):
        raise ctx.refuse("it is written for a fixed number of channels only")
    return ctx.layer.forward(torch.zeros(1, channels, 1, 1)).clone()
