"""The Lstm of CTPN, which is not Caffe's LSTM. Source: lstm_layer.{cpp,cu} of tianzhi0549/CTPN@f77ec9e."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import Layer, Shape, count, shape_text
from .registry import register


class _Unrolled(torch.autograd.Function):
    """All steps: x (T, N, I) -> h (T, N, H). flags (T, N) say whether a step continues from the previous one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, u: Tensor, bias: Tensor, flags: Tensor, h0: Tensor, c0: Tensor,
                limit: float, last: list[Tensor]) -> Tensor:
        size = u.shape[1]
        into = x @ w.t() + bias
        hs, cs, gates = [h0], [c0], []
        for t in range(len(x)):
            pre = into[t] + flags[t].unsqueeze(1) * (hs[-1] @ u.t())
            gate = torch.cat([torch.sigmoid(pre[:, : 3 * size]), torch.tanh(pre[:, 3 * size :])], 1)
            i, f, o, g = gate.split(size, 1)
            cs.append(flags[t].unsqueeze(1) * f * cs[-1] + i * g)
            hs.append(o * torch.tanh(cs[-1]))
            gates.append(gate)
        last[:] = hs[-1], cs[-1]
        ctx.save_for_backward(x, w, u, flags, torch.stack(hs), torch.stack(cs), torch.stack(gates))
        ctx.limit = limit
        return torch.stack(hs[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, w, u, flags, hs, cs, gates = ctx.saved_tensors
        steps, size = len(x), u.shape[1]
        dh, dc = torch.zeros_like(hs[0]), torch.zeros_like(cs[0])
        pre = torch.empty_like(gates)
        for t in reversed(range(steps)):
            i, f, o, g = gates[t].split(size, 1)
            flag, cell = flags[t].unsqueeze(1), torch.tanh(cs[t + 1])
            dh = dy[t] + dh
            dc = dc + dh * o * (1 - cell * cell)
            into = torch.cat([dc * g, flag * dc * cs[t], dh * cell, dc * i], 1)
            gate = gates[t]
            slope = torch.cat([gate[:, : 3 * size] * (1 - gate[:, : 3 * size]), 1 - gate[:, 3 * size :] ** 2], 1)
            pre[t] = into * slope
            if ctx.limit > 0:
                pre[t].clamp_(-ctx.limit, ctx.limit)
            dc = flag * dc * f
            dh = flag * (pre[t] @ u)
        flat = pre.reshape(-1, 4 * size)
        # As published, without the flags, and of the first step the first sample alone.
        to_u = pre[1:].reshape(-1, 4 * size).t() @ hs[1:steps].reshape(-1, size) + torch.outer(pre[0, 0], hs[0, 0])
        return pre @ w, flat.t() @ x.reshape(len(flat), -1), to_u, flat.sum(0), None, None, None, None, None


@register("Lstm", form="")
class Lstm(Layer):
    """(T, N, ...) -> (T, N, num_output): gates in the order input, forget, output, candidate.

    Blobs: (4H, I), (4H, H), (4H). A second bottom, T * N flags, says which steps continue from the previous one;
    the first then continues from the end of the last forward, otherwise from 0. clipping_threshold bounds the
    gradient before the gates. As published, a flag is read at t + n (right for one sample only), and the recurrent
    weights' gradient ignores the flags. This is the GPU code's arithmetic; the CPU code adds sample 0's recurrent
    term to every sample.
    """

    params = ("lstm_param",)
    bottoms = (1, 2)
    works_in_place = False
    lost = ("begins each run with a state of 0; in the fork, where the first step's flag is not 0, a forward goes on "
            "from the end of the one before")

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("lstm_param")
        self.size, self.limit = param.num_output, param.clipping_threshold
        if self.size < 1:
            raise self.spec.error("needs num_output, above 0")
        if len(bottom[0]) < 3:
            raise self.spec.error(f"needs a bottom (T, N, ...), not {shape_text(bottom[0])}")
        self.declare("weight_i", (4 * self.size, count(bottom[0][2:])), param.weight_filler)
        self.declare("weight_h", (4 * self.size, self.size), param.weight_filler)
        self.declare("bias", (4 * self.size,), param.bias_filler)
        self.keeps_state = len(bottom) > 1
        self.reset()

    def reset(self) -> None:
        """Forget how the last forward ended."""
        self.last: list[Tensor] = []

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) < 3 or count(bottom[0][2:]) != self.declared[0].shape[1]:
            raise self.spec.error(f"was set up for {self.declared[0].shape[1]} inputs per step; its bottom is "
                                  f"{shape_text(bottom[0])}")
        if len(bottom) > 1 and count(bottom[1]) != bottom[0][0] * bottom[0][1]:
            raise self.spec.error(f"needs {bottom[0][0] * bottom[0][1]} flags, one for each step and sample, not "
                                  f"{shape_text(bottom[1])}")
        return [(*bottom[0][:2], self.size)]

    def forward(self, x: Tensor, flags: Tensor | None = None) -> Tensor:
        steps, n = x.shape[:2]
        w, u, bias = self.blobs()
        start = [x.new_zeros(n, self.size)] * 2
        if flags is None:
            on = x.new_ones(steps, n)
            on[0] = 0
        else:
            flat = flags.detach().flatten().to(x.dtype)
            place = torch.arange(steps, device=x.device).unsqueeze(1) + torch.arange(n, device=x.device)
            on = flat[place]
            if self.last and self.last[0].shape == start[0].shape:
                start = [state.to(x) for state in self.last]
        last: list[Tensor] = []
        top = _Unrolled.apply(x.reshape(steps, n, -1), w, u, bias, on, *start, self.limit, last)
        self.last = [state.detach() for state in last]
        return top
