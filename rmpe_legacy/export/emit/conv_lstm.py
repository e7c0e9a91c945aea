"""ConvLSTM step by step, as the LSTM of ``recurrent``."""

from __future__ import annotations

from typing import Any

import torch

from rmpe_legacy.caffe.layers.conv_lstm import GATES, PEEPHOLES

from .context import OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments, pair, sizes
from .recurrent import final_states, first_states, stack, unit


@emits_onnx("ConvLSTM")
def conv_lstm_onnx(ctx: OnnxContext) -> None:
    layer, (steps, _, channels, *plane) = ctx.layer, ctx.shape()
    weights = {declared.name: i for i, declared in enumerate(layer.declared)}
    flat = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, channels, *plane]))
    given = ctx.node("Reshape", _convolved(ctx, layer.of_input, flat, ctx.weight(weights["W_x"])),
                     ctx.integers([steps, -1, GATES * layer.size, *plane]))
    if layer.static:
        static = ctx.node("Squeeze", ctx.x[2], ctx.integers([0]))
        given = ctx.node("Add", given, _convolved(ctx, layer.of_input, static, ctx.weight(weights["W_static"])))
    cont = ctx.node("Unsqueeze", ctx.x[1], ctx.integers([2, 3, 4]))
    of_hidden = ctx.weight(weights["W_h"])
    h, c = first_states(ctx) or ("", "")
    hidden = []
    for t in range(steps):
        gates, cont_t = (ctx.node("Gather", x, ctx.integers(t), axis=0) for x in (given, cont))
        if h:
            gates = ctx.node("Add", _convolved(ctx, layer.of_hidden, ctx.node("Mul", h, cont_t), of_hidden), gates)
        if "b" in weights:
            gates = ctx.node("Add", gates, ctx.weight(weights["b"], (-1, 1, 1)))
        parts = ctx.graph.nodes_of("Split", [gates, ctx.integers([layer.size] * GATES)], GATES, axis=1)
        if c and layer.peephole is not None:
            seen = [ctx.node("Mul", c, ctx.weight(i, _aligned(layer, ctx.blob(i))))
                    for i in (weights[f"W_c_{name}"] for name in PEEPHOLES)]
            parts[:3] = (ctx.node("Add", *each) for each in zip(parts, seen, strict=False))
        h, c = unit(ctx, c, parts, cont_t)
        hidden.append(h)
    stack(ctx, hidden, [ctx.y[0]])
    final_states(ctx, h, c)


def _aligned(layer: Any, weight: Any) -> tuple[int, ...]:
    """The shape in which a weight of the cell's places meets the cell."""
    return (*weight.shape, *[1] * (5 - layer.peephole.stop))


def _convolved(ctx: OnnxContext, param: Any, x: str, weight: str) -> str:
    moves = ctx.layer.options(param)
    return ctx.node("Conv", x, weight, strides=list(moves["stride"]), pads=[*moves["padding"]] * 2,
                    dilations=list(moves["dilation"]), group=moves["groups"])


@emits_python("ConvLSTM")
def conv_lstm_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    blobs = {declared.name: blob for declared, blob in zip(layer.declared, layer.blobs(), strict=True)}
    parts = [_convolution(layer, layer.of_input, blobs["W_x"]),
             _convolution(layer, layer.of_hidden, blobs["W_h"], has_bias="b" in blobs)]
    state = {"of_input.weight": blobs["W_x"], "of_hidden.weight": blobs["W_h"]}
    static = seen = "None"
    if "b" in blobs:
        state["of_hidden.bias"] = blobs["b"]
    if layer.static:
        static = _convolution(layer, layer.of_input, blobs["W_static"])
        state["of_static.weight"] = blobs["W_static"]
    if layer.peephole is not None:
        together = torch.stack([blobs[f"W_c_{name}"] for name in PEEPHOLES])
        state["seen"] = together.reshape(3, *_aligned(layer, together[0]))
        seen = pair(state["seen"].shape)
    inside = arguments(*parts, static=(static, "None"), seen=(seen, "None"),
                       exposed=(str(bool(layer.exposed)), "False"))
    constructor = f"{ctx.writer.use('ConvLSTM')}({inside})"
    return f"{ctx.writer.module(layer, constructor, state)}({', '.join(ctx.x)})"


def _convolution(layer: Any, param: Any, weight: torch.Tensor, has_bias: bool = False) -> str:
    moves = layer.options(param)
    inside = arguments(
        weight.shape[1] * param.group, len(weight), sizes(weight.shape[2:]), stride=(sizes(moves["stride"]), "1"),
        padding=(sizes(moves["padding"]), "0"), dilation=(sizes(moves["dilation"]), "1"),
        groups=(str(param.group), "1"), bias=(str(has_bias), "True"))
    return f"nn.Conv2d({inside})"
