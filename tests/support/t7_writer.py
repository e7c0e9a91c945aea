"""Writes .t7 files as torch7's File.lua does (814ea4a), for tests that need files the real Torch7 did not leave us.

Known by reading, and held to the real files by test_torch7_reader.py. Goldens never come from here.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

from rmpe_legacy.torch7.objects import Function, Storage, Table, Tensor, Torch7Object


class Writer:
    """Objects as bytes; every object gets the next index when it is first met."""

    def __init__(self, file: BinaryIO, order: str = "<", long_size: int = 8):
        self.file, self.order, self.long = file, order, "q" if long_size == 8 else "i"
        self.known: dict[int, int] = {}

    def pack(self, kinds: str, *values: float) -> None:
        self.file.write(struct.pack(self.order + kinds, *values))

    def raw(self, value: bytes) -> None:
        self.pack("i", len(value))
        self.file.write(value)

    def value(self, value: Any) -> None:
        """Write a value with all that it holds, however deep."""
        waiting = [value]
        while waiting:
            waiting += reversed(self._head(waiting.pop()))

    def _head(self, value: Any) -> list[Any]:
        """Write the beginning of a value; the values that belong behind it."""
        if value is None:
            self.pack("i", 0)
        elif isinstance(value, bool):
            self.pack("ii", 5, value)
        elif isinstance(value, (int, float)):
            self.pack("id", 1, value)
        elif isinstance(value, (bytes, str)):
            self.pack("i", 2)
            self.raw(value.encode() if isinstance(value, str) else value)
        else:
            return self._object(value)
        return []

    def _object(self, value: Any) -> list[Any]:
        kind = 3 if isinstance(value, Table) else 8 if isinstance(value, Function) else 4
        known = id(value) in self.known
        self.pack("ii", kind, self.known.setdefault(id(value), len(self.known) + 1))
        if known:
            return []
        if kind == 3:
            self.pack("i", len(value))
            return [part for entry in value.items() for part in entry]
        if kind == 8:
            self.raw(value.code)
            return [value.upvalues]
        self.raw(f"V {getattr(value, 'version', 1):g}".encode())
        self.raw(value.class_name.encode())
        return self._contents(value)

    def _contents(self, value: Torch7Object | Tensor | Storage) -> list[Any]:
        if isinstance(value, Storage):
            self.pack(self.long, len(value))
            self.file.write(memoryview(value.data.astype(value.data.dtype.newbyteorder(self.order), copy=False)))
            return []
        if isinstance(value, Tensor):
            self.pack("i", len(value.size))
            self.pack(f"{2 * len(value.size) + 1}{self.long}", *value.size, *value.stride, value.start + 1)
            return [value.storage]
        return [value.fields]


def write(path: Path, *objects: Any, **how: Any) -> Path:
    """A file of these objects, one after the other."""
    with open(path, "wb") as file:
        writer = Writer(file, **how)
        for value in objects:
            writer.value(value)
    return path


def table(*items: Any, **fields: Any) -> Table:
    """A Lua table: items from 1 on, then fields by name."""
    out = Table()
    for i, item in enumerate(items, 1):
        out[float(i)] = item
    for name, value in fields.items():
        out[name.encode()] = value
    return out


def module(class_name: str, *modules: Any, version: float = 1, **fields: Any) -> Torch7Object:
    """A module with fields; modules inside it, if any, as its `modules`."""
    if modules:
        fields["modules"] = table(*modules)
    return Torch7Object(class_name, version, table(**fields))


def tensor(array: Any, class_name: str = "torch.FloatTensor") -> Tensor:
    """A numpy array as a contiguous tensor on a storage of its own."""
    import numpy as np

    array = np.ascontiguousarray(array)
    strides = tuple(step // array.itemsize for step in array.strides)
    storage = Storage(class_name.replace("Tensor", "Storage"), array.reshape(-1))
    return Tensor(class_name, array.shape, strides, 0, storage)
