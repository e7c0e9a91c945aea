"""LSTMs that run along the rows or columns of a map (ReNet). Source: renet_lstm_layer.{cpp,cu} of
ArcherFMY/caffe-sal-ensemble@ff8e040."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register

GATES = ("input", "cell", "output", "forget")
PEEPHOLES = ("input", "output", "forget")  # the gates that see the cell
BOTH_WAYS = ("forth", "back")


@register("ReNetLSTM", form="")
class ReNetLstm(Layer):
    """(N, C, H, W) -> (N, 2 * num_output, H / patch_height, W / patch_width): what an LSTM gives that runs forth, then
    what one gives that runs back, along each row of patches (direction X_DIR) or each column (Y_DIR).

    Blobs of each way: weights of the gates, (num_output, patch + num_output), in the order input, cell, output, forget;
    what the cell adds to input, output and forget, (num_output, num_output), with peephole; biases. Without peephole
    its blobs are there and do nothing.
    """

    params = ("renet_lstm_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("renet_lstm_param")
        self.size, self.patch = param.num_output, (param.patch_height, param.patch_width)
        self.along_rows, self.peephole = param.direction == "X_DIR", param.peephole
        if min(self.size, *self.patch) < 1 or len(bottom[0]) != 4:
            raise self.spec.error("needs num_output, patch_height and patch_width above 0, and a bottom (N, C, H, W), "
                                  f"not {shape_text(bottom[0])}")
        self.channels = bottom[0][1]
        inputs = self.channels * self.patch[0] * self.patch[1]
        fillers = {"input": param.input_gate_bias_filler, "cell": param.general_bias_filler,
                   "output": param.output_gate_bias_filler, "forget": param.forget_gate_bias_filler}
        for way in BOTH_WAYS:
            for gate in GATES:
                self.declare(f"W_{gate}_{way}", (self.size, inputs + self.size), param.general_weight_filler)
            for gate in PEEPHOLES:
                self.declare(f"W_c_{gate}_{way}", (self.size, self.size),
                             param.general_weight_filler if self.peephole else 0.0)
            for gate in GATES:
                self.declare(f"b_{gate}_{way}", (self.size,), fillers[gate])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x = bottom[0]
        if len(x) != 4 or x[1] != self.channels or any(
                n % patch for n, patch in zip(x[2:], self.patch, strict=True)):
            raise self.spec.error(f"needs a bottom (N, {self.channels}, H, W) that patches of "
                                  f"{shape_text(self.patch)} fill, not {shape_text(x)}")
        return [(x[0], 2 * self.size, x[2] // self.patch[0], x[3] // self.patch[1])]

    def forward(self, x: Tensor) -> Tensor:
        ph, pw = self.patch
        n, c, h, w = x.shape
        patches = x.view(n, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 1, 3, 5).flatten(3)  # N, rows, columns, cells
        if not self.along_rows:
            patches = patches.transpose(1, 2)
        lines, steps = patches.shape[1:3]
        sequence = patches.permute(2, 0, 1, 3).flatten(1, 2)  # steps, N * lines, cells
        half = len(self.declared) // 2
        forth, back = (self.scan(part, self.blobs()[half * way : half * (way + 1)])
                       for way, part in enumerate((sequence, sequence.flip(0))))
        top = torch.cat([forth, back.flip(0)], 2).view(steps, n, lines, 2 * self.size)
        return top.permute(1, 3, 2, 0) if self.along_rows else top.permute(1, 3, 0, 2)

    def scan(self, sequence: Tensor, blobs: Sequence[Tensor]) -> Tensor:
        """The hidden states, (T, B, num_output), of a sequence (T, B, cells), with the blobs of one way."""
        weight, seen, bias = torch.cat(list(blobs[:4])), blobs[4:7], torch.cat(list(blobs[7:]))
        inputs = sequence.shape[2]
        given = sequence @ weight[:, :inputs].t() + bias
        hidden = cell = sequence.new_zeros(sequence.shape[1], self.size)
        states = []
        for at_step in given:
            gate_in, candidate, gate_out, forget = (at_step + hidden @ weight[:, inputs:].t()).split(self.size, 1)
            if self.peephole:
                gate_in, forget = gate_in + cell @ seen[0].t(), forget + cell @ seen[2].t()
            cell = torch.sigmoid(gate_in) * torch.tanh(candidate) + torch.sigmoid(forget) * cell
            if self.peephole:
                gate_out = gate_out + cell @ seen[1].t()
            hidden = torch.sigmoid(gate_out) * torch.tanh(cell)
            states.append(hidden)
        return torch.stack(states)
