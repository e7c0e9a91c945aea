"""TensorFlow's operations as Caffe layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.resize_image import around

from ..onnx_graph import FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import number, pair
from .rearrangement import slice_onnx
from .shape import flatten_onnx, flatten_python


@emits_onnx("Add")
def add_onnx(ctx: OnnxContext) -> None:
    ctx.output("Add", *ctx.x)


@emits_python("Add")
def add_python(ctx: PythonContext) -> str:
    return " + ".join(ctx.x)


@emits_onnx("Mul", "TileProduct")
def mul_onnx(ctx: OnnxContext) -> None:
    ctx.output("Mul", ctx.x[0], ctx.x[1] if len(ctx.x) > 1 else ctx.weight(0))


@emits_python("Mul", "TileProduct")
def mul_python(ctx: PythonContext) -> str:
    if len(ctx.x) > 1:
        return " * ".join(ctx.x)
    return f"{ctx.x[0]} * {ctx.writer.buffer(ctx.layer, ctx.layer.blobs()[0])}"


emits_onnx("Squeeze")(flatten_onnx)
emits_python("Squeeze")(flatten_python)


@emits_onnx("Pad")
def pad_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    ctx.output("Pad", ctx.x[0], ctx.integers([*layer.before, *layer.end]), ctx.constant(layer.value))


@emits_python("Pad")
def pad_python(ctx: PythonContext) -> str:
    value = "" if ctx.layer.value == 0 else f", value={number(ctx.layer.value)}"
    return f"F.pad({ctx.x[0]}, {pair(ctx.layer.margin())}{value})"


@emits_onnx("DepthToSpace")
def depth_to_space_onnx(ctx: OnnxContext) -> None:
    layer, x = ctx.layer, ctx.x[0]
    mode = "CRD" if layer.format == "CRD" else "DCR"
    if layer.format != "NHWC":
        ctx.output("DepthToSpace", x, blocksize=layer.block, mode=mode)
        return
    x = ctx.node("DepthToSpace", ctx.node("Transpose", x, perm=[0, 3, 1, 2]), blocksize=layer.block, mode=mode)
    ctx.output("Transpose", x, perm=[0, 2, 3, 1])


@emits_python("DepthToSpace")
def depth_to_space_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    if layer.format == "CRD":
        return f"F.pixel_shuffle({ctx.x[0]}, {layer.block})"
    return ctx.call("depth_to_space", ctx.x[0], layer.block, layer.format == "NHWC")


@emits_onnx("SpaceToBatchND")
def space_to_batch_onnx(ctx: OnnxContext) -> None:
    layer, (n, *sizes) = ctx.layer, ctx.shape()
    axes, rest = len(layer.blocks), len(sizes) - len(layer.blocks)
    begin, end = zip(*layer.margin, strict=True)
    x = ctx.node("Pad", ctx.x[0], ctx.integers([0, *begin, *[0] * rest, 0, *end, *[0] * rest]))
    padded = layer.padded((n, *sizes))
    parts = [size for whole, block in zip(padded, layer.blocks, strict=True) for size in (whole // block, block)]
    x = ctx.node("Reshape", x, ctx.integers([n, *parts, *sizes[axes:]]))
    x = ctx.node("Transpose", x, perm=[*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2),
                                       *range(2 * axes + 1, 2 * axes + 1 + rest)])
    (top,) = layer.reshape((n, *sizes))
    ctx.output("Reshape", x, ctx.integers([-1, *top[1:]]))


@emits_onnx("BatchToSpaceND")
def batch_to_space_onnx(ctx: OnnxContext) -> None:
    layer, sizes = ctx.layer, ctx.shape()[1:]
    axes = len(layer.blocks)
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([*layer.blocks, -1, *sizes]))
    order = [axes, *(axis for i in range(axes) for axis in (axes + 1 + i, i)),
             *range(2 * axes + 1, axes + 1 + len(sizes))]
    whole = [size * block for size, block in zip(sizes, layer.blocks, strict=False)]
    x = ctx.node("Reshape", ctx.node("Transpose", x, perm=order), ctx.integers([-1, *whole, *sizes[axes:]]))
    begin = [before for before, _ in layer.margin]
    end = [size - after for size, (_, after) in zip(whole, layer.margin, strict=True)]
    slice_onnx(ctx, x, begin, end, list(range(1, axes + 1)), [1] * axes, last=True)


@emits_python("SpaceToBatchND")
def space_to_batch_python(ctx: PythonContext) -> str:
    return ctx.call("space_to_batch", ctx.x[0], ctx.layer.blocks, ctx.layer.margin)


@emits_python("BatchToSpaceND")
def batch_to_space_python(ctx: PythonContext) -> str:
    return ctx.call("batch_to_space", ctx.x[0], ctx.layer.blocks, ctx.layer.margin)


@emits_onnx("HardSwish")
def hard_swish_onnx(ctx: OnnxContext) -> None:
    ctx.output("HardSwish", ctx.x[0])


@emits_python("HardSwish")
def hard_swish_python(ctx: PythonContext) -> str:
    return f"F.hardswish({ctx.x[0]})"


@emits_onnx("ResizeNearestNeighbor")
def resize_nearest_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    ctx.shape()  # refuses sizes that are not fixed
    rows, columns = (ctx.integers(places.numpy()) for places in layer.places)
    ctx.output("Gather", ctx.node("Gather", ctx.x[0], rows, axis=layer.first), columns, axis=layer.first + 1)


@emits_python("ResizeNearestNeighbor")
def resize_nearest_python(ctx: PythonContext) -> str:
    layer, axis = ctx.layer, ctx.layer.first
    ctx.plane()
    places, rows = ctx.writer.buffer(layer, torch.cat(layer.places)), layer.size[0]
    return f"{ctx.x[0]}.index_select({axis}, {places}[:{rows}]).index_select({axis + 1}, {places}[{rows}:])"


@emits_onnx("ResizeBilinear")
def resize_bilinear_onnx(ctx: OnnxContext) -> None:
    layer, sizes = ctx.layer, ctx.shape()[ctx.layer.first :]
    neighbours = [around(at, size) for at, size in zip(layer.at, sizes, strict=False)]
    _between_onnx(ctx, ctx.x[0], layer.first, neighbours)


def _between_onnx(ctx: OnnxContext, x: str, first: int, neighbours: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Give the layer's top: x between the rows and columns that `around` gives, along two axes from `first` on."""
    for axis in (first + 1, first):
        lower, upper, share = neighbours[axis - first]
        a, b = (ctx.node("Gather", x, ctx.integers(places.numpy()), axis=axis) for places in (lower, upper))
        moved = ctx.node("Mul", ctx.node("Sub", b, a), ctx.constant(share.view(-1, *[1] * (3 - axis)).numpy()))
        if axis == first:
            ctx.output("Add", a, moved)
        else:
            x = ctx.node("Add", a, moved)


@emits_python("ResizeBilinear")
def resize_bilinear_python(ctx: PythonContext) -> str:
    return _between_python(ctx, ctx.x[0], ctx.layer.first)


def _between_python(ctx: PythonContext, x: str, axis: int) -> str:
    """x between rows and columns, along two axes from `axis` on."""
    layer = ctx.layer
    ctx.plane()
    places, rows = ctx.writer.buffer(layer, torch.cat(layer.at)), len(layer.at[0])
    x = ctx.call("between_pixels", x, axis + 1, f"{places}[{rows}:]")
    return ctx.call("between_pixels", x, axis, f"{places}[:{rows}]")


@emits_onnx("Resize")
def resize_onnx(ctx: OnnxContext) -> None:
    x = ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, 0, 0, 0, 0, 1, 1]))
    _between_onnx(ctx, x, 2, [around(at, size + 1) for at, size in zip(ctx.layer.at, ctx.shape()[2:], strict=True)])


@emits_python("Resize")
def resize_python(ctx: PythonContext) -> str:
    return _between_python(ctx, f"F.pad({ctx.x[0]}, (0, 1, 0, 1))", 2)


@emits_onnx("UpsampleDarknet")
def upsample_darknet_onnx(ctx: OnnxContext) -> None:
    scale = float(ctx.layer.scale)
    ctx.output("Resize", ctx.x[0], "", ctx.constant([1.0, 1.0, scale, scale]), mode="nearest",
               coordinate_transformation_mode="asymmetric", nearest_mode="floor")


@emits_python("UpsampleDarknet")
def upsample_darknet_python(ctx: PythonContext) -> str:
    return f"F.interpolate({ctx.x[0]}, scale_factor={ctx.layer.scale}, mode=\"nearest\")"


@emits_onnx("Python=PadTensor")
def pad_tensor_onnx(ctx: OnnxContext) -> None:
    left, right, above, below = ctx.layer.margin
    mode = {"replicate": "edge"}.get(ctx.layer.mode, ctx.layer.mode)
    ctx.output("Pad", ctx.x[0], ctx.integers([0, 0, above, left, 0, 0, below, right]), mode=mode)


@emits_python("Python=PadTensor")
def pad_tensor_python(ctx: PythonContext) -> str:
    mode = "" if ctx.layer.mode == "constant" else f", {ctx.layer.mode!r}"
    return f"F.pad({ctx.x[0]}, {pair(ctx.layer.margin)}{mode})"


@emits_onnx("Python=TensorShape")
def tensor_shape_onnx(ctx: OnnxContext) -> None:
    ctx.output("Cast", ctx.node("Shape", ctx.x[0]), to=FLOAT)


@emits_python("Python=TensorShape")
def tensor_shape_python(ctx: PythonContext) -> str:
    return f"{ctx.x[0]}.new_tensor({ctx.x[0]}.shape)"


@emits_onnx("Python=Eltwise")
def eltwise_of_unequal_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    if layer.operation == 1:
        terms = zip(ctx.x, layer.coeff, strict=True)
        ctx.output("Add", *(ctx.node("Mul", x, ctx.constant(float(factor))) for x, factor in terms))
    else:
        ctx.output(("Mul", "", "Max", "Div", "Min")[layer.operation], *ctx.x)


@emits_python("Python=Eltwise")
def eltwise_of_unequal_python(ctx: PythonContext) -> str:
    layer, (a, b) = ctx.layer, ctx.x
    if layer.operation == 1:
        return " + ".join(f"{number(c)} * {x}" for x, c in zip(ctx.x, layer.coeff, strict=True))
    return (f"{a} * {b}", "", f"{a}.maximum({b})", f"{a} / {b}", f"{a}.minimum({b})")[layer.operation]
