"""Layers of networks for optical flow: FlowNet 2, PWC-Net and LiteFlowNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..onnx_graph import INT64
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, number, numbers


@emits_onnx("Correlation")
def correlation_onnx(ctx: OnnxContext) -> None:
    """For each row to move by, multiply all pairs of columns, and take those that lie as far apart as asked for."""
    layer, param = ctx.layer, ctx.layer.spec.get("correlation_param")
    _, height, width = ctx.size()
    reach, pad = layer.reach, param.pad
    a, b = (ctx.node("Pad", x, ctx.integers([0, 0, pad, pad, 0, 0, pad, pad])) if pad else x for x in ctx.x)
    h, w = height + 2 * pad - 2 * reach, width + 2 * pad - 2 * reach
    fixed = ctx.node("Slice", a, *map(ctx.integers, ([reach, reach], [reach + h, reach + w], [2, 3])))
    fixed = ctx.node("Transpose", fixed, perm=[0, 2, 3, 1])  # (N, h, w, C)
    by_row = ctx.node("Transpose", b, perm=[0, 2, 1, 3])  # (N, H, C, W)
    at = np.arange(w)[:, None]
    pairs = ctx.integers(at * (w + 2 * reach) + at + reach + np.array(layer.moves))  # (w, D)
    costs = []
    for move in layer.moves:
        rows = ctx.node("Slice", by_row, *map(ctx.integers, ([reach + move], [reach + move + h], [1])))
        products = ctx.node("Reshape", ctx.node("MatMul", fixed, rows), ctx.integers([0, h, -1]))
        costs.append(ctx.node("Gather", products, pairs, axis=2))
    _mean_of_windows(ctx, ctx.node("Transpose", _joined(ctx, costs, axis=3), perm=[0, 3, 1, 2]))


def _joined(ctx: OnnxContext, costs: list[str], axis: int) -> str:
    return costs[0] if len(costs) == 1 else ctx.node("Concat", *costs, axis=axis)


def _mean_of_windows(ctx: OnnxContext, cost: str) -> None:
    """Output the mean, over the channels and a window of kernel_size, of sums over the channels."""
    param = ctx.layer.spec.get("correlation_param")
    k, s = param.kernel_size, param.stride_1
    if k > 1 or s > 1:
        cost = ctx.node("AveragePool", cost, kernel_shape=[k, k], strides=[s, s])
    ctx.output("Div", cost, ctx.constant(float(ctx.size()[0])))


@emits_python("Correlation")
def correlation_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.spec.get("correlation_param")
    step = (str(param.stride_2), "1")
    return ctx.call("correlate", arguments(*ctx.x, layer.reach, step=step, window=(str(param.kernel_size), "1"),
                                           stride=(str(param.stride_1), "1"), pad=(str(param.pad), "0")))


@emits_onnx("Correlation1D")
def correlation_1d_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.spec.get("correlation_param")
    (_, _, width), pad, more = ctx.size(), param.pad, layer.beyond
    a, b = (ctx.node("Pad", x, ctx.integers([0, 0, 0, pad + before, 0, 0, 0, pad]))
            for x, before in zip(ctx.x, (0, more), strict=True))
    width += 2 * (pad - layer.reach)

    def columns(x: str, first: int) -> str:
        return ctx.node("Slice", x, *map(ctx.integers, ([first], [first + width], [3])))

    fixed = columns(a, layer.reach)
    costs = [ctx.node("ReduceSum", ctx.node("Mul", fixed, columns(b, layer.reach + more + move)), ctx.integers([1]))
             for move in layer.moves]
    _mean_of_windows(ctx, _joined(ctx, costs, axis=1))


@emits_python("Correlation1D")
def correlation_1d_python(ctx: PythonContext) -> str:
    layer, param = ctx.layer, ctx.layer.spec.get("correlation_param")
    moves = f"range({layer.moves.start}, {layer.moves.stop}, {layer.moves.step})"
    return ctx.call("correlate_rows", arguments(*ctx.x, layer.reach, moves, beyond=(str(layer.beyond), "0"),
                                                window=(str(param.kernel_size), "1"),
                                                stride=(str(param.stride_1), "1"), pad=(str(param.pad), "0")))


@emits_onnx("FlowWarp")
def flow_warp_onnx(ctx: OnnxContext) -> None:
    fill = 0.0 if ctx.layer.spec.get("flow_warp_param").fill_value == "ZERO" else float("nan")
    _warped(ctx, "Less", 0, fill)


@emits_onnx("Warp")
def warp_onnx(ctx: OnnxContext) -> None:
    _warped(ctx, "LessOrEqual", -1, 0.0)


def _warped(ctx: OnnxContext, compare: str, beyond: int, fill: float) -> None:
    """Read pixels where the flow points to; `fill` outside, where a row does not compare with the height + beyond."""
    sizes = ctx.size()[1:]
    flow = ctx.graph.nodes_of("Split", [ctx.x[1], ctx.integers([1, 1])], 2, axis=1)  # (N, 1, H, W) each
    inside, cells, shares = [], [], []
    for size, move, shape in zip(sizes, flow[::-1], ((-1, 1), (1, -1)), strict=True):
        place = ctx.node("Add", ctx.constant(np.arange(size).reshape(shape)), move)
        seen = ctx.node("And", ctx.node("GreaterOrEqual", place, ctx.constant(0.0)),
                        ctx.node(compare, place, ctx.constant(float(size + beyond))))
        inside.append(seen)
        shares.append((place, seen))
    both = ctx.node("And", *inside)
    for i, (place, _) in enumerate(shares):
        place = ctx.node("Where", both, place, ctx.constant(0.0))
        low = ctx.node("Floor", place)
        share = ctx.node("Sub", place, low)
        near = ctx.node("Cast", low, to=INT64)
        far = ctx.node("Min", ctx.node("Add", near, ctx.integers(1)), ctx.integers(sizes[i] - 1))
        cells.append((near, far))
        shares[i] = (ctx.node("Sub", ctx.constant(1.0), share), share)
    ctx.output("Where", both, ctx.node("Sum", *_weighted_pixels(ctx, ctx.x[0], cells, shares)), ctx.constant(fill))


def _weighted_pixels(ctx: OnnxContext, image: str, cells: Sequence[tuple[str, str]],
                     shares: Sequence[tuple[str, str]]) -> list[str]:
    """Return the four pixels beside each place, each times its share.

    Args:
        ctx: The layer.
        image: (N, C, H, W).
        cells: The rows and the columns before and after each place, (N, 1, H', W') int64.
        shares: How much each of them counts.
    """
    image, parts = ctx.node("Transpose", image, perm=[0, 2, 3, 1]), []
    for row, down in zip(cells[0], shares[0], strict=True):
        for column, across in zip(cells[1], shares[1], strict=True):
            index = ctx.node("Transpose", ctx.node("Concat", row, column, axis=1), perm=[0, 2, 3, 1])
            pixels = ctx.node("Transpose", ctx.node("GatherND", image, index, batch_dims=1), perm=[0, 3, 1, 2])
            parts.append(ctx.node("Mul", ctx.node("Mul", across, down), pixels))
    return parts


@emits_onnx("FlowTransformer")
def flow_transformer_onnx(ctx: OnnxContext) -> None:
    flow = ctx.graph.nodes_of("Split", [ctx.x[1], ctx.integers([1, 1])], 2, axis=1)  # (N, 1, H, W) each
    _read_into_zeros(ctx, [ctx.node("Add", ctx.constant(np.arange(size).reshape(shape)), move)
                           for size, move, shape in zip(ctx.size()[1:], flow[::-1], ((-1, 1), (1, -1)), strict=True)])


@emits_onnx("Remap")
def remap_onnx(ctx: OnnxContext) -> None:
    _read_into_zeros(ctx, ctx.graph.nodes_of("Split", [ctx.x[1], ctx.integers([1, 1])], 2, axis=1)[::-1])


def _read_into_zeros(ctx: OnnxContext, places: Sequence[str]) -> None:
    """Read the image at rows and columns (N, 1, h, w), with a margin of 0 around it, where all places further outside
    are moved to."""
    cells, shares = [], []
    for size, place in zip(ctx.size()[1:], places, strict=True):
        place = ctx.node("Clip", place, ctx.constant(-1.0), ctx.constant(float(size)))
        low = ctx.node("Floor", place)
        share = ctx.node("Sub", place, low)
        near = ctx.node("Add", ctx.node("Cast", low, to=INT64), ctx.integers(1))
        cells.append((near, ctx.node("Add", near, ctx.integers(1))))
        shares.append((ctx.node("Sub", ctx.constant(1.0), share), share))
    image = ctx.node("Pad", ctx.x[0], ctx.integers([0, 0, 1, 1, 0, 0, 2, 2]))
    ctx.output("Sum", *_weighted_pixels(ctx, image, cells, shares))


@emits_python("FlowTransformer")
def flow_transformer_python(ctx: PythonContext) -> str:
    return ctx.call("warp_into_zeros", *ctx.x)


@emits_python("Remap")
def remap_python(ctx: PythonContext) -> str:
    return ctx.call("read_into_zeros", ctx.x[0], f"{ctx.x[1]}[:, 1]", f"{ctx.x[1]}[:, 0]")


@emits_python("FlowWarp")
def flow_warp_python(ctx: PythonContext) -> str:
    fill = ("0", "0") if ctx.layer.spec.get("flow_warp_param").fill_value == "ZERO" else ('float("nan")', "0")
    return ctx.call("warp", arguments(*ctx.x, "edge=True", fill=fill))


@emits_python("Warp")
def warp_python(ctx: PythonContext) -> str:
    return ctx.call("warp", arguments(*ctx.x, "edge=False"))


@emits_onnx("Warp=liteflownet")
def lite_flow_net_warp_onnx(ctx: OnnxContext) -> None:
    h, w = ctx.size()[1:]
    size = ctx.constant(np.array([w, h]).reshape(1, 2, 1, 1))
    places = ctx.node("Add", ctx.node("Mul", ctx.x[1], ctx.constant(2.0)), ctx.constant(1.0))
    places = ctx.node("Sub", ctx.node("Div", places, size), ctx.constant(1.0))  # -1 .. 1: the edges of outer pixels
    ctx.output("GridSample", ctx.x[0], ctx.node("Transpose", places, perm=[0, 2, 3, 1]), mode="bilinear")


@emits_python("Warp=liteflownet")
def lite_flow_net_warp_python(ctx: PythonContext) -> str:
    h, w = ctx.plane()
    size = f"{ctx.x[1]}.new_tensor([{w}, {h}]).view(1, 2, 1, 1)"
    return (f"F.grid_sample({ctx.x[0]}, ((2 * {ctx.x[1]} + 1) / {size} - 1).permute(0, 2, 3, 1), "
            "align_corners=False)")


@emits_onnx("Grid")
def grid_onnx(ctx: OnnxContext) -> None:
    h, w = (*ctx.size(), 1, 1)[1:3]
    images = ctx.node("Shape", ctx.x[0], start=0, end=1)
    shape = ctx.node("Concat", images, ctx.integers([2, h, w]), axis=0)
    ctx.output("Expand", ctx.constant(np.mgrid[:h, :w][::-1].copy()), shape)


@emits_python("Grid")
def grid_python(ctx: PythonContext) -> str:
    h, w = ctx.plane(top=True)
    sides = ", ".join(f"torch.arange({size}.0, device={ctx.x[0]}.device)" for size in (w, h))
    return f'torch.stack(torch.meshgrid({sides}, indexing="xy")).expand({ctx.x[0]}.shape[0], -1, -1, -1)'


@emits_onnx("NegSquare")
def neg_square_onnx(ctx: OnnxContext) -> None:
    ctx.output("Neg", ctx.node("Mul", ctx.x[0], ctx.x[0]))


@emits_python("NegSquare")
def neg_square_python(ctx: PythonContext) -> str:
    return f"-({ctx.x[0]} ** 2)"


@emits_onnx("ExpMax")
def exp_max_onnx(ctx: OnnxContext) -> None:
    x, layer = ctx.x[0], ctx.layer
    largest = ctx.node("ReduceMax", x, ctx.integers([1]), keepdims=1)
    images = ctx.node("Shape", x, start=0, end=1)
    number = ctx.node("Range", ctx.integers(0), ctx.node("Squeeze", images), ctx.integers(1))
    first = ctx.node("Reshape", ctx.node("Equal", number, ctx.integers(0)), ctx.integers([-1, 1, 1, 1]))
    lower = ctx.node("Sub", x, ctx.node("Where", first, largest, ctx.constant(0.0)))
    scaled = ctx.node("Mul", lower, ctx.constant(layer.inner))
    ctx.output("Mul", ctx.node("Exp", scaled), ctx.constant(layer.outer))


@emits_python("ExpMax")
def exp_max_python(ctx: PythonContext) -> str:
    x, layer = ctx.x[0], ctx.layer
    lower = f"torch.cat([{x}[:1] - {x}[:1].amax(1, keepdim=True), {x}[1:]])"
    inner = lower if layer.inner == 1 else f"({lower} * {number(layer.inner)})"
    return f"{inner}.exp()" if layer.outer == 1 else f"{inner}.exp() * {number(layer.outer)}"


@emits_onnx("Resample")
def resample_onnx(ctx: OnnxContext) -> None:
    rows, columns = ctx.layer.sides(ctx.size()[1:])
    if rows.dim() == 1:
        picked = ctx.node("Gather", ctx.x[0], ctx.integers(rows.numpy()), axis=2)
        ctx.output("Gather", picked, ctx.integers(columns.numpy()), axis=3)
    else:
        columns_t = columns.t().numpy()
        ctx.output("MatMul", ctx.constant(rows.numpy()), ctx.node("MatMul", ctx.x[0], ctx.constant(columns_t)))


@emits_python("Resample")
def resample_python(ctx: PythonContext) -> str:
    rows, columns = ctx.layer.sides(ctx.plane())
    if rows.dim() == 1:
        constructor = f"{ctx.writer.use('Picked')}({len(rows)}, {len(columns)})"
        return f"{ctx.writer.module(ctx.layer, constructor, {'rows': rows, 'columns': columns})}({ctx.x[0]})"
    return interpolated(ctx, rows, columns.t())


def interpolated(ctx: PythonContext, rows: torch.Tensor, columns: torch.Tensor, kind: str = "Interpolated") -> str:
    """Return a call of a submodule that multiplies planes by matrices (H', H) and (W, W'), or does `kind`."""
    constructor = f"{ctx.writer.use(kind)}({tuple(rows.shape)}, {tuple(columns.shape)})"
    state = {"rows": rows.contiguous(), "columns": columns.contiguous()}
    return f"{ctx.writer.module(ctx.layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("Downsample")
def downsample_onnx(ctx: OnnxContext) -> None:
    sides = ctx.layer.sides(ctx.size()[1:])
    if sides is None:
        ctx.output("Identity", ctx.x[0])
        return
    rows, columns = ctx.constant(sides[0].numpy()), ctx.constant(sides[1].t().numpy())
    missing = ctx.node("IsNaN", ctx.x[0])
    zero, one = ctx.constant(0.0), ctx.constant(1.0)
    value, weight, lost = (
        ctx.node("MatMul", rows, ctx.node("MatMul", ctx.node("Where", missing, *pair), columns))
        for pair in ((zero, ctx.x[0]), (zero, one), (one, zero)))
    much = ctx.node("Greater", ctx.node("Div", lost, weight), ctx.constant(0.5))
    ctx.output("Where", much, ctx.constant(float("nan")), ctx.node("Div", value, weight))


@emits_python("Downsample")
def downsample_python(ctx: PythonContext) -> str:
    sides = ctx.layer.sides(ctx.plane())
    return ctx.x[0] if sides is None else interpolated(ctx, sides[0], sides[1].t(), "Averaged")


@emits_onnx("ChannelNorm")
def channel_norm_onnx(ctx: OnnxContext) -> None:
    squares = ctx.node("Mul", ctx.x[0], ctx.x[0])
    ctx.graph.reshape(ctx.node("Sqrt", ctx.node("ReduceSum", squares, ctx.integers([1]))), ctx.bottom_shapes[0],
                      ctx.top_shapes[0], ctx.y[0])


@emits_python("ChannelNorm")
def channel_norm_python(ctx: PythonContext) -> str:
    missing = "[..., " + "None, " * (4 - len(ctx.bottom_shapes[0]))
    x = ctx.x[0] if len(ctx.bottom_shapes[0]) == 4 else f"{ctx.x[0]}{missing.removesuffix(', ')}]"
    return f"{x}.square().sum(1, keepdim=True).sqrt()"


@emits_onnx("Mean")
def mean_onnx(ctx: OnnxContext) -> None:
    for i, (x, y) in enumerate(zip(ctx.x, ctx.y, strict=True)):
        values, scale, all_scale = _mean(ctx.layer, ctx.size(i)[0])
        x = x if scale == 1 else ctx.node("Mul", x, ctx.constant(scale))
        ctx.graph.node("Mul", [ctx.node("Add", x, ctx.constant(values)), ctx.constant(all_scale)], [y])


@emits_python("Mean")
def mean_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("mean_param")
    return ", ".join(ctx.call("shift_channels", arguments(
        x, numbers(_mean(ctx.layer, len(param.value))[0].ravel()), scale=(number(param.input_scale), "1"),
        scale_all=(number(param.output_scale), "1"))) for x in ctx.x)


def _mean(layer, channels: int) -> tuple[np.ndarray, float, float]:
    """What is added to each channel (C, 1, 1), and the factors of the bottom and of the sum."""
    param = layer.spec.get("mean_param")
    sign = -1 if param.operation == "SUBTRACT" else 1
    mean = np.resize(np.array(param.value, np.float32), (channels, 1, 1))
    return np.float32(param.mean_scale) * (sign * mean), param.input_scale, param.output_scale
