"""``Blob``: ``data`` and ``diff`` as NumPy views of the network's tensors.

Source: python/caffe/_caffe.cpp, syncedmem.cpp and blob.cpp of RMPE@5188c23.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.layers import pycaffe_layer
from rmpe_legacy.caffe.layers.base import MAX_AXES, MAX_COUNT, shape_text

from . import settings
from .errors import ReadOnlyError, RuntimeRmpeError, whole_number

Shape = tuple[int, ...]


class Memory:
    """The values of a blob's data or diff: a tensor, and the array of the same values that a script may hold.

    An array that a script holds shows each new result, as in Caffe; if no array is held, a result is stored without a
    copy. On a GPU the array is a copy on the host: what a script writes there goes to the GPU before the next layer
    reads it, and an array that is still held is updated when the script accesses the blob again.
    """

    __slots__ = ("_array", "_host", "fill", "shape", "tensor")

    def __init__(self, shape: Shape, fill: float = 0.0):
        self.shape = shape
        self.fill = fill  # what it holds until something is written
        self.tensor: Tensor | None = None
        self._host: Tensor | None = None  # where `tensor` is on a GPU: the array's memory, if newer than the tensor
        self._array: weakref.ref[np.ndarray] | None = None

    def reshape(self, shape: Shape) -> None:
        """Change the shape. Values are kept in memory order, as many as fit; new ones are `fill`."""
        if shape == self.shape:
            return
        if self.tensor is not None:
            if self._host is not None:
                self.tensor, self._host = self._host.to(self.tensor.device), None
            kept = self.tensor.reshape(-1)[: math.prod(shape)]
            if kept.numel() < math.prod(shape):
                fresh = self.tensor.new_full((math.prod(shape),), self.fill)
                fresh[: kept.numel()] = kept
                kept = fresh
            self.tensor = kept.view(shape)
        self.shape, self._array = shape, None

    def read(self) -> Tensor:
        """Return the values, float32 in the blob's shape, on the device that networks compute on."""
        device = settings.current.device()
        if self._host is not None:
            self.tensor, self._host = self._host.to(device), None
        elif self.tensor is None:
            self.tensor = torch.full(self.shape, self.fill, device=device)
        elif self.tensor.device != device:
            self.tensor = self.tensor.to(device)
        return self.tensor

    def write(self, value: Tensor) -> None:
        """Store values; the memory takes their shape."""
        held = None if self._array is None else self._array()
        self.shape = tuple(value.shape)
        if held is None or held.shape != self.shape or value.is_cuda:
            self.tensor, self._host = value, None
        elif held.ctypes.data != value.data_ptr():
            self.tensor = torch.from_numpy(held)
            self.tensor.copy_(value)

    def array(self) -> np.ndarray:
        """Return the values as a writable float32 array in the blob's shape."""
        held = None if self._array is None else self._array()
        tensor = self.read()
        if not tensor.is_cuda:
            if held is not None and held.shape == self.shape and held.ctypes.data == tensor.data_ptr():
                return held
            if not tensor.is_contiguous():
                tensor = self.tensor = tensor.contiguous()
            array = tensor.numpy()
        elif held is not None and held.shape == self.shape:
            self._host = torch.from_numpy(held)
            self._host.copy_(tensor)
            return held
        else:
            self._host = tensor.cpu().contiguous()
            array = self._host.numpy()
        self._array = weakref.ref(array)
        return array


class ParameterMemory(Memory):
    """The memory of a parameter: its tensor belongs to the module."""

    __slots__ = ("_diff", "_parameter")

    def __init__(self, parameter: nn.Parameter, shape: Shape, diff: bool):
        super().__init__(shape)
        self._parameter, self._diff = parameter, diff

    def read(self) -> Tensor:
        self.push()
        self.tensor = self._own().view(self.shape)
        return self.tensor

    def push(self) -> None:
        """Copy values that a script wrote into the host's copy to the module's parameter."""
        if self._host is not None:
            target = self._own()
            target.copy_(self._host.view(target.shape))
            self._host = None

    def _own(self) -> Tensor:
        """Return the module's tensor; a gradient that it does not have yet is made, of zeros."""
        if not self._diff:
            return self._parameter.data
        if self._parameter.grad is None:
            self._parameter.grad = torch.zeros_like(self._parameter)
        return self._parameter.grad


class Blob(pycaffe_layer.Blob):
    """One blob of a network. Write into its arrays: ``blob.data[...] = values``."""

    def __init__(self, shape: Sequence[int] = (), name: str = "", loss_weight: float = 0.0):
        """loss_weight: the initial value of a loss's diff, as in Caffe."""
        self.name = name
        self.data_memory = Memory(tuple(shape))
        self.diff_memory = Memory(tuple(shape), loss_weight)

    @property
    def shape(self) -> Shape:
        return self.data_memory.shape

    @property
    def data(self) -> np.ndarray:
        """The values, float32."""
        return self.data_memory.array()

    @data.setter
    def data(self, value: object) -> None:
        raise ReadOnlyError(f"{self}: its data cannot be replaced; write into it: blob.data[...] = values")

    @property
    def diff(self) -> np.ndarray:
        """The gradients, float32, in the shape of the values."""
        self.diff_memory.reshape(self.shape)
        return self.diff_memory.array()

    @diff.setter
    def diff(self, value: object) -> None:
        raise ReadOnlyError(f"{self}: its diff cannot be replaced; write into it: blob.diff[...] = values")

    def reshape(self, *shape: int, **named: Any) -> None:
        """Change the shape. Values are kept in memory order, as many as fit.

        Raises:
            ArgumentError: A size is not an integer.
            RuntimeRmpeError: Caffe's blobs cannot have this shape, or sizes are given by name.
        """
        if named:
            raise RuntimeRmpeError(f"{self}: reshape takes its sizes without names; {', '.join(named)} is given")
        sizes = tuple(whole_number(f"{self}: a size of its new shape", size) for size in shape)
        if len(sizes) > MAX_AXES or min(sizes, default=0) < 0 or math.prod(sizes) > MAX_COUNT:
            raise RuntimeRmpeError(f"{self}: cannot become {shape_text(sizes)}; a blob has up to {MAX_COUNT} values "
                                   f"and {MAX_AXES} axes")
        self.data_memory.reshape(sizes)

    def diff_tensor(self) -> Tensor:
        """The gradients as a tensor in the shape of the values."""
        self.diff_memory.reshape(self.shape)
        return self.diff_memory.read()

    def __str__(self) -> str:
        return f"blob {self.name!r}" if self.name else "a blob"


class ParameterBlob(Blob):
    """One parameter of a layer, in the shape that the layer declares."""

    def __init__(self, parameter: nn.Parameter, shape: Shape, name: str):
        self.name = name
        self.data_memory = ParameterMemory(parameter, shape, diff=False)
        self.diff_memory = ParameterMemory(parameter, shape, diff=True)

    def reshape(self, *shape: int, **named: Any) -> None:
        """Do nothing if the shape is the parameter's own; otherwise refuse.

        Differs: Caffe reshapes the memory, and the layer fails or misreads it in the next forward.

        Raises:
            RuntimeRmpeError: The shape is another one.
        """
        if named or tuple(shape) != self.shape:
            raise RuntimeRmpeError(f"{self}: a parameter keeps the shape {shape_text(self.shape)} that its layer "
                                   "gives it; change the prototxt")

    def hold(self, data: np.ndarray | None = None, diff: np.ndarray | None = None) -> None:
        """Do nothing: a Python layer sees its parameters themselves, in their own shapes, not copies."""
