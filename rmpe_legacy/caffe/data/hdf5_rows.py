"""The rows of a list of HDF5 files, as HDF5Data reads them.

Source: hdf5_data_layer.cpp:25-166 and util/hdf5.cpp:10-83 of RMPE@5188c23. BVLC loads the next file one row earlier,
which gives the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.hdf5 import Dataset, open_hdf5

from .caffe_random import LibraryRandom
from .opencv_image import read_lines


def read_datasets(path: str | Path, names: Sequence[str]) -> list[np.ndarray]:
    """Read datasets of one file as float32, (rows, ...), all with the same number of rows. Integers are converted.

    Raises:
        FileError: The file cannot be read, or lacks a dataset, or the numbers of rows differ.
    """
    root = open_hdf5(path)
    found = [root.get(name) for name in names]
    for name, dataset in zip(names, found, strict=True):
        if not isinstance(dataset, Dataset):
            raise FileError(f"{path}: no dataset {name!r}; it has {', '.join(map(repr, root)) or 'none'}")
        if dataset.shape == ():
            raise FileError(f"{path}: dataset {name!r} is a single value; rows are expected")
    values = [np.array(dataset.read(), np.float32) for dataset in found if isinstance(dataset, Dataset)]
    for name, value in zip(names, values, strict=True):
        if len(value) != len(values[0]):
            raise FileError(f"{path}: dataset {name!r} has {len(value)} rows, {names[0]!r} has {len(values[0])}; they "
                            "must agree")
    if not len(values[0]):
        raise FileError(f"{path}: dataset {names[0]!r} has no rows")
    return values


class RowReader:
    """The rows of the files in a list, repeated endlessly."""

    def __init__(self, source: str | Path, names: Sequence[str], shuffle: bool):
        """source: a text file with the files' names, separated by white space."""
        self.source, self.names, self.shuffle = source, tuple(names), shuffle
        self.files = [word for line in read_lines(source, "a list of HDF5 files") for word in line.split()]
        if not self.files:
            raise FileError(f"{source}: names no HDF5 files")
        # Differs: Caffe's layers share one rand() that is never seeded; here each has its own, with the same start.
        self._random = LibraryRandom()
        self._order = list(range(len(self.files)))
        self._file = self._row = 0
        self._mix(self._order)
        self._rows: list[int] = []  # of the current file, in the order in which they are taken
        self.shapes: list[tuple[int, ...]] = []  # of each dataset, without the rows
        self._load()

    def position(self) -> dict[str, Any]:
        """The next row, for `seek`, as JSON-compatible values."""
        return {"file": self._file, "row": self._row, "order": list(self._order), "random": self._random.state(),
                "rows": list(self._rows) if self.shuffle else None}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Continue at a `position`.

        Raises:
            FileError: The files have changed.
            KeyError, TypeError, ValueError: The argument is not a position.
        """
        order, rows = [int(i) for i in position["order"]], position["rows"]
        if sorted(order) != list(range(len(self.files))) or (rows is None) == self.shuffle:
            raise FileError(f"{self.source}: lists other files than when the run stopped")
        self._order, self._file = order, range(len(order))[int(position["file"])]
        self._load()
        if rows is not None:
            if sorted(rows) != sorted(self._rows):
                raise FileError(f"{self.path}: does not have the same number of rows as when the run stopped")
            self._rows = list(rows)
        self._row = range(len(self._rows) + 1)[int(position["row"])]
        self._random.restore(position["random"])

    def _mix(self, order: list[int]) -> None:
        if self.shuffle:
            self._random.shuffle(order)

    def _load(self) -> None:
        self.path = self.files[self._order[self._file]]
        self._values = read_datasets(self.path, self.names)
        shapes = [value.shape[1:] for value in self._values]
        if self.shapes and shapes != self.shapes:
            raise FileError(f"{self.path}: its rows are {shapes}, those of the files before it {self.shapes}; they "
                            "must agree")
        self.shapes = shapes
        self._rows = list(range(len(self._values[0])))
        self._mix(self._rows)

    def _wrap(self) -> None:
        """The first row of the next file, or of the same one if there is no other."""
        if len(self.files) > 1:
            self._file += 1
            if self._file == len(self.files):
                self._file = 0
                self._mix(self._order)
            self._load()
        self._row = 0
        self._mix(self._rows)

    def take(self, count: int) -> list[np.ndarray]:
        """Return the next `count` rows of each dataset, float32."""
        out = [np.empty((count, *shape), np.float32) for shape in self.shapes]
        filled = 0
        while filled < count:
            if self._row == len(self._rows):
                self._wrap()
            rows = self._rows[self._row : self._row + count - filled]
            index = rows if self.shuffle else slice(rows[0], rows[-1] + 1)
            for blob, value in zip(out, self._values, strict=True):
                blob[filled : filled + len(rows)] = value[index]
            filled += len(rows)
            self._row += len(rows)
        return out
