"""Windows beside their centers, as convolutions aware of segments need them."""

from __future__ import annotations

import numpy as np
import torch

from rmpe_legacy.caffe.layers.segment_aware import FAR

from ..onnx_graph import FLOAT
from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .convolution import windows_onnx
from .expressions import arguments, number, pair


@emits_onnx("Im2dist")
def im2dist_onnx(ctx: OnnxContext) -> None:
    layer, param = ctx.layer, ctx.layer.param
    values, center, inside, counts = _neighbours(ctx, ctx.size()[0])
    apart = ctx.node("Where", ctx.graph.constant(inside & counts, bool), ctx.node("Sub", center, values),
                     ctx.constant(0.0))
    if param.norm == "L2":
        square = ctx.node("ReduceSum", ctx.node("Mul", apart, apart), ctx.integers([1]), keepdims=0)
        distance = ctx.node("Mul", square, ctx.constant(0.5))
    else:
        distance = ctx.node("ReduceSum", ctx.node("Abs", apart), ctx.integers([1]), keepdims=0)
    far = ~inside & param.remove_bounds
    far[layer.center] |= param.remove_center
    if (far & counts).any():
        distance = ctx.node("Add", distance, ctx.constant(np.where(far & counts, np.float32(FAR), np.float32(0))))
    ctx.output("Reshape", distance, ctx.integers([-1, *map(int, ctx.top_shapes[0][1:])]))


@emits_onnx("Im2parity")
def im2parity_onnx(ctx: OnnxContext) -> None:
    param = ctx.layer.spec.get("im2parity_param")
    values, center, _, counts = _neighbours(ctx, 1, whole=True)
    same = ctx.node("Cast", ctx.node("Equal", values, center), to=FLOAT)
    ignored = ctx.constant(float(param.ignore_label))
    if param.has("ignore_label"):
        either = ctx.node("Or", *(ctx.node("Equal", labels, ignored) for labels in (values, center)))
        same = ctx.node("Where", either, ignored, same)
    same = ctx.node("Where", ctx.graph.constant(counts, bool), same, ignored)
    ctx.output("Reshape", same, ctx.integers([-1, *map(int, ctx.top_shapes[0][1:])]))


def _neighbours(ctx: OnnxContext, channels: int, whole: bool = False) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Return the values (N, channels, places, windows) and (N, channels, 1, windows) of all places and of centers;
    which places are inside the bottom, (places, windows), and of which windows the center is, (windows).

    whole: Cut off what is behind the point.
    """
    layer = ctx.layer
    inside, counts = (mask.numpy() for mask in layer.within(torch.zeros(1, 1, *ctx.size()[1:])))
    values = ctx.node("Reshape", windows_onnx(ctx), ctx.integers([-1, channels, *inside.shape]))
    if whole:
        values = ctx.node("Mul", ctx.node("Sign", values), ctx.node("Floor", ctx.node("Abs", values)))
    return values, ctx.node("Gather", values, ctx.integers([layer.center]), axis=2), inside, counts


@emits_python("Im2dist")
def im2dist_python(ctx: PythonContext) -> str:
    param = ctx.layer.param
    return ctx.call("neighbour_distances", arguments(
        ctx.x[0], *_windows(ctx), absolute=(str(param.norm != "L2"), "False"),
        far_outside=(str(param.remove_bounds), "False"), far_center=(str(param.remove_center), "False")))


@emits_python("Im2parity")
def im2parity_python(ctx: PythonContext) -> str:
    param = ctx.layer.spec.get("im2parity_param")
    return ctx.call("equal_neighbours", arguments(ctx.x[0], *_windows(ctx), number(float(param.ignore_label)),
                                                  ignores=(str(param.has("ignore_label")), "False")))


def _windows(ctx: PythonContext) -> list[str]:
    """Kernel, dilation, pad and stride of the windows, and how many there are."""
    layer = ctx.layer
    return [pair(values) for values in (layer.kernel, layer.dilation, layer.pad, layer.stride, ctx.plane(top=True))]
