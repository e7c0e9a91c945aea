"""Base classes of Convolution, Deconvolution and Im2col. Source: base_conv_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from .base import Count, Layer, Shape, count, shape_text


class Windowed(Layer):
    """Reads kernel, stride, pad and dilation per spatial axis from the first of `params`."""

    params: tuple[str, ...] = ("convolution_param",)
    dilation_field = "dilation"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get(self.params[0])
        axis = param.axis if "axis" in param.descriptor.fields else 1
        self.channel_axis = self.axis(axis, len(bottom[0]))
        dims = len(bottom[0]) - self.channel_axis - 1
        self.kernel = self._per_axis("kernel_size", dims, None, "kernel_h", "kernel_w")
        self.stride = self._per_axis("stride", dims, 1, "stride_h", "stride_w")
        self.pad = self._per_axis("pad", dims, 0, "pad_h", "pad_w")
        dilation = self.dilation_field
        self.dilation = self._per_axis(dilation, dims, 1, f"{dilation}_h", f"{dilation}_w")
        for name, values in (("kernel_size", self.kernel), ("stride", self.stride)):
            if 0 in values:
                raise self.spec.error(f"{name} must not be 0")

    def _per_axis(self, name: str, dims: int, default: int | None, *hw: str) -> tuple[int, ...]:
        """Return one value per spatial axis, from `name` (given once or per axis) or from its _h and _w fields."""
        param = self.spec.get(self.params[0])
        value = getattr(param, name)
        given = list(value) if isinstance(value, list) else [value] * param.has(name)  # older Caffes take one
        if hw and any(map(param.has, hw)):
            if given or dims != 2 or not (all(map(param.has, hw)) or default == 0):
                raise self.spec.error(f"give {name}, or {' and '.join(hw)} for two spatial axes; not both")
            return tuple(getattr(param, n) for n in hw)
        if not given and default is not None:
            return (default,) * dims
        if len(given) not in (1, dims):
            raise self.spec.error(f"{name} is given {len(given)} times for {dims} spatial axes; give it once, or "
                                  "once per axis")
        return tuple(given) * dims if len(given) == 1 else tuple(given)

    def spatial(self, bottom: Shape) -> tuple[int, ...]:
        """Return the number of window positions per spatial axis. As in C, -1 / 2 is 0, so a window that exceeds the
        padded bottom by less than a stride still has one position."""
        sizes = tuple(
            int((size + 2 * p - (d * (k - 1) + 1)) / s) + 1
            for size, k, s, p, d in zip(bottom[self.channel_axis + 1 :], self.kernel, self.stride, self.pad,
                                        self.dilation, strict=True)
        )
        if any(size < 1 for size in sizes):
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom)}")
        return sizes

    def sticking_out(self, size: Sequence[int]) -> list[int]:
        """Return, per axis, by how much a single window exceeds the padded bottom."""
        return [max(0, d * (k - 1) + 1 - extent - 2 * p)
                for extent, k, p, d in zip(size, self.kernel, self.pad, self.dilation, strict=True)]

    def windows(self, x: Tensor) -> Tensor:
        """Return every window of the zero-padded bottom: (N, C, spatial) -> (N, C, grid, kernel)."""
        more = self.sticking_out(x.shape[2:])
        self.check_padded(tuple(x.shape), [n + 2 * p + q for n, p, q in zip(x.shape[2:], self.pad, more, strict=True)])
        x = F.pad(x, [m for p, q in zip(reversed(self.pad), reversed(more), strict=True) for m in (p, p + q)])
        for axis, (k, s, d) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            x = x.unfold(2 + axis, d * (k - 1) + 1, s)
            x = x[..., ::d] if d else x.expand(*x.shape[:-1], k)
        return x

    def check_same(self, bottom: tuple[Shape, ...]) -> None:
        """Raise LayerError unless all bottoms have the same shape."""
        if any(shape != bottom[0] for shape in bottom):
            raise self.spec.error("its bottoms differ in shape: " + ", ".join(map(shape_text, bottom)))


class BaseConvolution(Windowed):
    """Base of Convolution and Deconvolution: several bottoms share one set of weights."""

    bottoms: Count = (1, None)
    tops: Count = (1, None)
    equal_counts = True
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get(self.params[0])
        self.group, self.num_output = param.group, param.num_output
        self.channels = bottom[0][self.channel_axis]
        self.bias_term = param.bias_term
        if self.num_output < 1:
            raise self.spec.error("num_output must be given, and positive")
        if self.group < 1 or self.channels % self.group or self.num_output % self.group:
            raise self.spec.error(f"{self.channels} channels and num_output {self.num_output} must be multiples of "
                                  f"group {self.group}")
        self.declare("weight", self.weight_shape(), param.weight_filler)
        if self.bias_term:
            self.declare("bias", (self.num_output,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check_same(bottom)
        if len(bottom[0]) != self.channel_axis + 1 + len(self.kernel) or bottom[0][self.channel_axis] != self.channels:
            raise self.spec.error(f"was set up for {self.channels} channels and {len(self.kernel)} spatial axes; its "
                                  f"bottom is {shape_text(bottom[0])}")
        lead = bottom[0][: self.channel_axis]
        self.is_batch = self.channel_axis == 1 and count(bottom[0]) > 0
        return [(*lead, self.num_output, *self.out_spatial(bottom[0]))] * len(bottom)

    def weight_shape(self) -> Shape:
        raise NotImplementedError

    def out_spatial(self, bottom: Shape) -> tuple[int, ...]:
        raise NotImplementedError

    def apply_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        blobs = self.blobs()
        weight, bias = blobs if len(blobs) == 2 else (blobs[0], None)
        if self.is_batch:
            if len(bottoms) == 1:  # a small network notices the time of a loop over one
                return self.apply_one(bottoms[0], weight, bias)
            return tuple([self.apply_one(x, weight, bias) for x in bottoms])
        tops = []
        for x in bottoms:
            lead = x.shape[: self.channel_axis]  # axes before the channels are batch axes
            if x.numel():
                y = self.apply_one(x.reshape(math.prod(lead), *x.shape[self.channel_axis :]), weight, bias)
            else:  # torch rejects some empty shapes; every window sees only padding
                y = x.new_zeros(math.prod(lead), self.num_output, *self.out_spatial(x.shape))
                y = y if bias is None else y + bias.view(-1, *[1] * len(self.kernel))
            tops.append(y.reshape(*lead, *y.shape[1:]))
        return tuple(tops)
