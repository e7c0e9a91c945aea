"""The part of pycaffe that layers written in Python use: ``caffe.Layer``, and blobs with data and diff.

Source: python_layer.hpp and python/caffe/_caffe.cpp of RMPE@5188c23.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np

TRAIN, TEST = 0, 1


class Phase(IntEnum):
    """The phase as a layer gets it: caffe.TRAIN or caffe.TEST, with its name as text.

    Fast R-CNN's fork has it so (python/caffe/_caffe.cpp:207 of rbgirshick/caffe-fast-rcnn@4115385), and its layers look
    settings up by ``str(self.phase)``. Differs: BVLC's is an int, with 0 or 1 as text.
    """

    TRAIN = TRAIN
    TEST = TEST

    def __str__(self) -> str:
        return self.name


class Blob:
    """A blob as pycaffe shows it: ``data`` and ``diff``, NumPy arrays of one shape; both zero until written."""

    def __init__(self, shape: tuple[int, ...] = (), dtype: np.dtype | type = np.float32):
        self._shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self._data: np.ndarray | None = None
        self._diff: np.ndarray | None = None

    def reshape(self, *shape: int) -> None:
        """Change the shape; values are kept only if it is the same."""
        if tuple(shape) != self._shape:
            Blob.__init__(self, shape, self.dtype)

    @property
    def data(self) -> np.ndarray:
        if self._data is None:
            self._data = np.zeros(self._shape, self.dtype)
        return self._data

    @property
    def diff(self) -> np.ndarray:
        if self._diff is None:
            self._diff = np.zeros(self._shape, self.dtype)
        return self._diff

    def hold(self, data: np.ndarray | None = None, diff: np.ndarray | None = None) -> None:
        """Use these float32 arrays, in the blob's shape, without a copy; a missing diff becomes zero."""
        if data is not None:
            self._shape, self.dtype, self._data = data.shape, data.dtype, data
        self._diff = diff

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def _legacy(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise ValueError(f"num, channels, height and width need a shape of at most 4 axes, not {self.shape}")
        return self.shape[axis] if axis < len(self.shape) else 1

    num = property(lambda self: self._legacy(0))
    channels = property(lambda self: self._legacy(1))
    height = property(lambda self: self._legacy(2))
    width = property(lambda self: self._legacy(3))


class BlobVec(list):
    """A layer's parameters; ``self.blobs.add_blob(2, 3)`` in setup adds one."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob of zeros."""
        self.append(Blob(shape))


class Layer:
    """Base class of layers written in Python; the user overrides setup, reshape, forward and backward."""

    param_str = ""
    param_str_ = ""  # its name in the Caffe of 2015, which py-faster-rcnn and others contain
    phase = Phase.TEST

    def __init__(self, param: object = None):
        self.blobs = BlobVec()

    @property
    def type(self) -> str:
        return "Python"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Called once, before the first reshape."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Set each top's shape: ``top[0].reshape(*bottom[0].data.shape)``."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Write each ``top[i].data[...]``."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Write ``bottom[i].diff[...]`` if propagate_down[i]."""


@contextmanager
def caffe_module() -> Iterator[None]:
    """Make ``import caffe`` find a module with our Layer; a module that already has it stays in place."""
    before = sys.modules.get("caffe")
    if before is not None and getattr(before, "Layer", None) is Layer:
        yield
        return
    module: Any = ModuleType("caffe", "What layers written in Python need of pycaffe.")
    module.Layer, module.TRAIN, module.TEST = Layer, TRAIN, TEST
    sys.modules["caffe"] = module
    try:
        yield
    finally:
        if before is None:
            del sys.modules["caffe"]
        else:
            sys.modules["caffe"] = before
