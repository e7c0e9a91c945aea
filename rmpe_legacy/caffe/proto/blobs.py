"""Trained weights in memory: blobs with their values as a file stores them, and the layers they belong to."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np

_PIECE = 1 << 20  # values that are copied before their pages are released


@dataclass(frozen=True)
class StoredBlob:
    """One parameter as stored: its values flat (a view of the file where that is possible) and its shape."""

    shape: tuple[int, ...]
    data: np.ndarray  # (count,), float32, float64 or float16
    legacy: bool = False  # four dimensions of the time before BlobShape
    diff: np.ndarray | None = None  # (count,), if a snapshot stores the last update too (snapshot_diff)
    mapped: mmap.mmap | None = None  # the map of the file that `data` is in, if `data` came from a tensor

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether Caffe would load this into a blob of `shape` (blob.cpp, ShapeEquals).

        A legacy shape is compared from its end: (1, 1, 1, N) fits (N,).
        """
        if self.legacy:
            return len(shape) <= 4 and (1,) * (4 - len(shape)) + tuple(shape) == self.shape
        return tuple(shape) == self.shape

    def copy_to(self, values: np.ndarray) -> None:
        """Copy the values into a float32 array of the same size, releasing mapped pages of the file piece by piece."""
        for begin in range(0, self.data.size, _PIECE):
            piece = self.data[begin:begin + _PIECE]
            np.copyto(values[begin:begin + _PIECE], piece, casting="same_kind")
            _release(piece, self.mapped)


def _release(view: np.ndarray, mapped: mmap.mmap | None) -> None:
    """Let go of the file's pages in memory behind a view of it; it can still be read again."""
    if view.nbytes < mmap.PAGESIZE:  # it fills no page
        return
    owner: object = view
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if mapped is None and isinstance(owner, memoryview) and isinstance(owner.obj, mmap.mmap):
        mapped = owner.obj
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        begin = view.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        if not 0 <= begin <= len(mapped) - view.nbytes:
            return  # a copy, for example of unaligned values
        first = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
        size = begin + view.nbytes - first
        if size >= mmap.PAGESIZE:
            mapped.madvise(mmap.MADV_DONTNEED, first, size)


@dataclass(frozen=True)
class TrainedLayer:
    """One layer of a weights file."""

    name: str
    type: str
    blobs: tuple[StoredBlob | None, ...]  # None: HDF5 leaves out what another layer owns
