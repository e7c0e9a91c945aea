"""``Transformer``: caffe.io's conversion between images and network inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rmpe_legacy.errors import InputError

from .skimage_resize import resize_image


class Transformer:
    """Converts images (H, W, K) to inputs (K, h, w) and back, with options per input.

    inputs: name of an input -> its shape, (N, K, h, w).

    ``preprocess`` does, in this order and each only where it is set: resize to (h, w), transpose, channel_swap, times
    raw_scale, minus mean, times input_scale. ``deprocess`` undoes all but the resize, in reverse.

    As published, scales and mean are applied in place: where the data is float32, has the input's size and no
    channel_swap is set, ``preprocess`` changes the caller's array. Pass a copy to keep it.

    Source: caffe/io.py:98-275 of RMPE@5188c23.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float | np.ndarray] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float | np.ndarray] = {}

    def preprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Convert an image (H, W, K) for the input `in_`: float32, (K, h, w) with transpose (2, 0, 1)."""
        self._check_input(in_)
        out = np.asarray(data).astype(np.float32, copy=False)
        size = self.inputs[in_][2:]
        if out.shape[:2] != size:
            out = resize_image(out, size)
        if not out.flags.writeable:
            out = out.copy()
        if (order := self.transpose.get(in_)) is not None:
            out = self._transposed(in_, out, order)
        if (order := self.channel_swap.get(in_)) is not None:
            out = self._swapped(in_, out, order)
        if (scale := self.raw_scale.get(in_)) is not None:
            out *= self._fitting(in_, "raw_scale", scale, out)
        if (mean := self.mean.get(in_)) is not None:
            out -= self._fitting(in_, "mean", mean, out)
        if (scale := self.input_scale.get(in_)) is not None:
            out *= self._fitting(in_, "input_scale", scale, out)
        return out

    def deprocess(self, in_: str, data: np.ndarray) -> np.ndarray:
        """Convert an input (1, K, h, w) or (K, h, w), floats, back to an image (h, w, K); returns a new array.

        As published, axes of size 1 are dropped first.

        Raises:
            InputError: The input is not of floats; or it has one channel, and a transpose or a mean per channel is set.
        """
        self._check_input(in_)
        out = np.array(data).squeeze()
        if out.dtype.kind != "f":
            raise InputError(f"input {in_!r} is given as {out.dtype}; deprocess takes floats")
        if (scale := self.input_scale.get(in_)) is not None:
            out /= self._fitting(in_, "input_scale", scale, out)
        if (mean := self.mean.get(in_)) is not None:
            out += self._fitting(in_, "mean", mean, out)
        if (scale := self.raw_scale.get(in_)) is not None:
            out /= self._fitting(in_, "raw_scale", scale, out)
        if (order := self.channel_swap.get(in_)) is not None:
            out = self._swapped(in_, out, np.argsort(order))
        if (order := self.transpose.get(in_)) is not None:
            out = self._transposed(in_, out, np.argsort(order))
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the image's axes; (2, 0, 1) for Caffe's channels first.

        Raises:
            InputError: `order` is not a permutation of the axes.
        """
        self._check_input(in_)
        axes = len(self.inputs[in_]) - 1
        if len(order) != axes:
            raise InputError(f"transpose {tuple(order)} of input {in_!r}: name each of its {axes} axes once")
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels (the first axis after the transpose); (2, 1, 0) turns RGB into BGR.

        Raises:
            InputError: `order` has another number of channels than the input.
        """
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise InputError(f"channel_swap {tuple(order)} of input {in_!r}: name {self.inputs[in_][1]} channels, one "
                             "for each of the input's")
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied before the mean; 255 for networks with inputs from 0 to 255."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract: one value per channel (K,), or a whole input (K, h, w); (h, w) for one channel.

        Raises:
            InputError: The mean has another shape.
        """
        self._check_input(in_)
        mean = np.asarray(mean)
        shape = self.inputs[in_][1:]
        if mean.ndim == 1:
            if mean.shape[0] != shape[0]:
                raise InputError(f"the mean of input {in_!r} has {mean.shape[0]} channels; give {shape[0]}")
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.ndim not in (2, 3) or (1,) * (3 - mean.ndim) + mean.shape != shape:
            raise InputError(f"the mean of input {in_!r} has shape {mean.shape}; give {shape}, or one value a channel")
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor applied after the mean."""
        self._check_input(in_)
        self.input_scale[in_] = scale

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise InputError(f"no input {in_!r}; the inputs are {', '.join(map(repr, self.inputs))}")

    @staticmethod
    def _transposed(in_: str, values: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
        if sorted(axis % values.ndim for axis in order) != list(range(values.ndim)):
            raise InputError(f"input {in_!r}: {values.ndim} axes (shape {values.shape}) cannot be transposed as "
                             f"{tuple(map(int, order))}")
        return values.transpose(tuple(order))

    @staticmethod
    def _swapped(in_: str, values: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
        if values.ndim < 3 or not all(-values.shape[0] <= i < values.shape[0] for i in order):
            raise InputError(f"input {in_!r}: shape {values.shape} does not have the channels {tuple(map(int, order))}")
        return values[list(order), :, :]

    @staticmethod
    def _fitting(in_: str, what: str, operand: float | np.ndarray, values: np.ndarray) -> float | np.ndarray:
        """The operand, once it is sure that it does not stretch the values' shape. Numbers are rounded to float32."""
        try:
            fits = np.broadcast_shapes(np.shape(operand), values.shape) == values.shape
        except ValueError:
            fits = False
        if not fits:
            raise InputError(f"input {in_!r}: {what} of shape {np.shape(operand)} does not fit values of shape "
                             f"{values.shape}")
        return float(operand) if np.ndim(operand) == 0 else operand
