"""An LSTM whose products are convolutions. Sources: conv_lstm_layer.cpp, conv_lstm_unit_layer.cpp and
conv_lstm_helper.hpp of agethen/ConvLSTM-for-Caffe@8151625."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .gradient import Memory
from .recurrent import LstmStep
from .registry import register

GATES = 4  # input, forget, output, candidate
PEEPHOLES = ("input", "forget", "output")  # the gates that see the cell


@register("ConvLSTM", form="")
class ConvLstm(Layer):
    """T steps of N streams: x (T, N, C, H, W), cont (T, N) [, static (1, N, S, H, W)] [, states (1, N, D, H, W): hidden
    and cell] -> (T, N, D, H, W) [, both states].

    Gates = W_x x + W_h (cont h) + b (+ W_static static), and for all but the candidate a weight of each place times the
    cell. lstm_conv_param is given once, or for "input" and "hidden" each. cont is 0 where a new sequence begins.
    Without expose_hidden the next forward goes on from the states of the last; with it, gradients flow through both.
    The blobs are those of the published network of steps, which has four of one value that do nothing.
    """

    params = ("lstm_conv_param", "lstm_debug_param", "recurrent_param")
    refuses = unforced = (1,)
    works_in_place = False
    lost = ("begins each run with a state of 0; in Caffe, where cont is not 0 at the first step, a forward goes on "
            "from the state of the one before")

    def __init__(self, spec: LayerSpec):
        super().__init__(spec)
        self.exposed = 2 if spec.get("recurrent_param").expose_hidden else 0
        self.bottoms = (2 + self.exposed, 3 + self.exposed)
        self.tops = 1 + self.exposed
        self.keeps_state = not self.exposed

    def _convolutions(self) -> tuple[Any, Any]:
        """The parameters of the convolution of the input, and of the hidden state."""
        given: Any = self.spec.get("lstm_conv_param")
        if len(given) not in (1, 2):
            raise self.spec.error(f"needs lstm_conv_param once or twice; it is given {len(given)} times")
        of_input = given[-1] if given[0].type == "hidden" else given[0]
        of_hidden = given[-1] if given[0].type == "input" else given[0]
        for param in given:
            if not param.num_output or param.num_output != given[0].num_output or not param.kernel_size:
                raise self.spec.error("its lstm_conv_param needs a kernel_size and a num_output above 0, the same in "
                                      "both")
        return of_input, of_hidden

    def setup(self, *bottom: Shape) -> None:
        debug = self.spec.get("lstm_debug_param")
        if debug.ignore_x or len(debug.expose):
            raise self.spec.error("lstm_debug_param.ignore_x and expose are not supported; remove them")
        if len(bottom[0]) != 5 or not bottom[0][0]:
            raise self.spec.error(f"needs a first bottom (T, N, C, H, W), not {shape_text(bottom[0])}")
        self.static = len(bottom) > 2 + self.exposed
        self.of_input, self.of_hidden = self._convolutions()
        self.size = self.of_input.num_output
        self.input = bottom[0][2:]
        state: Shape = (1, bottom[0][1], self.size, *self.input[1:])
        self._declare_convolution("W_x", self.of_input, self.input[0])
        if self.static:
            self._declare_convolution("W_static", self.of_input, bottom[2][2])
        for name in ("unused_c", "unused_h"):
            self.declare(name, (1,), learns=False)
        self._declare_convolution("W_h", self.of_hidden, self.size)
        if self.of_hidden.bias_term:
            self.declare("b", (GATES * self.size,), self.of_hidden.bias_filler)
        self.peephole = None if debug.disable_hadamard else self._axes(state, debug)
        if self.peephole is not None:
            weights: Shape = state[self.peephole]
            for name in PEEPHOLES:
                self.declare(f"W_c_{name}", weights, 1.0)
        for name in ("unused_last_h", "unused_last_c"):
            self.declare(name, (1,), learns=False)
        self.reset()

    def _axes(self, state: Shape, debug: Any) -> slice:
        """The axes of the states that the cell's weights have."""
        first = debug.axis_hadamard
        if not first + debug.num_axes_hadamard <= len(state):
            raise self.spec.error("axis_hadamard and num_axes_hadamard must name axes of a state "
                                  f"{shape_text(state)}")
        return slice(first, first + debug.num_axes_hadamard)

    def _declare_convolution(self, name: str, param: Any, channels: int) -> None:
        if channels % param.group:
            raise self.spec.error(f"its {channels} channels are no multiple of group {param.group}")
        sides = list(param.kernel_size) * (2 if len(param.kernel_size) == 1 else 1)
        self.declare(name, (GATES * self.size, channels // param.group, *sides), param.weight_filler)

    @staticmethod
    def options(param: Any) -> dict[str, Any]:
        """How a convolution moves, as torch's arguments."""
        pairs = {"padding": (param.pad, 0), "stride": (param.stride, 1), "dilation": (param.dilation, 1)}
        sides = {name: tuple(value) * (2 if len(value) == 1 else 1) or (default, default)
                 for name, (value, default) in pairs.items()}
        return {**sides, "groups": param.group}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, cont, *rest = bottom
        state = (1, x[1], self.size, *self.input[1:]) if len(x) == 5 else ()
        if not state or x[2:] != self.input or cont != x[:2] or any(s != state for s in rest[self.static :]) or (
                self.static and (len(rest[0]) != 5 or (*rest[0][:2], *rest[0][3:]) != (1, x[1], *x[3:]))):
            raise self.spec.error(f"was set up for steps of {shape_text(self.input)}; it needs x (T, N, C, H, W), cont "
                                  f"(T, N) and states {shape_text(state)}; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        self._check_keeps_size(x[3:])
        return [(*x[:2], *state[2:]), *[state] * self.exposed]

    def _check_keeps_size(self, size: Shape) -> None:
        for param in (self.of_input, self.of_hidden):
            options = self.options(param)
            sides = list(param.kernel_size) * (2 if len(param.kernel_size) == 1 else 1)
            kept = [(n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k, pad, stride, dilation in zip(
                size, sides, options["padding"], options["stride"], options["dilation"], strict=True)]
            if tuple(kept) != size:
                raise self.spec.error(f"its convolution makes {shape_text(tuple(kept))} of {shape_text(size)}; its "
                                      "kernel_size and pad must keep the size")

    def reset(self) -> None:
        """Forget how the last forward ended."""
        self.last: list[Tensor] = []

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        blobs = {declared.name: blob for declared, blob in zip(self.declared, self.blobs(), strict=True)}
        given = self._convolved(x.flatten(0, 1), blobs["W_x"], self.of_input).view(*x.shape[:2], -1, *x.shape[3:])
        if self.static:
            given = given + self._convolved(rest[0][0], blobs["W_static"], self.of_input)
        h, c = (state[0] for state in rest[self.static :]) if self.exposed else self._recalled(x)
        hidden = []
        for x_t, cont_t in zip(given, cont.detach(), strict=True):
            gates = self._convolved(h * cont_t.view(-1, 1, 1, 1), blobs["W_h"], self.of_hidden, blobs.get("b"))
            gates = gates + x_t + self._seen(c, blobs)
            cell, out = LstmStep.apply(c.flatten(1), gates.flatten(1), cont_t.view(-1, 1), Memory(), False)
            h, c = out.view(h.shape), cell.view(c.shape)
            hidden.append(h)
        self.last = [h.detach(), c.detach()]
        return (torch.stack(hidden), *((h.unsqueeze(0), c.unsqueeze(0)) if self.exposed else ()))

    def _recalled(self, x: Tensor) -> list[Tensor]:
        """The states to begin with: those of the last forward, if it had as many streams."""
        shape = (x.shape[1], self.size, *x.shape[3:])
        if self.last and self.last[0].shape == shape:
            return [state.to(x) for state in self.last]
        return [x.new_zeros(shape)] * 2

    def _convolved(self, x: Tensor, weight: Tensor, param: Any, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, **self.options(param))

    def _seen(self, cell: Tensor, blobs: dict[str, Tensor]) -> Tensor | float:
        """What the cell adds to the gates; the candidate's share is 0."""
        if self.peephole is None:
            return 0.0
        after = (1,) * (5 - self.peephole.stop)
        parts = [cell * blobs[f"W_c_{name}"].view(*blobs[f"W_c_{name}"].shape, *after) for name in PEEPHOLES]
        return torch.cat([*parts, torch.zeros_like(cell)], 1)
