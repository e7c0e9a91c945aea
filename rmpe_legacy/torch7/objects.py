"""The contents of a Torch7 file in Python: tables, objects, functions, storages and tensors.

Numbers are floats, strings are bytes, booleans and nil are True, False and None. Everything else is one of the classes
here. They compare by identity, like in Lua: an object that the file refers to twice is one object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

_KINDS = {"Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "long", "Float": "f4", "Double": "f8",
          "Half": "f2", "": "f4"}  # torch.CudaTensor has no type in its name
_NUMERIC = re.compile(r"torch\.(?:Cuda)?(Byte|Char|Short|Int|Long|Float|Double|Half|)(Tensor|Storage)$")


def numeric_class(name: str) -> tuple[str, str] | None:
    """("Tensor" or "Storage", kind of its elements) for such a class, else None.

    The kind is numpy's ("f4", ...), or "long", which has the file's size of a long.
    """
    found = _NUMERIC.match(name)
    return (found[2], _KINDS[found[1]]) if found else None


def text(value: bytes) -> str:
    """Decode a Lua string; bytes that are not UTF-8 survive a round trip."""
    return value.decode("utf-8", "surrogateescape")


class Table:
    """A Lua table. Keys are those of the file: numbers, strings, booleans, or objects by identity.

    ``table["kW"]`` and ``table[1]`` raise KeyError if there is no such entry, ``get`` returns a default. A str key is
    taken as UTF-8 bytes.
    """

    __slots__ = ("_entries", "offset")

    def __init__(self, offset: int = 0):
        self.offset = offset  # position in the file
        self._entries: dict[Any, tuple[Any, Any]] = {}

    def __getitem__(self, key: Any) -> Any:
        return self._entries[_hashable(key)][1]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entries[_hashable(key)] = (key, value)

    def __contains__(self, key: Any) -> bool:
        return _hashable(key) in self._entries

    def __len__(self) -> int:
        """The number of entries with any key, unlike Lua's #table."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        return (key for key, _ in self._entries.values())

    def get(self, key: Any, default: Any = None) -> Any:
        entry = self._entries.get(_hashable(key))
        return default if entry is None else entry[1]

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield (key, value) pairs in the file's order, which has no meaning."""
        return iter(self._entries.values())

    def seq(self) -> list[Any]:
        """Return the values at 1, 2, 3, ... up to the first missing one, like Lua's ipairs."""
        out: list[Any] = []
        while (entry := self._entries.get(len(out) + 1)) is not None:
            out.append(entry[1])
        return out

    def __repr__(self) -> str:
        return f"<Table of {len(self)} at byte {self.offset}>"


def _hashable(key: Any) -> Any:
    """Make keys equal as in Lua: true is not 1, and 1 is 1.0."""
    if isinstance(key, bool):
        return (key,)
    return key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key


class Torch7Object:
    """An object of a class that is neither tensor nor storage, known or not.

    fields: what its class wrote, usually a Table.
    """

    __slots__ = ("class_name", "fields", "offset", "version")

    def __init__(self, class_name: str, version: float = 1, fields: Any = None, offset: int = 0):
        self.class_name = class_name
        self.version = version
        self.fields = fields
        self.offset = offset

    def get(self, name: str, default: Any = None) -> Any:
        """Return one of its fields."""
        return self.fields.get(name, default) if isinstance(self.fields, Table) else default

    def __repr__(self) -> str:
        return f"<{self.class_name} at byte {self.offset}>"


def is_module(value: Any) -> bool:
    """Return whether a value is a Torch7 network module."""
    return isinstance(value, Torch7Object) and value.class_name.partition(".")[0] in ("nn", "cudnn")


class Function:
    """A Lua function: its bytecode, which is never run, and its upvalues."""

    __slots__ = ("code", "offset", "upvalues")

    def __init__(self, code: bytes, upvalues: Any = None, offset: int = 0):
        self.code = code
        self.upvalues = upvalues  # a Table; {name=, id=, value=} each, in files of 2015 and later
        self.offset = offset

    def __repr__(self) -> str:
        return f"<function of {len(self.code)} bytes at byte {self.offset}>"


class Storage:
    """A flat array, shared by the tensors that view it. data: a read-only view of the file."""

    __slots__ = ("class_name", "data", "offset")

    def __init__(self, class_name: str, data: np.ndarray, offset: int = 0):
        self.class_name = class_name
        self.data = data
        self.offset = offset

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<{self.class_name} of {len(self)} at byte {self.offset}>"


class Tensor:
    """A view of a storage: sizes, strides (in elements) and the offset of the first element, from 0.

    An empty tensor has no sizes, and may have no storage. The reader has checked that the view is inside the storage.
    """

    __slots__ = ("class_name", "offset", "size", "start", "storage", "stride")

    def __init__(self, class_name: str, size: tuple[int, ...] = (), stride: tuple[int, ...] = (), start: int = 0,
                 storage: Storage | None = None, offset: int = 0):
        self.class_name = class_name
        self.size = size
        self.stride = stride
        self.start = start
        self.storage: Any = storage  # a Storage, unless it is empty
        self.offset = offset

    @property
    def count(self) -> int:
        """The number of elements of the view."""
        count = 1 if self.size else 0
        for size in self.size:
            count *= size
        return count

    def numpy(self) -> np.ndarray:
        """Return the view without a copy, in the file's byte order; shape (0,) if the tensor is empty."""
        if self.storage is None or not self.count:
            found = numeric_class(self.class_name)
            assert found is not None  # the reader makes no others
            return np.empty(self.size or (0,), "i8" if found[1] == "long" else found[1])
        data = self.storage.data
        strides = [step * data.itemsize for step in self.stride]
        return np.lib.stride_tricks.as_strided(data[self.start :], self.size, strides, writeable=False)

    def __repr__(self) -> str:
        sizes = "x".join(map(str, self.size)) or "empty"
        return f"<{self.class_name} {sizes} at byte {self.offset}>"
