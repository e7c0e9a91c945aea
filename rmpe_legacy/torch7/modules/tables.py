"""Modules on tables of tensors. Sources: the .lua of each class, nn@8726825."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Fields, Module, Value, dimension, torch7_class


@torch7_class("nn.CAddTable")
class CAddTable(Module):
    """x1 + x2 + ..., from left to right."""

    def forward(self, x: list[Tensor]) -> Tensor:
        total = x[0]
        for item in x[1:]:
            total = total + item
        return total


@torch7_class("nn.CSubTable")
class CSubTable(Module):
    """x1 - x2."""

    def forward(self, x: list[Tensor]) -> Tensor:
        return x[0] - x[1]


@torch7_class("nn.CMulTable")
class CMulTable(Module):
    """x1 * x2 * ..., from left to right."""

    def forward(self, x: list[Tensor]) -> Tensor:
        product = x[0]
        for item in x[1:]:
            product = product * item
        return product


@torch7_class("nn.CDivTable")
class CDivTable(Module):
    """x1 / x2."""

    def forward(self, x: list[Tensor]) -> Tensor:
        return x[0] / x[1]


@torch7_class("nn.CMaxTable", "nn.CMinTable")
class CMaxTable(Module):
    """The elementwise maximum (CMinTable: minimum) of the tensors; of equal ones the first."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.better = torch.gt if fields.class_name == "nn.CMaxTable" else torch.lt

    def forward(self, x: list[Tensor]) -> Tensor:
        best = x[0]
        for item in x[1:]:
            best = torch.where(self.better(item, best), item, best)
        return best


class AlongDimension(Module):
    """A module with a dimension, which increases by one if the input has a batch axis beyond nInputDims."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.number = fields.integer("dimension", least=-64)
        self.input_dims = fields.integer("nInputDims") if fields.has("nInputDims") else None

    def dim(self, x: Tensor) -> int:
        shift = self.number > 0 and self.input_dims is not None and x.dim() == self.input_dims + 1
        return dimension(self.number + shift, x.dim())


@torch7_class("nn.JoinTable")
class JoinTable(AlongDimension):
    """Concatenates tensors along a dimension."""

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.dim(x[0]))


@torch7_class("nn.SplitTable")
class SplitTable(AlongDimension):
    """Splits a tensor into a list of slices along a dimension."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(x.unbind(self.dim(x)))


@torch7_class("nn.SelectTable")
class SelectTable(Module):
    """One entry of the table; negative numbers count from the end."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.number = fields.integer("index", least=-(1 << 31))

    def forward(self, x: list) -> Value:
        return x[dimension(self.number, len(x))]


@torch7_class("nn.NarrowTable")
class NarrowTable(Module):
    """`length` entries from `offset` on."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.start = fields.integer("offset") - 1
        self.length = fields.integer("length", 1)

    def forward(self, x: list) -> list:
        return x[self.start : self.start + self.length]


@torch7_class("nn.FlattenTable")
class FlattenTable(Module):
    """Flattens nested tables into one list."""

    def forward(self, x: list) -> list[Tensor]:
        flat = []
        for item in x:
            flat += [item] if isinstance(item, Tensor) else self.forward(item)
        return flat
