"""Modules that contain modules, and those that only pass values on. Sources: the .lua of each class, nn@8726825."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Fields, Module, Value, torch7_class


class Container(Module):
    """A list of modules; in the state dict each has its index, from 0."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        for i, child in enumerate(fields.children()):
            self.add_module(str(i), child)

    def parts(self) -> list[Module]:
        return cast(list[Module], list(self._modules.values()))


@torch7_class("nn.Sequential", "nn.Decorator", "nn.DontCast", "nn.GPU")
class Sequential(Container):
    """Runs modules in sequence; the decorators contain a single module and do not change its result."""

    def forward(self, x: Value) -> Value:
        for part in self.parts():
            x = part(x)
        return x


@torch7_class("nn.ConcatTable")
class ConcatTable(Container):
    """Passes the same input to each module; returns a list of their outputs."""

    def forward(self, x: Value) -> list:
        return [part(x) for part in self.parts()]


@torch7_class("nn.ParallelTable")
class ParallelTable(Container):
    """Passes entry i to module i; returns a list of their outputs."""

    def forward(self, x: list) -> list:
        return [part(x[i]) for i, part in enumerate(self.parts())]


@torch7_class("nn.Concat")
class Concat(Container):
    """Passes the same input to each module, and concatenates their outputs along a dimension."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.dim = fields.integer("dimension") - 1

    def forward(self, x: Value) -> Tensor:
        return torch.cat([part(x) for part in self.parts()], self.dim)


@torch7_class("nn.DepthConcat")
class DepthConcat(Concat):
    """Concat of outputs of several sizes, each centred in zeros."""

    def forward(self, x: Value) -> Tensor:
        outputs = [part(x) for part in self.parts()]
        largest = [max(sizes) for sizes in zip(*(y.shape for y in outputs), strict=True)]
        return torch.cat([self._centred(y, largest) for y in outputs], self.dim)

    def _centred(self, y: Tensor, largest: list[int]) -> Tensor:
        margins: list[int] = []
        for axis, (size, full) in enumerate(zip(y.shape, largest, strict=True)):
            before = 0 if axis == self.dim else (full - size) // 2
            after = 0 if axis == self.dim else full - size - before
            margins = [before, after, *margins]  # F.pad lists the last axis first
        return F.pad(y, margins)


@torch7_class("nn.Identity", "nn.Copy", "nn.Contiguous")
class Identity(Module):
    """Returns its input; Contiguous and Copy only change its layout in memory."""

    def forward(self, x: Value) -> Value:
        return x
