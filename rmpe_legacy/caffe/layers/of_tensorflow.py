"""TensorFlow's operations as Caffe layers: sums and products of unequal shapes, axes of one value, borders, blocks.

Sources: add_layer.cpp, mul_layer.cpp, squeeze_layer.cpp, pad_layer.cpp, depth_to_space_layer.cpp,
space_to_batch_nd_layer.cpp, batch_to_space_nd_layer.cpp and hard_swish_layer.cpp of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Count, Layer, Shape, shape_text
from .registry import register
from .tiling import tiled


class Broadcast(Layer):
    """Base: combines two blobs whose sizes, counted from the last axis, are equal or 1."""

    bottoms: Count = 2
    works_in_place = False
    exact = True

    def combined(self, a: Shape, b: Shape) -> Shape:
        """The shape of both together."""
        sizes = list(zip_longest(a[::-1], b[::-1], fillvalue=1))
        if any(m != n and 1 not in (m, n) for m, n in sizes):
            raise self.spec.error("needs blobs whose sizes, counted from the last axis, are equal or 1; they are "
                                  f"{shape_text(a)} and {shape_text(b)}")
        return tuple(n if m == 1 else m for m, n in sizes[::-1])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.combined(*bottom)]


@register("Add", form="")
class Add(Broadcast):
    """a + b: two blobs whose sizes, counted from the last axis, are equal or 1 -> the larger shape."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


@register("Mul", form="")
class Mul(Broadcast):
    """a * b, where b is the second bottom, or else a parameter of the shape mul_shape, which begins with zeros: blobs
    whose sizes, counted from the last axis, are equal or 1 -> the larger shape."""

    params = ("mul_param",)
    bottoms = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        if len(bottom) == 1:
            self.declare("factor", tuple(self.spec.get("mul_param").mul_shape))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.combined(bottom[0], bottom[1] if len(bottom) > 1 else self.declared[0].shape)]

    def forward(self, a: Tensor, *b: Tensor) -> Tensor:
        return a * (b or self.blobs())[0]


@register("Squeeze", form="")
class Squeeze(Layer):
    """Removes axes of one value: those that `axis` lists, or all if it lists none."""

    params = ("squeeze_param",)
    works_in_place = False
    exact = True
    shares_data = shares_diff = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = bottom[0]
        given = [self.axis(axis, len(shape)) for axis in self.spec.get("squeeze_param").axis]
        if any(shape[axis] != 1 for axis in given):
            raise self.spec.error(f"axis must name axes of one value; its bottom is {shape_text(shape)}")
        self.shape = tuple(n for axis, n in enumerate(shape) if n != 1 or (given and axis not in given))
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


@register("Pad", form="")
class Pad(Layer):
    """Puts `constant_values` around a blob: paddings has two numbers for each axis, before and behind it."""

    params = ("pad_param",)
    works_in_place = False
    exact = True

    def setup(self, *bottom: Shape) -> None:
        param, axes = self.spec.get("pad_param"), len(bottom[0])
        given = list(param.paddings)
        if len(given) != 2 * axes:
            raise self.spec.error(f"paddings must give two numbers for each of {axes} axes, not {given}")
        self.before, self.end, self.value = given[::2], given[1::2], param.constant_values

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [tuple(b + n + e for b, n, e in zip(self.before, bottom[0], self.end, strict=True))]

    def margin(self) -> list[int]:
        """The paddings as F.pad takes them: the last axis first."""
        return [pad for both in zip(self.before[::-1], self.end[::-1], strict=True) for pad in both]

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.margin(), value=self.value)


@register("DepthToSpace", form="")
class DepthToSpace(Layer):
    """Moves channels into blocks of pixels, b x b: (N, C, H, W) -> (N, C / b^2, H * b, W * b).

    A channel's number is (row * b + column) * C / b^2 + d in the formats NCHW and DCR, and (d * b + row) * b + column
    in CRD. In NHWC, the default, the channels are the last axis of both blobs.
    """

    params = ("depth_to_space_param",)
    works_in_place = False
    exact = True
    formats = ("NHWC", "NCHW", "DCR", "CRD")

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("depth_to_space_param")
        self.block, self.format = param.block_size, param.data_format
        if self.format not in self.formats or self.block < 1:
            raise self.spec.error(f"needs a block_size above 0 and a data_format of {', '.join(self.formats)}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom with 4 axes, not {shape_text(bottom[0])}")
        n, *rest = bottom[0]
        c, h, w = (rest[2], *rest[:2]) if self.format == "NHWC" else rest
        b = self.block
        if c % b**2:
            raise self.spec.error(f"block_size {b} needs a multiple of {b**2} channels; its bottom has {c}")
        c, h, w = c // b**2, h * b, w * b
        return [(n, h, w, c) if self.format == "NHWC" else (n, c, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        b = self.block
        if self.format == "CRD":
            return tiled(x, b)
        if self.format == "NHWC":
            x = x.movedim(3, 1)
        n, c, h, w = x.shape
        parts = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
        y = parts.reshape(n, c // b**2, h * b, w * b)
        return y.movedim(1, 3).contiguous() if self.format == "NHWC" else y


class _Blocks(Layer):
    """Base of the two below: block_shape names the sides of a block, for the axes from 1 on."""

    works_in_place = False
    exact = True

    def read(self, bottom: Shape, blocks: Sequence[int], margin: Sequence[int]) -> None:
        """Set `blocks` and `margin`, pairs of numbers of rows for each axis."""
        if 0 in blocks or len(bottom) <= len(blocks) or len(margin) != 2 * len(blocks):
            raise self.spec.error("needs for each axis from 1 on that it cuts in blocks a side above 0 and two numbers "
                                  f"of rows, for a bottom of {shape_text(bottom)}")
        self.blocks, self.margin = list(blocks), list(zip(margin[::2], margin[1::2], strict=True))


@register("SpaceToBatchND", form="")
class SpaceToBatchND(_Blocks):
    """Pads with zeros, then makes of each place in a block a batch of its own: (N, H, ...) -> (blocks * N, H / block,
    ...), the first rows of all blocks first."""

    params = ("space_to_batch_nd_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("space_to_batch_nd_param")
        self.read(bottom[0], list(param.block_shape), list(param.paddings))

    def padded(self, bottom: Shape) -> list[int]:
        """The sizes of the padded axes."""
        sizes = [n + before + end for n, (before, end) in zip(bottom[1:], self.margin, strict=False)]
        if any(n % block for n, block in zip(sizes, self.blocks, strict=True)):
            raise self.spec.error(f"block_shape {self.blocks} does not divide the padded axes, {sizes}")
        return sizes

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        sizes = [n // block for n, block in zip(self.padded(bottom[0]), self.blocks, strict=True)]
        n = bottom[0][0]
        for block in self.blocks:
            n *= block
        return [(n, *sizes, *bottom[0][len(sizes) + 1 :])]

    def forward(self, x: Tensor) -> Tensor:
        (top,) = self.reshape(tuple(x.shape))
        axes, rest = len(self.blocks), x.dim() - len(self.blocks) - 1
        x = F.pad(x, [0, 0] * rest + [n for pair in self.margin[::-1] for n in pair])
        parts = [n for size, block in zip(x.shape[1:], self.blocks, strict=False) for n in (size // block, block)]
        x = x.reshape(x.shape[0], *parts, *x.shape[axes + 1 :])
        order = [*range(2, 2 * axes + 1, 2), 0, *range(1, 2 * axes, 2), *range(2 * axes + 1, x.dim())]
        return x.permute(order).reshape(top)


@register("BatchToSpaceND", form="")
class BatchToSpaceND(_Blocks):
    """Puts batches back as the places of blocks, then cuts `crops` off: (blocks * N, H, ...) -> (N, H * block - crops,
    ...)."""

    params = ("batch_to_space_nd_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("batch_to_space_nd_param")
        self.read(bottom[0], list(param.block_shape), list(param.crops))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = list(bottom[0])
        for axis, (block, (before, end)) in enumerate(zip(self.blocks, self.margin, strict=True), 1):
            if shape[0] % block or shape[axis] * block <= before + end:
                raise self.spec.error(f"block_shape {self.blocks} and crops {self.margin} do not fit a bottom of "
                                      f"{shape_text(bottom[0])}")
            shape[0] //= block
            shape[axis] = shape[axis] * block - before - end
        return [tuple(shape)]

    def forward(self, x: Tensor) -> Tensor:
        axes, sizes = len(self.blocks), x.shape[1:]
        x = x.reshape(*self.blocks, -1, *sizes)
        order = [axes, *(axis for i in range(axes) for axis in (axes + 1 + i, i)), *range(2 * axes + 1, x.dim())]
        whole = [size * block for size, block in zip(sizes, self.blocks, strict=False)]
        x = x.permute(order).reshape(-1, *whole, *sizes[axes:])
        for axis, (size, (before, end)) in enumerate(zip(whole, self.margin, strict=True), 1):
            x = x.narrow(axis, before, size - before - end)
        return x.contiguous()


@register("HardSwish", form="")
class HardSwish(Layer):
    """x * min(max(x + 3, 0), 6) / 6: any shape -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.double() * (x.double() + 3).clamp(0, 6) / 6).to(x) if x.dtype == torch.float32 else F.hardswish(x)
