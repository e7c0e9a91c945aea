"""Modules with weights that are not for images: Linear and similar ones. Sources: the .lua of each class,
nn@8726825.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Fields, Module, torch7_class


@torch7_class("nn.Linear")
class Linear(Module):
    """x W^T + b, for a vector or a batch of them: (..., in) -> (..., out)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.weight = fields.required("weight")
        if self.weight.dim() != 2:
            raise fields.error(f"weight has {self.weight.dim()} dimensions; expected 2")
        self.bias = fields.parameter("bias", self.weight.shape[:1])

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


@torch7_class("nn.Mul")
class Mul(Module):
    """x times a learned number."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.weight = fields.required("weight", (1,))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


@torch7_class("nn.Add")
class Add(Module):
    """x plus a learned vector or number."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.bias = fields.required("bias")
        self.scalar = fields.flag("scalar")

    def forward(self, x: Tensor) -> Tensor:
        if self.scalar or x.shape == self.bias.shape:
            return x + self.bias
        return x + self.bias.reshape(x.shape[1:])


@torch7_class("nn.CMul", "nn.CAdd")
class CMul(Module):
    """x times (CAdd: plus) a learned tensor that is broadcast over the batch and axes of size 1."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.adds = fields.class_name == "nn.CAdd"
        self.weight = fields.required("bias" if self.adds else "weight")

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if x.numel() == weight.numel():
            weight = weight.reshape(x.shape)
        elif weight.dim() != x.dim():
            weight = weight.reshape(x.shape[1:])
        return x + weight if self.adds else x * weight
