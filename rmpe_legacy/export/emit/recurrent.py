"""RNN, LSTM and LSTMUnit step by step, since no operator of ONNX or torch begins sequences within a stream, as cont
does; and Lstm, which is such an operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .context import EmitContext, OnnxContext, PythonContext, emits_onnx, emits_python
from .expressions import arguments


@emits_onnx("LSTM")
def lstm_onnx(ctx: OnnxContext) -> None:
    weight = ctx.weight(len(ctx.layer.declared) - 1)
    given, cont = _steps(ctx)
    final_states(ctx, *_lstm_steps(ctx, ctx.layer.steps, given, cont, weight, *first_states(ctx)))


def _lstm_steps(ctx: OnnxContext, steps: int, given: str, cont: str, weight: str, h: str = "", c: str = ""
                ) -> tuple[str, str]:
    """Write the top; returns the final hidden and cell values. See `_steps` for given and cont; "" is a state of 0."""
    hidden = []
    for t in range(steps):
        x_t, cont_t = (ctx.node("Gather", x, ctx.integers(t), axis=0) for x in (given, cont))
        gates = ctx.node("Gemm", ctx.node("Mul", h, cont_t), weight, x_t, transB=1) if h else x_t
        h, c = unit(ctx, c, _gates(ctx, gates), cont_t)
        hidden.append(h)
    stack(ctx, hidden, [ctx.y[0]])
    return h, c


@emits_onnx("RNN")
def rnn_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    w_hh, w_ho, b_o = (ctx.weight(len(layer.declared) - i) for i in (3, 2, 1))
    given, cont = _steps(ctx)
    hidden = []
    h = (first_states(ctx) or ("",))[0]
    for t in range(layer.steps):
        x_t, cont_t = (ctx.node("Gather", x, ctx.integers(t), axis=0) for x in (given, cont))
        h = ctx.node("Tanh", ctx.node("Gemm", ctx.node("Mul", h, cont_t), w_hh, x_t, transB=1) if h else x_t)
        hidden.append(h)
    flat = ctx.node("Reshape", stack(ctx, hidden), ctx.integers([-1, layer.size]))
    out = ctx.node("Tanh", ctx.node("Gemm", flat, w_ho, b_o, transB=1))
    ctx.output("Reshape", out, ctx.integers([layer.steps, -1, layer.size]))
    final_states(ctx, h)


def _steps(ctx: OnnxContext) -> tuple[str, str]:
    """Return what the inputs add to each step's gates, (T, N, K), and cont as (T, N, 1)."""
    layer = ctx.layer
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, layer.inputs[0]]))
    gates = layer.declared[0].shape[0]
    given = ctx.node("Reshape", ctx.node("Gemm", x, ctx.weight(0), ctx.weight(1), transB=1),
                     ctx.integers([layer.steps, -1, gates]))
    if layer.static:
        static = ctx.node("Reshape", ctx.x[2], ctx.integers([-1, layer.inputs[1]]))
        given = ctx.node("Add", given, ctx.node("Gemm", static, ctx.weight(2), transB=1))
    return given, ctx.node("Unsqueeze", ctx.x[1], ctx.integers([2]))


def first_states(ctx: OnnxContext) -> list[str]:
    """Return the initial states (N, D) that are bottoms; none where the initial state is 0."""
    return [ctx.node("Squeeze", x, ctx.integers([0])) for x in ctx.x[2 + ctx.layer.static :]]


def _gates(ctx: OnnxContext, together: str) -> list[str]:
    return ctx.graph.nodes_of("Split", [together, ctx.integers([int(ctx.top_shapes[0][-1])] * 4)], 4, axis=-1)


def unit(ctx: OnnxContext, cell: str, gates: Sequence[str], cont: str) -> tuple[str, str]:
    """Return an LSTM's hidden and cell values after a step of four gates; "" stands for a cell of 0."""
    i, f, o, g = gates
    new = ctx.node("Mul", ctx.node("Sigmoid", i), ctx.node("Tanh", g))
    if cell:
        kept = ctx.node("Mul", ctx.node("Mul", ctx.node("Sigmoid", f), cont), cell)
        new = ctx.node("Add", kept, new)
    return ctx.node("Mul", ctx.node("Sigmoid", o), ctx.node("Tanh", new)), new


def stack(ctx: OnnxContext, steps: list[str], to: Sequence[str] | int = 1) -> str:
    if len(steps) == 1:
        return ctx.graph.node("Unsqueeze", [steps[0], ctx.integers([0])], to)
    return ctx.graph.node("Concat", [ctx.node("Unsqueeze", h, ctx.integers([0])) for h in steps], to, axis=0)


def final_states(ctx: OnnxContext, *states: str) -> None:
    for state, name in zip(states, ctx.y[1:], strict=bool(ctx.layer.exposed)):
        ctx.graph.node("Unsqueeze", [state, ctx.integers([0])], [name])


@emits_onnx("LSTMUnit")
def lstm_unit_onnx(ctx: OnnxContext) -> None:
    cell, gates, cont = ctx.x
    h, c = unit(ctx, cell, _gates(ctx, gates), ctx.node("Unsqueeze", cont, ctx.integers([2])))
    for value, name in zip((c, h), ctx.y, strict=True):
        ctx.graph.node("Identity", [value], [name])


@emits_python("LSTM", "RNN")
def recurrent_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    static = str(layer.inputs[1]) if layer.static else "0"
    inside = arguments(layer.inputs[0], layer.size, static=(static, "0"), exposed=(str(bool(layer.exposed)), "False"))
    constructor = f"{ctx.writer.use(f'{layer.spec.type}Layer')}({inside})"
    return f"{ctx.submodule(constructor, *(blob.name for blob in layer.declared))}({', '.join(ctx.x)})"


@emits_python("LSTMUnit")
def lstm_unit_python(ctx: PythonContext) -> str:
    return ctx.call("lstm_unit", ctx.x[0], ctx.x[1], f"{ctx.x[2]}[..., None]")


@emits_onnx("LSTMNode")
def lstm_node_onnx(ctx: OnnxContext) -> None:
    layer = ctx.layer
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, layer.declared[0].shape[1]]))
    gates = ctx.node("Gemm", x, *(ctx.weight(i) for i in range(len(layer.declared))), transB=1)
    cell = ctx.node("Reshape", ctx.x[1], ctx.integers([-1, layer.size]))
    cont = ctx.node("Reshape", ctx.x[2], ctx.integers([-1, 1])) if len(ctx.x) > 2 else ctx.constant(1.0)
    for value, name in zip(unit(ctx, cell, _gates(ctx, gates), cont), ctx.y, strict=True):
        ctx.graph.node("Identity", [value], [name])


@emits_python("LSTMNode")
def lstm_node_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inputs, names = layer.declared[0].shape[1], [declared.name for declared in layer.declared]
    inside = arguments(inputs, 4 * layer.size, bias=(str(len(names) > 1), "True"))
    gates = f"{ctx.submodule(f'nn.Linear({inside})', *names)}({ctx.x[0]}.flatten(1))"
    cont = f"{ctx.x[2]}.reshape(-1, 1)" if len(ctx.x) > 2 else "1"
    return ctx.call("lstm_unit", f"{ctx.x[1]}.reshape(-1, {layer.size})", gates, cont) + "[::-1]"


@emits_onnx("ReNetLSTM")
def renet_lstm_onnx(ctx: OnnxContext) -> None:
    layer, (c, h, w) = ctx.layer, ctx.size()
    (ph, pw), size = layer.patch, layer.size
    cells = c * ph * pw
    grid = (h // ph, w // pw)
    steps = grid[1] if layer.along_rows else grid[0]
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([-1, c, grid[0], ph, grid[1], pw]))
    x = ctx.node("Transpose", x, perm=[4, 0, 2, 1, 3, 5] if layer.along_rows else [2, 0, 4, 1, 3, 5])
    x = ctx.node("Reshape", x, ctx.integers([-1, cells]))  # steps, samples and lines, as rows
    half, ways = len(layer.declared) // 2, []
    for way in range(2):
        names = [declared.name for declared in layer.declared[half * way : half * (way + 1)]]
        blobs = [ctx.blob(half * way + i) for i in range(half)]
        weight, bias = np.concatenate(blobs[:4]), np.concatenate(blobs[7:])
        own = [ctx.graph.parameter(f"{layer.spec.name}.{name}", values) for name, values in (
            (f"given_{way}", weight[:, :cells]), (f"bias_{way}", bias), (f"hidden_{way}", weight[:, cells:]))]
        seen = [ctx.graph.parameter(f"{layer.spec.name}.{name}", values)
                for name, values in zip(names[4:7], blobs[4:7], strict=True)] if layer.peephole else []
        given = ctx.node("Reshape", ctx.node("Gemm", x, *own[:2], transB=1), ctx.integers([steps, -1, 4 * size]))
        states = _renet_states(ctx, given, range(steps)[:: -1 if way else 1], own[2], seen)
        ways.append(stack(ctx, states[::-1] if way else states))
    top = ctx.node("Concat", *ways, axis=2)
    lines = grid[0] if layer.along_rows else grid[1]
    top = ctx.node("Reshape", top, ctx.integers([steps, -1, lines, 2 * size]))
    ctx.output("Transpose", top, perm=[1, 3, 2, 0] if layer.along_rows else [1, 3, 0, 2])


def _renet_states(ctx: OnnxContext, given: str, steps: Sequence[int], weight: str, seen: Sequence[str]) -> list[str]:
    """Return the hidden states (B, D) in the order of the steps.

    given: What the inputs add to the gates input, cell, output and forget, (T, B, 4 D). seen: What the cell adds to
    input, output and forget, (D, D) each; none without peepholes.
    """
    hidden = cell = ""
    states = []
    for t in steps:
        gates = ctx.node("Gather", given, ctx.integers(t), axis=0)
        if hidden:
            gates = ctx.node("Gemm", hidden, weight, gates, transB=1)
        i, g, o, f = ctx.graph.nodes_of("Split", [gates, ctx.integers([ctx.layer.size] * 4)], 4, axis=1)
        if cell and seen:
            i, f = (ctx.node("Gemm", cell, seen[k], gate, transB=1) for k, gate in ((0, i), (2, f)))
        new = ctx.node("Mul", ctx.node("Sigmoid", i), ctx.node("Tanh", g))
        cell = ctx.node("Add", new, ctx.node("Mul", ctx.node("Sigmoid", f), cell)) if cell else new
        if seen:
            o = ctx.node("Gemm", cell, seen[1], o, transB=1)
        hidden = ctx.node("Mul", ctx.node("Sigmoid", o), ctx.node("Tanh", cell))
        states.append(hidden)
    return states


@emits_python("ReNetLSTM")
def renet_lstm_python(ctx: PythonContext) -> str:
    layer = ctx.layer
    inside = arguments(layer.channels, layer.size, layer.patch, along_rows=(str(layer.along_rows), "True"),
                       peephole=(str(bool(layer.peephole)), "True"))
    cells = layer.channels * layer.patch[0] * layer.patch[1]
    half, state = len(layer.declared) // 2, dict[str, torch.Tensor]()
    for way, name in enumerate(("forth", "back")):
        blobs = layer.blobs()[half * way : half * (way + 1)]
        weight = torch.cat(blobs[:4])
        state |= {f"{name}.given.weight": weight[:, :cells], f"{name}.given.bias": torch.cat(blobs[7:]),
                  f"{name}.hidden.weight": weight[:, cells:]}
        if layer.peephole:
            state |= {f"{name}.seen.{i}.weight": blob for i, blob in enumerate(blobs[4:7])}
    constructor = f"{ctx.writer.use('ReNetLSTM')}({inside})"
    return f"{ctx.writer.module(layer, constructor, state)}({ctx.x[0]})"


@emits_onnx("ContinuationIndicator")
def continuation_indicator_onnx(ctx: OnnxContext) -> None:
    steps, batch = ctx.layer.shape
    continues = ctx.constant(np.arange(steps)[:, None] > 0)
    size = ctx.sizes_of(ctx.x[0], 0, 1) if ctx.x and ctx.bottom_shapes[0] else ctx.integers([batch])
    ctx.output("Expand", continues, ctx.node("Concat", ctx.integers([steps]), size, axis=0))


@emits_python("ContinuationIndicator")
def continuation_indicator_python(ctx: PythonContext) -> str:
    steps, batch = ctx.layer.shape
    of_one = ctx.writer.buffer(ctx.layer, (torch.arange(steps)[:, None] > 0).float())
    return f"{of_one}.expand(-1, {f'len({ctx.x[0]})' if ctx.x and ctx.bottom_shapes[0] else batch})"


@emits_onnx("Lstm")
def whole_lstm_onnx(ctx: OnnxContext) -> None:
    if len(ctx.x) > 1:
        _lstm_with_flags(ctx)
        return
    w, u, bias = _lstm_blobs(ctx, (0, 2, 1, 3))  # ONNX: input, output, forget, candidate
    names = ctx.layer.spec.name, [declared.name for declared in ctx.layer.declared]
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([0, 0, -1]))
    weights = [ctx.graph.parameter(f"{names[0]}.{name}", value[None])
               for name, value in zip(names[1], (w, u, np.concatenate([bias, np.zeros_like(bias)])), strict=True)]
    ctx.output("Squeeze", ctx.node("LSTM", x, *weights, hidden_size=ctx.layer.size), ctx.integers([1]))


def _lstm_with_flags(ctx: OnnxContext) -> None:
    """As published, step t of sample n reads flag t + n."""
    steps, n = ctx.shape()[:2]
    flags = ctx.node("Reshape", ctx.x[1], ctx.integers([-1]))
    cont = ctx.node("Gather", flags, ctx.integers(np.arange(steps)[:, None, None] + np.arange(n)[:, None]))
    x = ctx.node("Reshape", ctx.x[0], ctx.integers([steps * n, -1]))
    given = ctx.node("Reshape", ctx.node("Gemm", x, ctx.weight(0), ctx.weight(2), transB=1),
                     ctx.integers([steps, n, 4 * ctx.layer.size]))
    _lstm_steps(ctx, steps, given, cont, ctx.weight(1))


@emits_python("Lstm")
def whole_lstm_python(ctx: PythonContext) -> str:
    layer, x = ctx.layer, ctx.x[0]
    inputs = layer.declared[0].shape[1]
    if len(ctx.x) > 1:
        state = dict(zip(("W_xc", "W_hc", "b_c"), layer.blobs(), strict=True))
        module = ctx.writer.module(layer, f"{ctx.writer.use('LSTMLayer')}({inputs}, {layer.size})", state)
        # As published, step t of sample n reads flag t + n.
        return f"{module}({x}, {ctx.x[1]}.flatten().unfold(0, {x}.shape[1], 1)[:len({x})])"
    w, u, bias = map(torch.from_numpy, _lstm_blobs(ctx, (0, 1, 3, 2)))  # torch: input, forget, candidate, output
    state = {"weight_ih_l0": w, "weight_hh_l0": u, "bias_ih_l0": bias, "bias_hh_l0": torch.zeros_like(bias)}
    module = ctx.writer.module(layer, f"nn.LSTM({inputs}, {layer.size})", state)
    return f"{module}({x}{'' if len(ctx.bottom_shapes[0]) == 3 else '.flatten(2)'})[0]"


def _lstm_blobs(ctx: EmitContext, order: tuple[int, ...]) -> list[np.ndarray]:
    """The layer's blobs with the gates input, forget, output and candidate in another order."""
    blobs = [blob.detach().cpu().numpy() for blob in ctx.layer.blobs()]
    return [np.concatenate([np.split(blob, 4)[i] for i in order]) for blob in blobs]
