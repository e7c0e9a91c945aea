"""Looks up rows of a matrix. Source: embed_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape
from .gradient import severed
from .registry import register


@register("Embed")
class Embed(Layer):
    """weight[x] (+ bias) for integers 0 <= x < input_dim: (...) -> (..., num_output).

    Differs: an index outside this range is an error; the published code reads outside its blob.
    """

    params = ("embed_param",)
    refuses = (0,)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("embed_param")
        self.rows, self.num_output = param.input_dim, param.num_output
        if self.rows < 1 or self.num_output < 1:
            raise self.spec.error("input_dim and num_output must be given, and positive")
        self.declare("weight", (self.rows, self.num_output), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (self.num_output,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(*bottom[0], self.num_output)]

    def forward(self, x: Tensor) -> Tensor:
        weight, *bias = self.blobs()
        index = x.to(torch.int64)
        if index.numel() and not 0 <= index.min() <= index.max() < self.rows:
            raise self.spec.error(f"its bottom has indices from {index.min()} to {index.max()}; its table has rows 0 "
                                  f"to {self.rows - 1}")
        y = F.embedding(index, weight)
        return severed(y + bias[0] if bias else y, x)
