"""A whole small network in one call, on the CPU: csrc/cpu/small_net.h.

Its layers are steps on one image's scratch memory, in which the channels of a pixel lie together. The classes below are
the structs of small_net.h, field by field; places in memory are numbers of floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import index
from typing import ClassVar, SupportsIndex

import torch
from torch import Tensor

import rmpe_legacy._C

from .registration import without_autograd

IS_FAST: bool = rmpe_legacy._C.HAS_VECTORS
"""Whether this processor and this build have vector loops for it; without them it is slower than other ways."""

BLOCK = 16  # channels whose weights lie together
SCRATCH, INPUT, OUTPUT = range(3)  # where a Copy reads and writes; further outputs are OUTPUT + 1, ...
NO_ACTIVATION, RELU = -1, -2  # other activations: where PReLU's slopes lie
SUM, PRODUCT, MAXIMUM = range(3)
_WORDS = 20  # of a step


@dataclass
class Copy:
    """Moves size[0] x size[1] x size[2] values; before that, `cleared` values of the scratch memory become 0."""

    kind: ClassVar[int] = 0
    from_space: int
    source: SupportsIndex
    to_space: int
    target: SupportsIndex
    size: Sequence[int]
    from_stride: Sequence[int]
    to_stride: Sequence[int]
    clear: SupportsIndex = 0
    cleared: int = 0


@dataclass
class Convolve:
    """A convolution without padding, and its activation. weight: as ``pack_weight`` orders it."""

    kind: ClassVar[int] = 1
    source: SupportsIndex
    target: SupportsIndex
    channels: int
    row: int
    pixel: int
    outputs: int
    to_pixel: int
    out: Sequence[int]
    kernel: Sequence[int]
    stride: Sequence[int]
    dilation: Sequence[int]
    weight: SupportsIndex
    bias: SupportsIndex
    activation: int = NO_ACTIVATION


@dataclass
class Pool:
    """The maximum or the mean of windows."""

    kind: ClassVar[int] = 2
    source: SupportsIndex
    target: SupportsIndex
    channels: int
    size: Sequence[int]
    out: Sequence[int]
    kernel: Sequence[int]
    stride: Sequence[int]
    pad: Sequence[int]
    mean: bool


@dataclass
class Affine:
    """activation(scale * x + shift) per channel; a scale of -1 is none."""

    kind: ClassVar[int] = 3
    source: SupportsIndex
    target: SupportsIndex
    pixels: int
    channels: int
    scale: SupportsIndex = -1
    shift: SupportsIndex = -1
    activation: int = NO_ACTIVATION


@dataclass
class Combine:
    """Two terms, value by value."""

    kind: ClassVar[int] = 4
    source: SupportsIndex
    other: SupportsIndex
    target: SupportsIndex
    count: int
    combination: int
    scale: SupportsIndex = -1


@dataclass
class Softmax:
    """Softmax along the channels."""

    kind: ClassVar[int] = 5
    source: SupportsIndex
    target: SupportsIndex
    pixels: int
    channels: int


Step = Copy | Convolve | Pool | Affine | Combine | Softmax


def pack_weight(weight: Tensor) -> Tensor:
    """Order weights for ``Convolve``: (K, C, h, w) -> (blocks of 16 outputs, h, w, C, 16), zero beyond the last output.
    """
    outputs = weight.shape[0]
    padded = torch.cat([weight, weight.new_zeros(-outputs % BLOCK, *weight.shape[1:])])
    return padded.unflatten(0, (-1, BLOCK)).permute(0, 3, 4, 2, 1).contiguous()


def pack_channels(values: Tensor) -> Tensor:
    """Pad values, one per channel, with zeros to whole blocks: (K,) -> (K rounded up to a multiple of 16,)."""
    return torch.cat([values, values.new_zeros(-len(values) % BLOCK)])


def encode(steps: Sequence[Step], room: int, products: int, inputs: int, outputs: Sequence[Sequence[int]]) -> Tensor:
    """Return the code of a network, an int64 tensor.

    Args:
        steps: In the order of execution.
        room: How many floats of scratch memory an image needs.
        products: About how many products an image needs; decides whether threads share the images.
        inputs: How many values an image has.
        outputs: The shape of each output, without the batch.
    """
    words = [len(steps), room, products, inputs, len(outputs)]
    for shape in outputs:
        words += [len(shape), *shape]
    for step in steps:
        values: list[SupportsIndex] = [step.kind]
        for field in fields(step):
            value = getattr(step, field.name)
            values += value if isinstance(value, list | tuple) else [value]
        words += [*map(index, values), *[0] * (_WORDS - len(values))]
    return torch.tensor(words, dtype=torch.int64)


def small_net(x: Tensor, code: Tensor, parameters: Tensor) -> list[Tensor]:
    """Run a network: (N, ...) float -> its outputs, without gradients.

    Args:
        code: What ``encode`` gives. Its places in memory are not checked.
        parameters: All parameters, (P,) float.

    Raises:
        RuntimeError: x has another type or size.
    """
    return _small_net(x, code, parameters)


_small_net = torch.ops.rmpe.small_net.default
without_autograd("rmpe::small_net")
