"""Blocks of a DenseNet."""

from __future__ import annotations

import torch

from rmpe_legacy.caffe.layers.dense_block import EPS

from .context import OnnxContext, PythonContext, emits_onnx, emits_python


@emits_onnx("DenseBlock")
def dense_block_onnx(ctx: OnnxContext) -> None:
    x, name, number = ctx.x[0], ctx.layer.spec.name, 0
    steps = ctx.layer.steps()
    for step, convolutions in enumerate(steps):
        y = x
        for values in convolutions:
            number += 1
            kernel, *norm = (ctx.graph.parameter(f"{name}.{kind}_{number}", value.detach().cpu().numpy().reshape(
                value.shape if kind == "filter" else -1)) for kind, value in zip(
                    ("filter", "scale", "shift", "mean", "variance"), values, strict=True))
            y = ctx.node("Relu", ctx.node("BatchNormalization", y, *norm, epsilon=EPS))
            y = ctx.node("Conv", y, kernel, pads=[values[0].shape[2] // 2] * 4)
        x = ctx.graph.node("Concat", [x, y], [ctx.y[0]] if step == len(steps) - 1 else 1, axis=1)


@emits_python("DenseBlock")
def dense_block_python(ctx: PythonContext) -> str:
    """A submodule of torch's own modules, whose names are places in them."""
    layer, param = ctx.layer, ctx.layer.spec.get("denseblock_param")
    state = {}
    for i, convolutions in enumerate(layer.steps()):
        for k, (kernel, *norm) in enumerate(convolutions):
            for name, value in zip(("weight", "bias", "running_mean", "running_var"), norm, strict=True):
                state[f"steps.{i}.{3 * k}.{name}"] = value.flatten()
            state[f"steps.{i}.{3 * k}.num_batches_tracked"] = torch.tensor(0)
            state[f"steps.{i}.{3 * k + 2}.weight"] = kernel
    inside = f"{ctx.bottom_shapes[0][1]}, {param.numTransition}, {param.growthRate}, narrow={bool(param.use_BC)}"
    constructor = f"{ctx.writer.use('DenseBlock')}({inside})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"
