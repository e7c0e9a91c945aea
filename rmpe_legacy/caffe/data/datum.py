"""One record of a database: an image, encoded or raw, with its label or its boxes.

Sources: Datum and AnnotatedDatum of caffe.proto; data_reader.cpp of RMPE@5188c23.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmpe_legacy.caffe.proto.message import Message, Source
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode
from rmpe_legacy.errors import FileError

from .boxes import Boxes
from .leveldb_reader import LevelDbReader
from .lmdb_reader import LmdbReader

BACKENDS: dict[str, Any] = {"LMDB": LmdbReader, "LEVELDB": LevelDbReader}


@dataclass(frozen=True)
class Datum:
    """An image in a database: an encoded file, or raw values in the order channel, row, column."""

    channels: int
    height: int
    width: int
    data: memoryview | bytes  # uint8 values, or the encoded file
    float_data: np.ndarray  # used if `data` is empty
    label: int
    has_label: bool
    encoded: bool
    where: str  # database and record, for errors

    def values(self) -> np.ndarray:
        """Return the raw values, (channels, height, width), uint8 or float32.

        Raises:
            FileError: There are too few values.
        """
        shape = (self.channels, self.height, self.width)
        if min(shape) <= 0:
            raise FileError(f"{self.where}: a raw image of {self.channels} x {self.height} x {self.width} values; "
                            "the record is damaged, or is it an encoded image without encoded: true?")
        count = self.channels * self.height * self.width
        values = np.frombuffer(self.data, np.uint8) if len(self.data) else self.float_data
        if len(values) < count:
            raise FileError(f"{self.where}: an image of {self.channels} x {self.height} x {self.width} with "
                            f"{len(values)} values; the record is damaged")
        return values[:count].reshape(shape)


@dataclass(frozen=True)
class AnnotatedDatum:
    """An image with boxes."""

    datum: Datum
    boxes: Boxes
    type: str | None  # "BBOX"; None if the record has none


def parse_datum(buffer, where: str) -> Datum:
    """Parse a serialised Datum. Its image is a view of the buffer."""
    return _datum(decode(buffer, load_schema()["Datum"], Source(where)), where)


def parse_annotated(buffer, where: str) -> AnnotatedDatum:
    """Parse a serialised AnnotatedDatum, with the boxes of all groups concatenated."""
    message = decode(buffer, load_schema()["AnnotatedDatum"], Source(where))
    rows = [(group.group_label, annotation) for group in message.annotation_group for annotation in group.annotation]
    return AnnotatedDatum(
        _datum(message.datum, where), Boxes.of(rows), message.type if message.has("type") else None)


def _datum(message: Message, where: str) -> Datum:
    return Datum(message.channels, message.height, message.width, message.data,
                 np.asarray(message.float_data, np.float32), message.label, message.has("label"), message.encoded,
                 where)


class Cursor:
    """A cursor in a database: records in key order, starting again after the last."""

    def __init__(self, backend: str, path: str | os.PathLike):
        """Open a database. backend: "LMDB" or "LEVELDB". Raises FileError if it cannot be read or is empty."""
        self._backend, self.path, self.index = backend, str(path), 0
        self._begin()

    def _begin(self) -> None:
        self._store = BACKENDS[self._backend](self.path)
        self._records = iter(self._store)
        self._ahead = self._next()

    def _next(self) -> tuple[bytes, memoryview]:
        for _ in range(2):
            record = next(self._records, None)
            if record is not None:
                return record
            self._records = iter(self._store)
        raise FileError(f"{self.path}: the store holds no records")

    def peek(self) -> tuple[memoryview, str]:
        """Return (value, position) of the record that `take` returns next."""
        key, value = self._ahead
        return value, f"{self.path}: record {key.decode('utf-8', 'backslashreplace')}"

    def take(self) -> tuple[memoryview, str]:
        """Return (value, position) of the next record."""
        record = self.peek()
        self._ahead = self._next()
        self.index += 1
        return record

    def position(self) -> dict[str, Any]:
        """The next record, for `seek`, as JSON-compatible values."""
        return {"taken": self.index, "key": self._ahead[0].hex()}

    def seek(self, position: Mapping[str, Any]) -> None:
        """Continue at a `position`.

        Raises:
            FileError: The store has no such record.
            KeyError, TypeError, ValueError: The argument is not a position.
        """
        key, index = bytes.fromhex(position["key"]), int(position["taken"])
        self._records = iter(self._store)
        self._ahead = next((record for record in self._records if record[0] == key), (b"", memoryview(b"")))
        if self._ahead[0] != key:
            raise FileError(f"{self.path}: has no record {key.decode('utf-8', 'backslashreplace')}, at which the run "
                            "stopped; this is another store, or it has changed since")
        self.index = index

    def __iter__(self) -> Iterator[tuple[memoryview, str]]:
        while True:
            yield self.take()

    def __getstate__(self) -> dict:
        return {"_backend": self._backend, "path": self.path, "index": self.index}  # not the map

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, index=0)
        self._begin()
        while self.index < state["index"]:
            self.take()


def reencoded(datum: Datum, data: bytes, shape: tuple[int, ...]) -> Datum:
    """Return a copy with another encoded image; shape (height, width[, channels])."""
    return replace(datum, data=data, encoded=True, height=shape[0], width=shape[1],
                   channels=shape[2] if len(shape) > 2 else 1, has_label=True)
