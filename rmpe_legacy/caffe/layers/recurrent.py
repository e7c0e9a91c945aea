"""RNN, LSTM and LSTMUnit. Sources: {recurrent,rnn,lstm,lstm_unit}_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, rows, shape_text
from .gradient import Memory
from .registry import register


class _Recurrent(Layer):
    """T steps of N streams: x (T, N, ...), cont (T, N) [, static (N, ...)] [, states (1, N, D)] -> (T, N, D) [, states]

    cont is 0 where a new sequence begins in a stream, else 1. Without expose_hidden, the state after the last step is
    the next forward's initial state, and no gradient flows between them. With expose_hidden, initial states are bottoms
    and final states are tops; no gradient flows through either (recurrent_layer.cpp:214-230). debug_info only prints.
    """

    params = ("recurrent_param",)
    states: tuple[str, ...]
    refuses = unforced = (1,)
    works_in_place = False
    lost = ("begins each run with a state of 0; in Caffe, where cont is not 0 at the first step, a forward goes on "
            "from the state of the one before")

    def __init__(self, spec: LayerSpec):
        super().__init__(spec)
        self.exposed = len(self.states) if spec.get("recurrent_param").expose_hidden else 0
        self.bottoms = (2 + self.exposed, 3 + self.exposed)
        self.tops = 1 + self.exposed
        self.keeps_state = not self.exposed
        for name in self.states:
            self.register_buffer(f"state_{name}", torch.zeros(0), persistent=False)

    def setup(self, *bottom: Shape) -> None:
        self.size = self.spec.get("recurrent_param").num_output
        if self.size < 1:
            raise self.spec.error("num_output must be given, and positive")
        if len(bottom[0]) < 3 or not bottom[0][0]:
            raise self.spec.error(f"needs a first bottom (T, N, ...) of at least one step, not {shape_text(bottom[0])}")
        self.static = len(bottom) > 2 + self.exposed
        if self.static and len(bottom[2]) < 2:
            raise self.spec.error(f"needs a static bottom (N, ...), not {shape_text(bottom[2])}")
        self.steps = bottom[0][0]
        self.inputs = [count(bottom[0][2:]), *([count(bottom[2][1:])] if self.static else [])]
        self.declare_blobs()

    def declare_blobs(self) -> None:
        raise NotImplementedError

    def declare_weight(self, name: str, outputs: int, inputs: int) -> None:
        self.declare(name, (outputs, inputs), self.spec.get("recurrent_param").weight_filler)

    def declare_bias(self, name: str, outputs: int) -> None:
        self.declare(name, (outputs,), self.spec.get("recurrent_param").bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, cont, *rest = bottom
        if len(x) < 3:
            raise self.spec.error(f"needs a first bottom (T, N, ...), not {shape_text(x)}")
        if x[0] != self.steps:
            raise self.spec.error(f"was set up for {self.steps} time steps; its bottom has {x[0]}")
        inputs = [count(x[2:]), *([count(rest[0][1:])] if self.static else [])]
        if inputs != self.inputs:
            raise self.spec.error(f"was set up for {self.inputs} values per step; its bottoms have {inputs}")
        streams = x[1]
        state = (1, streams, self.size)
        if cont != x[:2] or (self.static and rest[0][:1] != (streams,)) or any(s != state for s in rest[self.static :]):
            raise self.spec.error(f"needs bottoms for {self.steps} steps of {streams} streams, states of "
                                  f"{shape_text(state)}; they are " + ", ".join(map(shape_text, bottom)))
        return [(*x[:2], self.size), *[state] * self.exposed]

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        streams = x.shape[1]
        static = rows(rest[0]) if self.static else None
        first = [s[0].detach() for s in rest[self.static :]] or [self._recall(s, streams) for s in self.states]
        y, last = self.unroll(x.reshape(*x.shape[:2], count(x.shape[2:])), cont.detach().unsqueeze(2), static, first)
        last = [state.detach() for state in last]
        if self.exposed:
            return y, *(state.unsqueeze(0) for state in last)
        for name, state in zip(self.states, last, strict=True):
            getattr(self, f"state_{name}")[: state.numel()] = state.flatten()
        return (y,)

    def unroll(self, x: Tensor, cont: Tensor, static: Tensor | None, first: Sequence[Tensor]
               ) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the top and the final states.

        Args:
            x: (T, N, K), the input of each step.
            cont: (T, N, 1), 0 where a sequence begins.
            static: (N, S), an input that is the same in all steps; None without one.
            first: The initial states, each (N, D).
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Set all states to zero."""
        for name in self.states:
            getattr(self, f"state_{name}").zero_()

    def _recall(self, name: str, streams: int) -> Tensor:
        """Return the last forward's state. As in Caffe, it is zero if there are more streams than ever before."""
        kept = getattr(self, f"state_{name}")
        if kept.numel() < streams * self.size:
            kept = kept.new_zeros(streams * self.size)
            setattr(self, f"state_{name}", kept)
        return kept[: streams * self.size].view(streams, self.size).clone()


@register("RNN")
class RNN(_Recurrent):
    """h = tanh(W_hh h + W_xh x + b_h (+ W_xh_static static)), o = tanh(W_ho h + b_o); o is the top."""

    states = ("h",)

    def declare_blobs(self) -> None:
        self.declare_weight("W_xh", self.size, self.inputs[0])
        self.declare_bias("b_h", self.size)
        if self.static:
            self.declare_weight("W_xh_static", self.size, self.inputs[1])
        self.declare_weight("W_hh", self.size, self.size)
        self.declare_weight("W_ho", self.size, self.size)
        self.declare_bias("b_o", self.size)

    def unroll(self, x: Tensor, cont: Tensor, static: Tensor | None, first: Sequence[Tensor]
               ) -> tuple[Tensor, Sequence[Tensor]]:
        w_xh, b_h, *w_static, w_hh, w_ho, b_o = self.blobs()
        given = F.linear(x, w_xh, b_h)
        constant = None if static is None else F.linear(static, w_static[0])
        h, hidden = first[0], []
        for x_t, cont_t in zip(given, cont, strict=True):
            total = F.linear(h * cont_t, w_hh) + x_t
            h = torch.tanh(total if constant is None else total + constant)
            hidden.append(h)
        return torch.tanh(F.linear(torch.stack(hidden), w_ho, b_o)), [h]


@register("LSTM")
class LSTM(_Recurrent):
    """Gates i, f, o, g = W_hc h + W_xc x + b_c (+ W_xc_static static), then LSTMUnit; h is the top."""

    states = ("h", "c")

    def declare_blobs(self) -> None:
        self.declare_weight("W_xc", 4 * self.size, self.inputs[0])
        self.declare_bias("b_c", 4 * self.size)
        if self.static:
            self.declare_weight("W_xc_static", 4 * self.size, self.inputs[1])
        self.declare_weight("W_hc", 4 * self.size, self.size)

    def unroll(self, x: Tensor, cont: Tensor, static: Tensor | None, first: Sequence[Tensor]
               ) -> tuple[Tensor, Sequence[Tensor]]:
        w_xc, b_c, *w_static, w_hc = self.blobs()
        given = F.linear(x, w_xc, b_c)
        constant = None if static is None else F.linear(static, w_static[0])
        (h, c), hidden = first, []
        for x_t, cont_t in zip(given, cont, strict=True):
            gates = F.linear(h * cont_t, w_hc) + x_t
            c, h = LstmStep.apply(c, gates if constant is None else gates + constant, cont_t, Memory(), False)
            hidden.append(h)
        return torch.stack(hidden), [h, c]


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM: cell (1, N, D), gates (1, N, 4 D) in the order i, f, o, g, cont (1, N) -> cell, hidden.

    c' = cont * sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c').
    """

    bottoms = 3
    tops = 2
    refuses = unforced = (2,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        cell, gates, cont = bottom
        if len(cell) != 3 or cell[0] != 1 or gates != (1, cell[1], 4 * cell[2]) or cont != cell[:2]:
            raise self.spec.error("needs bottoms (1, N, D), (1, N, 4 D) and (1, N); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [cell, cell]

    def forward(self, cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        memory = Memory()
        c, h = LstmStep.apply(cell, gates, cont.unsqueeze(2), memory, self.in_place)
        return memory.belongs_to(c), h


class LstmStep(torch.autograd.Function):
    """One LSTM step with its published Backward, which treats cont as part of the forget gate's sigmoid."""

    @staticmethod
    def forward(ctx: Any, cell: Tensor, gates: Tensor, cont: Tensor, memory: Memory, in_place: bool
                ) -> tuple[Tensor, Tensor]:
        i, f, o, g = gates.chunk(4, -1)
        i, o, g = torch.sigmoid(i), torch.sigmoid(o), torch.tanh(g)
        f = torch.where(cont == 0, 0, cont * torch.sigmoid(f))
        new = f * cell + i * g
        ctx.memory, ctx.in_place = memory, in_place
        ctx.save_for_backward(i, f, o, g, cell, new)
        return new, o * torch.tanh(new)

    @staticmethod
    def backward(ctx: Any, d_cell: Tensor, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        i, f, o, g, cell, new = ctx.saved_tensors
        new = ctx.memory.read(new)
        cell = new if ctx.in_place else cell
        squashed = torch.tanh(new)
        through = d_cell + d_hidden * o * (1 - squashed * squashed)
        d_gates = torch.cat((through * g * i * (1 - i), through * cell * f * (1 - f),
                             d_hidden * squashed * o * (1 - o), through * i * (1 - g * g)), -1)
        return through * f, d_gates, None, None, None
