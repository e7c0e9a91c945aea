"""Modules that reshape, reorder or select values. Sources: the .lua of each class, nn@8726825."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.errors import NetError
from rmpe_legacy.torch7.objects import Table

from .base import Fields, Module, dimension, torch7_class
from .tables import AlongDimension


def _input_dims(fields: Fields, name: str = "numInputDims") -> int | None:
    return fields.integer(name) if fields.has(name) else None


@torch7_class("nn.View")
class View(Module):
    """Torch7's View: the batch axis is inferred from the sizes, and a batch of one is dropped.

    So View(2, 3) turns (1, 6) into (2, 3), and (5, 6) into (5, 2, 3). With numInputDims a batch of one is kept.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.size = fields.sizes("size")
        if any(n < -1 for n in self.size) or self.size.count(-1) > 1 or 0 in self.size:
            raise fields.error(f"size {list(self.size)} must be positive numbers, and -1 at most once")
        self.input_dims = _input_dims(fields)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.output_shape(tuple(x.shape)))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the output shape for an input of `shape`.

        Raises:
            NetError: The input does not fit.
        """
        dims = min(self.input_dims or len(shape), len(shape))
        inner = math.prod(shape[len(shape) - dims :])
        wanted = math.prod(n for n in self.size if n != -1)
        if inner % wanted:
            raise NetError(f"nn.View({', '.join(map(str, self.size))}): an input of {list(shape)} does not fit")
        size = tuple(inner // wanted if n == -1 else n for n in self.size)
        batch = (1 if -1 in self.size else inner // wanted) * math.prod(shape[: len(shape) - dims])
        if batch == 1 and (self.input_dims is None or len(shape) <= self.input_dims):
            return size
        return (batch, *size)

    def extra_repr(self) -> str:
        return f"{self.class_name}({', '.join(map(str, self.size))})"


@torch7_class("nn.Reshape")
class Reshape(Module):
    """Reshape all axes, or all but the first.

    batchMode selects which; if it is nil, the first axis is kept unless the counts agree and it is not 1.
    """

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.size = fields.sizes("size")
        self.batch_mode = fields.get("batchMode")

    def forward(self, x: Tensor) -> Tensor:
        whole = self.batch_mode is False or (
            self.batch_mode is None and x.numel() == math.prod(self.size) and x.shape[0] != 1)
        return x.reshape(self.size if whole else (x.shape[0], *self.size))


@torch7_class("nn.Transpose")
class Transpose(Module):
    """Pairs of dimensions swapped, one pair after the other; the result is contiguous."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        pairs = fields.get("permutations")
        if not isinstance(pairs, Table):
            raise fields.error("permutations is not a table")
        self.pairs = [self._pair(fields, pair) for pair in pairs.seq()]
        self.input_dims = _input_dims(fields)

    @staticmethod
    def _pair(fields: Fields, pair: object) -> tuple[int, int]:
        values = pair.seq() if isinstance(pair, Table) else []
        if len(values) < 2 or not all(isinstance(v, float) and v in range(1, 65) for v in values[:2]):
            raise fields.error(f"permutations holds {values}; expected pairs of dimensions")
        return int(values[0]) - 1, int(values[1]) - 1

    def axes(self, dims: int) -> list[tuple[int, int]]:
        """Return the pairs of axes to swap in a tensor of `dims` axes.

        Raises:
            NetError: The tensor lacks one of them.
        """
        shift = dims - self.input_dims if self.input_dims is not None else 0
        pairs = [(a + shift, b + shift) for a, b in self.pairs]
        if not all(0 <= axis < dims for pair in pairs for axis in pair):
            raise NetError(f"nn.Transpose: swaps axes that an input of {dims} axes does not have")
        return pairs

    def forward(self, x: Tensor) -> Tensor:
        for a, b in self.axes(x.dim()):
            x = x.transpose(a, b)
        return x.contiguous()


@torch7_class("nn.Squeeze")
class Squeeze(Module):
    """Without the axes of size 1, or without one of them; with numInputDims the batch axis stays."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.number = fields.integer("dim") if fields.has("dim") else None
        self.input_dims = _input_dims(fields)

    def forward(self, x: Tensor) -> Tensor:
        batch = self.input_dims is not None and x.dim() == self.input_dims + 1
        if self.number is not None:
            axis = self.number - 1 + batch
            return x.squeeze(axis) if x.dim() > 1 else x  # Torch7 leaves a vector alone
        shape = [n for n in x.shape if n != 1] or [1]
        return x.reshape([1, *shape] if batch and x.shape[0] == 1 else shape)


@torch7_class("nn.Unsqueeze")
class Unsqueeze(Module):
    """A new axis of size 1. Without numInputDims, the first input's dimensions count as those of a sample."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.at = fields.integer("pos") - 1
        self.input_dims = _input_dims(fields)

    def forward(self, x: Tensor) -> Tensor:
        if self.input_dims is None:
            self.input_dims = x.dim()
        return x.unsqueeze(self.at + x.dim() - self.input_dims)


@torch7_class("nn.Select")
class Select(Module):
    """One slice along a dimension."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.number = fields.integer("dimension", least=-64)
        self.index = fields.integer("index", least=-(1 << 31))

    def forward(self, x: Tensor) -> Tensor:
        axis = dimension(self.number, x.dim())
        return x.select(axis, dimension(self.index, x.shape[axis]))


@torch7_class("nn.Narrow")
class Narrow(Module):
    """`length` slices from `index` on; see Narrow.lua for what negative numbers mean."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.number = fields.integer("dimension", least=-64)
        self.index = fields.integer("index", least=-(1 << 31))
        self.length = fields.integer("length", 1, least=-(1 << 31))

    def forward(self, x: Tensor) -> Tensor:
        axis = dimension(self.number, x.dim())
        size, length, index = x.shape[axis], self.length, self.index
        if length < 0:
            length = size - index + length + 2
        if index < 0:
            index, length = 1, size - length
        return x.narrow(axis, index - 1, length)


@torch7_class("nn.Replicate")
class Replicate(Module):
    """The input several times along a new axis."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.times = fields.integer("nfeatures")
        self.at = fields.integer("dim", 1) - 1
        self.input_dims = _input_dims(fields, "ndim")

    def forward(self, x: Tensor) -> Tensor:
        axis = self.at + (self.input_dims is not None and x.dim() > self.input_dims)
        shape = list(x.shape)
        shape.insert(axis, self.times)
        return x.unsqueeze(axis).expand(shape)


@torch7_class("nn.Padding")
class Padding(Module):
    """|pad| slices of `value`, put in at `index` from the end (pad > 0) or the beginning (pad < 0)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.at = fields.integer("dim") - 1
        self.pad = fields.integer("pad", least=-(1 << 31))
        self.value = fields.number("value", 0.0)
        self.index = fields.integer("index", 1)
        self.input_dims = _input_dims(fields, "nInputDim")

    def forward(self, x: Tensor) -> Tensor:
        axis = self.at + (self.input_dims is not None and x.dim() != self.input_dims)
        before = x.shape[axis] - self.index + 1 if self.pad > 0 else self.index - 1
        shape = list(x.shape)
        shape[axis] = abs(self.pad)
        parts = x.split([before, x.shape[axis] - before], axis)
        return torch.cat([parts[0], x.new_full(shape, self.value), parts[1]], axis)


@torch7_class("nn.SpatialZeroPadding")
class SpatialZeroPadding(Module):
    """Pads the image with zeros; negative margins crop it."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.margins = [fields.integer(f"pad_{side}", least=-(1 << 31)) for side in "lrtb"]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.margins)


@torch7_class("nn.SpatialReflectionPadding", "nn.SpatialReplicationPadding")
class SpatialMirrorPadding(Module):
    """Pads the image by mirroring it or repeating its border."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.margins = [fields.integer(f"pad_{side}", least=-(1 << 31)) for side in "lrtb"]
        self.mode = "reflect" if fields.class_name == "nn.SpatialReflectionPadding" else "replicate"

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.margins, self.mode)


@torch7_class("nn.Max", "nn.Min")
class Max(AlongDimension):
    """The maximum (Min: minimum) along a dimension, which is removed; a vector gives a single value."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.of = torch.amax if fields.class_name == "nn.Max" else torch.amin

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x, self.dim(x), keepdim=x.dim() == 1)


@torch7_class("nn.Sum", "nn.Mean")
class Sum(AlongDimension):
    """The sum or mean along a dimension, which is removed unless `squeeze` is false."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.mean = fields.flag("sizeAverage", fields.class_name == "nn.Mean")
        self.keep = not fields.flag("squeeze", True)

    def forward(self, x: Tensor) -> Tensor:
        axis = self.dim(x)
        total = x.sum(axis, keepdim=self.keep or x.dim() == 1)
        return total / x.shape[axis] if self.mean else total


@torch7_class("nn.PixelShuffle")
class PixelShuffle(Module):
    """Moves channels into pixels: (N, C r^2, H, W) -> (N, C, H r, W r)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.factor = fields.integer("upscaleFactor")

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.factor)
