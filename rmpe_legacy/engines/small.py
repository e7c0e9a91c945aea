"""A small network as one kernel, which runs all of its layers in a single call.

Calling a layer from Python takes longer than computing it if the network is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import SupportsIndex

import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.concat import Concat
from rmpe_legacy.caffe.layers.conv import Convolution
from rmpe_legacy.caffe.layers.eltwise import Eltwise
from rmpe_legacy.caffe.layers.flatten import Flatten
from rmpe_legacy.caffe.layers.inner_product import InnerProduct
from rmpe_legacy.caffe.layers.neuron import Power, PReLU, ReLU
from rmpe_legacy.caffe.layers.pooling import Pooling
from rmpe_legacy.caffe.layers.reshape import Reshape
from rmpe_legacy.caffe.layers.softmax import Softmax
from rmpe_legacy.export.fold import channel_affine
from rmpe_legacy.export.graph import BATCH, Node, Value
from rmpe_legacy.ops import small_net as ops
from rmpe_legacy.ops.small_net import BLOCK, INPUT, OUTPUT, RELU, SCRATCH, small_net

from .plan import Call, Kernel, LayerCall, Plan, Reshaped

MOST_PRODUCTS = 16_000_000  # of an image; larger networks gain more from Winograd's algorithm
MOST_VALUES = 1 << 20  # of all blobs of an image


class SmallNet(Kernel):
    """Computes some layers: their bottoms -> their tops, as Value has their shapes."""

    fresh = False

    def __init__(self, code: Tensor, parameters: Tensor):
        super().__init__()
        # A Module takes half a microsecond to find a Parameter or a buffer, but not an entry of a tuple.
        self.network = code, parameters

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        x = bottoms[0] if len(bottoms) == 1 else torch.cat([bottom.flatten(1) for bottom in bottoms], 1)
        return small_net(x, *self.network)


def use_small_net(plan: Plan) -> Plan:
    """If the network is small and of such layers only, compute it in one call; and each layer alone, where its blobs or
    its time are asked for.
    """
    if not ops.IS_FAST or not plan.inputs or not _is_float(plan):
        return plan
    try:
        whole = _Writer(plan).write()
        return replace(plan, calls=tuple(map(_alone, plan.calls)), whole=whole)
    except _UnfitError:
        return plan


def _alone(call: Call) -> Call:
    inputs = tuple(dict.fromkeys(call.bottom))
    return replace(call, kernel=_Writer(Plan(inputs, call.top, (call,), {})).write(), bottom=inputs)


def _is_float(plan: Plan) -> bool:
    """Return whether there are parameters, and all of them are float32 on the CPU."""
    parameters = [value for call in plan.calls for value in call.kernel.parameters()]
    return bool(parameters) and all(value.device.type == "cpu" and value.dtype is torch.float32
                                    for value in parameters)


class _UnfitError(Exception):
    """The network has something that SmallNet does not compute."""


def _require(fits: bool) -> None:
    if not fits:
        raise _UnfitError


@dataclass(eq=False)
class _Buffer:
    """Scratch memory for some floats, which is needed from the first step that writes it to the last that reads it."""

    size: int
    begin: int
    end: int = 0
    place: int = 0


class _Place:
    """A number of floats after a buffer's first: an integer, once the buffer has its place."""

    def __init__(self, buffer: _Buffer, offset: int):
        self.buffer, self.offset = buffer, offset

    def __index__(self) -> int:
        return self.buffer.place + self.offset


@dataclass(frozen=True)
class _Blob:
    """Where a value lies: among the inputs of an image, or in a buffer with the channels of a pixel together."""

    channels: int
    h: int
    w: int
    buffer: _Buffer | None  # None: among the inputs, in Caffe's order
    first: int = 0  # where it begins among the inputs

    @property
    def count(self) -> int:
        return self.channels * self.h * self.w

    def at(self, offset: int = 0) -> SupportsIndex:
        """Return the place of its first value, or of one behind it."""
        return self.first + offset if self.buffer is None else _Place(self.buffer, offset)

    @property
    def strides(self) -> tuple[int, int, int]:
        """Distances of channels, rows and columns."""
        if self.buffer is None:
            return self.h * self.w, self.w, 1
        return 1, self.w * self.channels, self.channels


class _Writer:
    """Turns a plan's calls into the steps of one SmallNet."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.readers = plan.readers()
        self.steps: list[ops.Step] = []
        self.buffers: list[_Buffer] = []
        self.blobs: dict[Value, _Blob] = {}
        self.open: dict[Value, list[ops.Convolve | ops.Affine]] = {}  # value -> steps that can take an activation
        self.parameters: list[Tensor] = []
        self.products = 0

    def write(self) -> SmallNet:
        inputs = 0
        for value in self.plan.inputs:
            self.blobs[value] = blob = _Blob(*_sizes(value), None, inputs)
            inputs += blob.count
        for call in self.plan.calls:
            self._write_call(call)
        for i, value in enumerate(self.plan.outputs):
            self._write_output(self.blobs[value], OUTPUT + i)
        _require(sum(buffer.size for buffer in self.buffers) <= MOST_VALUES)
        room = _place_all(self.buffers)
        outputs = [_shape(value) for value in self.plan.outputs]
        code = ops.encode(self.steps, room, self.products, inputs, outputs)
        return SmallNet(code, torch.cat([values.flatten() for values in self.parameters] or [torch.zeros(0)]))

    def _write_call(self, call: Call) -> None:
        _require(len(call.top) == 1)
        size = _sizes(call.top[0])
        if isinstance(call.kernel, Reshaped):
            made = self._reshaped(call.bottom[0], size)
        else:
            if not isinstance(call.kernel, LayerCall):
                raise _UnfitError
            layer: Layer = call.kernel.layer
            write = _WRITERS.get(type(layer))
            made = self._affine(layer, call) if write is None else write(self, layer, call, size)
        self.blobs[call.top[0]] = made

    # --- memory ---------------------------------------------------------------------------------------------------

    def _buffer(self, size: int) -> _Buffer:
        self.buffers.append(_Buffer(size, begin=len(self.steps)))
        return self.buffers[-1]

    def _blob(self, size: Sequence[int]) -> _Blob:
        channels, h, w = size
        return _Blob(channels, h, w, self._buffer(math.prod(size)))

    def _add(self, step: ops.Step) -> None:
        for each in fields(step):
            if isinstance(place := getattr(step, each.name), _Place):
                place.buffer.end = len(self.steps)
        self.steps.append(step)

    def _inside(self, value: Value) -> _Blob:
        """Return a value's blob after moving it to scratch memory if it is the input."""
        if self.blobs[value].buffer is None:
            self.blobs[value] = self._padded(self.blobs[value], (0, 0))
        return self.blobs[value]

    def _padded(self, blob: _Blob, pad: Sequence[int]) -> _Blob:
        """Copy a blob to scratch memory, with zeros around it."""
        made = self._blob((blob.channels, blob.h + 2 * pad[0], blob.w + 2 * pad[1]))
        start = made.at(pad[0] * made.strides[1] + pad[1] * made.strides[2])
        self._copy(blob, SCRATCH, start, made.strides, cleared=(made.at(), made.count) if any(pad) else (0, 0))
        return made

    def _copy(self, blob: _Blob, space: int, target: SupportsIndex, strides: Sequence[int],
              cleared: tuple[SupportsIndex, int] = (0, 0)) -> None:
        """Copy to memory with these distances of channels, rows and columns. The longest axis is the innermost loop."""
        axes = sorted(zip((blob.channels, blob.h, blob.w), blob.strides, strides, strict=True),
                      key=lambda axis: (axis[0], -axis[1]))
        size, from_stride, to_stride = zip(*axes, strict=True)
        self._add(ops.Copy(INPUT if blob.buffer is None else SCRATCH, blob.at(), space, target, size, from_stride,
                           to_stride, *cleared))

    def _write_output(self, blob: _Blob, space: int) -> None:
        self._copy(blob, space, 0, (blob.h * blob.w, blob.w, 1))

    def _pack(self, values: Tensor) -> int:
        """Store parameters; returns their place."""
        place = sum(each.numel() for each in self.parameters)
        self.parameters.append(values.detach())
        return place

    # --- layers ---------------------------------------------------------------------------------------------------

    def _convolution(self, layer: Convolution, call: Call, size: Sequence[int]) -> _Blob:
        bottom = self.blobs[call.bottom[0]]
        _require(layer.is_plain and len(call.bottom) == 1 and len(layer.kernel) == 2 and layer.channel_axis == 1
                 and all(layer.dilation) and not any(layer.sticking_out((bottom.h, bottom.w))))
        blob = self._padded(bottom, layer.pad) if any(layer.pad) else self._inside(call.bottom[0])
        made = self._blob(size)
        weight, *bias = layer.blobs()
        self._convolve(call.top[0], blob, made, weight, bias, layer.group, layer.stride, layer.dilation)
        return made

    def _inner_product(self, layer: InnerProduct, call: Call, size: Sequence[int]) -> _Blob:
        _require(layer.lead == 1 and len(call.bottom) == 1)
        blob = self._inside(call.bottom[0])
        made = self._blob(size)
        weight, *bias = layer.blobs()
        weight = (weight.t() if layer.transpose else weight).reshape(-1, blob.channels, blob.h, blob.w)
        self._convolve(call.top[0], blob, made, weight, bias, 1, (1, 1), (1, 1))
        return made

    def _convolve(self, top: Value, blob: _Blob, made: _Blob, weight: Tensor, bias: Sequence[Tensor], group: int,
                  stride: Sequence[int], dilation: Sequence[int]) -> None:
        outputs, channels, *kernel = weight.shape
        outputs //= group
        biases = bias[0] if bias else weight.new_zeros(group * outputs)
        self.products += made.h * made.w * group * (outputs + -outputs % BLOCK) * math.prod(weight.shape[1:])
        _require(self.products <= MOST_PRODUCTS)
        self.open[top] = []
        for g in range(group):
            part = slice(g * outputs, (g + 1) * outputs)
            step = ops.Convolve(
                blob.at(g * channels), made.at(g * outputs), channels, blob.strides[1],
                blob.channels, outputs, made.channels, (made.h, made.w), kernel, stride, dilation,
                self._pack(ops.pack_weight(weight[part])), self._pack(ops.pack_channels(biases[part])))
            self.open[top].append(step)
            self._add(step)

    def _pooling(self, layer: Pooling, call: Call, size: Sequence[int]) -> _Blob:
        windows = layer.windows
        blob = self._inside(call.bottom[0])
        _require(layer.method in ("MAX", "AVE") and layer.top_count == 1)
        starts = ((n - 1) * s - p for n, s, p in zip(size[1:], windows.stride, windows.pad, strict=True))
        _require(all(start < extent for start, extent in zip(starts, (blob.h, blob.w), strict=True)))
        _require(layer.method == "AVE" or windows.are_torchs)
        made = self._blob(size)
        self._add(ops.Pool(blob.at(), made.at(), blob.channels, (blob.h, blob.w), size[1:], windows.kernel,
                           windows.stride, windows.pad, layer.method == "AVE"))
        return made

    def _relu(self, layer: ReLU, call: Call, size: Sequence[int]) -> _Blob:
        slope = torch.full((size[0],), layer.negative_slope)
        return self._activate(call, size, slope if layer.negative_slope else None)

    def _prelu(self, layer: PReLU, call: Call, size: Sequence[int]) -> _Blob:
        slope, = layer.blobs()
        return self._activate(call, size, slope.expand(size[0]))

    def _activate(self, call: Call, size: Sequence[int], slope: Tensor | None) -> _Blob:
        """Apply PReLU with these slopes, or ReLU without them: in the steps that compute the bottom, if nothing else
        reads it."""
        value = call.bottom[0]
        steps = self.open.pop(value, []) if self.readers[value] == 1 else []
        made = self.blobs[value]
        if not steps:
            blob = self._inside(value)
            made = self._blob(size)
            steps = [ops.Affine(blob.at(), made.at(), blob.h * blob.w, blob.channels)]
            self._add(steps[0])
        first = 0
        for step in steps:
            count = step.outputs if isinstance(step, ops.Convolve) else step.channels
            step.activation = RELU if slope is None else self._pack(ops.pack_channels(slope[first : first + count]))
            first += count
        return made

    def _power(self, layer: Power, call: Call, size: Sequence[int]) -> _Blob:
        _require(layer.power == 1 and layer.scale != 0)
        return self._scaled(call, size, torch.full((size[0],), layer.scale), torch.full((size[0],), layer.shift))

    def _affine(self, layer: Layer, call: Call) -> _Blob:
        """Any other layer, if it multiplies and adds per channel."""
        node = Node(layer, call.bottom, call.top)
        affine = channel_affine(layer, node, call.bottom[0].shape) if call.bottom else None
        if affine is None:
            raise _UnfitError
        return self._scaled(call, _sizes(call.top[0]), affine[0].float(), affine[1].float())

    def _scaled(self, call: Call, size: Sequence[int], scale: Tensor, shift: Tensor) -> _Blob:
        blob = self._inside(call.bottom[0])
        made = self._blob(size)
        step = ops.Affine(blob.at(), made.at(), blob.h * blob.w, blob.channels,
                          self._pack(ops.pack_channels(scale)), self._pack(ops.pack_channels(shift)))
        self.open[call.top[0]] = [step]
        self._add(step)
        return made

    def _eltwise(self, layer: Eltwise, call: Call, size: Sequence[int]) -> _Blob:
        _require(not layer.in_place)
        terms = [self._inside(value) for value in call.bottom]
        scales = layer.coeff if layer.operation == "SUM" else (1.0,) * len(terms)
        made = terms[0]
        for i, term in enumerate(terms[1:], start=1):
            before, made = made, self._blob(size)
            scale = self._pack(torch.tensor([scales[0] if i == 1 else 1.0, scales[i]]))
            self._add(ops.Combine(before.at(), term.at(), made.at(), made.count,
                                  ("SUM", "PROD", "MAX").index(layer.operation), scale))
        return made

    def _softmax(self, layer: Softmax, call: Call, size: Sequence[int]) -> _Blob:
        _require(layer.along == 1)
        blob = self._inside(call.bottom[0])
        made = self._blob(size)
        self._add(ops.Softmax(blob.at(), made.at(), blob.h * blob.w, blob.channels))
        return made

    def _concat(self, layer: Concat, call: Call, size: Sequence[int]) -> _Blob:
        _require(layer.along == 1)
        made = self._blob(size)
        first = 0
        for value in call.bottom:
            self._copy(self.blobs[value], SCRATCH, made.at(first), made.strides)
            first += self.blobs[value].channels
        return made

    def _reshape(self, layer: Layer, call: Call, size: Sequence[int]) -> _Blob:
        return self._reshaped(call.bottom[0], size)

    def _reshaped(self, value: Value, size: Sequence[int]) -> _Blob:
        """Return the same values, in Caffe's order, as another shape that has one pixel, or as many as before."""
        blob = self.blobs[value]
        if (blob.channels, blob.h, blob.w) == tuple(size):
            return blob
        _require(size[1:] == (1, 1))
        made = self._blob(size)
        self._copy(blob, SCRATCH, made.at(), (blob.h * blob.w, blob.w, 1))
        return made


_WRITERS: dict[type[Layer], Callable[..., _Blob]] = {
    Convolution: _Writer._convolution, InnerProduct: _Writer._inner_product, Pooling: _Writer._pooling,
    ReLU: _Writer._relu, PReLU: _Writer._prelu, Power: _Writer._power, Eltwise: _Writer._eltwise,
    Softmax: _Writer._softmax, Concat: _Writer._concat, Flatten: _Writer._reshape, Reshape: _Writer._reshape}


def _shape(value: Value) -> list[int]:
    """Return a value's shape without the batch."""
    batch, *rest = value.shape or [0]
    _require(batch == BATCH and len(rest) <= 3)
    sizes = [dim for dim in rest if isinstance(dim, int) and dim > 0]
    _require(len(sizes) == len(rest))
    return sizes


def _sizes(value: Value) -> tuple[int, int, int]:
    """Return a value's channels, height and width."""
    channels, h, w, *_ = [*_shape(value), 1, 1, 1]
    return channels, h, w


def _place_all(buffers: Sequence[_Buffer]) -> int:
    """Give buffers that are needed at the same time places of their own; returns how many floats that takes.

    Each gets the first place that is free from its first step to its last. Places are multiples of a cache line.
    """
    placed: list[_Buffer] = []
    for buffer in buffers:
        rivals = sorted((each for each in placed if each.end >= buffer.begin), key=lambda each: each.place)
        for rival in rivals:
            if buffer.place + buffer.size <= rival.place:
                break
            buffer.place = max(buffer.place, _line(rival.place + rival.size))
        placed.append(buffer)
    return max((buffer.place + buffer.size for buffer in buffers), default=0)


def _line(place: int) -> int:
    return place + -place % BLOCK
