"""Reads files written by ``torch.save(net.state_dict(), ...)`` without torch's own reader.

With ``weights_only=True`` torch does not run code from the file, but allocates whatever the file requests: 2 GB for a
kilobyte. Here a pickle can only create dicts, lists, tuples, numbers, text and tensors; each tensor is a view of the
mapped file inside its storage. Source: torch/serialization.py (archives, and the form before 1.6), pickletools.py.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import expanded_limit, item_count, reading

STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # an archive; a pickle
MAX_DEPTH = 64  # nested marks
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_TYPES = {"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "i2", "Long": "i8", "Int": "i4", "Short": "i2",
          "Char": "i1", "Byte": "u1", "Bool": "?"}


@dataclass(frozen=True, eq=False)
class _Global:
    """A global that the pickle refers to; it is called only if it is one of those known here."""

    name: str


@dataclass(frozen=True, eq=False)
class _Storage:
    """A storage elsewhere in the file."""

    kind: str  # a key of _TYPES
    key: str
    count: int


@dataclass(frozen=True, eq=False)
class _View:
    """A tensor with a storage that has not been read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_state_dict(path: str | PathLike) -> tuple[dict[str, Tensor], mmap.mmap]:
    """Read the tensors of a state dict by name, in their own shapes and dtypes.

    Returns:
        The tensors, and the map of the file that they are views of.

    Raises:
        FileError: The file is damaged, or contains anything else.
    """
    with reading(path, "file of tensors"), open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    data = memoryview(mapped)
    read = _read_archive if data[:2] == b"PK" else _read_legacy
    state, storages = read(data, str(path))
    if not isinstance(state, dict) or not all(
            isinstance(key, str) and isinstance(value, _View) for key, value in state.items()):
        raise FileError(f"{path}: not a state dict, tensors by name; save it with torch.save(net.state_dict(), ...)")
    size = sum(math.prod(view.size) * np.dtype(_TYPES[view.storage.kind]).itemsize for view in state.values())
    if size > expanded_limit(len(data)):
        raise FileError(f"{path}: its tensors show the same values again and again, {size} bytes in a file of "
                        f"{len(data)}; the file is damaged")
    return {key: _tensor(f"{path}: {key}", view, storages) for key, view in state.items()}, mapped


Storages = Callable[[_Storage], memoryview | None]  # the bytes of a storage; None if there are none


def _tensor(where: str, view: _View, storages: Storages) -> Tensor:
    dtype = np.dtype(_TYPES[view.storage.kind])
    count = item_count(view.size)
    last = view.offset + sum((size - 1) * step for size, step in zip(view.size, view.stride, strict=False))
    data = storages(view.storage)
    if data is None or count is None or len(view.size) != len(view.stride) or count > view.storage.count or (
            count and not (min(view.offset, *view.stride, 0) == 0 and last < view.storage.count)):
        raise FileError(f"{where} is not a dense tensor of numbers within its storage")
    if not count:
        return torch.empty(view.size, dtype=torch.from_numpy(np.empty(0, dtype)).dtype)
    values = np.frombuffer(data, dtype, view.storage.count)
    found = torch.from_numpy(values if values.flags.aligned else values.copy())
    found = found.as_strided(view.size, view.stride, view.offset)
    return found.view(torch.bfloat16) if view.storage.kind == "BFloat16" else found


def _damaged(path: str, reason: str) -> FileError:
    return FileError(f"{path}: not a readable file of tensors: {reason}; the file is truncated, damaged or of "
                     "another kind")


def _read_archive(data: memoryview, path: str) -> tuple[Any, Storages]:
    """Read the format since torch 1.6: an uncompressed zip archive."""
    with reading(path, "file of tensors"), zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}

    def content(name: str) -> memoryview | None:
        info = members.get(name)
        if info is None:
            return None
        begin = info.header_offset
        if info.compress_type != zipfile.ZIP_STORED or not 0 <= begin <= len(data) - 30:
            raise _damaged(path, f"{name} is compressed, or has no place in it")
        begin += 30 + sum(struct.unpack_from("<HH", data, begin + 26))
        if info.file_size > len(data) - begin:
            raise _damaged(path, f"{name} of {info.file_size} bytes, but only {max(len(data) - begin, 0)} are left")
        return data[begin : begin + info.file_size]

    pickled, order = content("data.pkl"), content("byteorder")
    if pickled is None or (order is not None and order != b"little"):
        raise _damaged(path, "no data.pkl in it" if pickled is None else "not little-endian")

    def storage(found: _Storage) -> memoryview | None:
        held = content(f"data/{found.key}")
        size = found.count * np.dtype(_TYPES[found.kind]).itemsize
        return None if held is None or len(held) < size else held[:size]

    return _Pickle(pickled, path).load(), storage


def _read_legacy(data: memoryview, path: str) -> tuple[Any, Storages]:
    """Read the older format: five pickles, then each storage with its length."""
    pickle = _Pickle(data, path)
    if pickle.load() != _LEGACY_MAGIC or pickle.load() != _LEGACY_PROTOCOL:
        raise _damaged(path, "a pickle, but not of torch.save")
    system = pickle.load()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _damaged(path, "not little-endian")
    state, keys = pickle.load(), pickle.load()
    places: dict[str, memoryview] = {}
    at = pickle.at
    for key in keys if isinstance(keys, list) else ():
        found = pickle.storages.get(key) if isinstance(key, str) else None
        if found is None or at + 8 > len(data):
            raise _damaged(path, "its storages are not the ones that it lists")
        size = found.count * np.dtype(_TYPES[found.kind]).itemsize
        if struct.unpack_from("<q", data, at)[0] != found.count or size > len(data) - at - 8:
            raise _damaged(path, f"a storage of {found.count} values, with {len(data) - at - 8} bytes for them")
        places[key] = data[at + 8 : at + 8 + size]
        at += 8 + size
    return state, lambda storage: places.get(storage.key)


class _Pickle:
    """Runs the pickles in a buffer; operations that a state dict does not need are refused."""

    def __init__(self, data: memoryview, path: str):
        self.data, self.path, self.at = data, path, 0
        self.storages: dict[str, _Storage] = {}

    def error(self, reason: str) -> FileError:
        return _damaged(self.path, f"{reason} at byte {self.at} of its pickle")

    def load(self) -> Any:
        """Return the value of the next pickle."""
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        while True:
            code = self.take(1)[0]
            if code == ord("."):
                return self.pop()
            run = _OPCODES.get(code)
            if run is None:
                raise self.error(f"{chr(code)!r} does not make a tensor (save net.state_dict(), not net)")
            run(self)

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise self.error(f"it ends, but {size} more bytes are needed")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        end = bytes(self.data[self.at : self.at + 256]).find(b"\n")
        if end < 0:
            raise self.error("a name without an end")
        return bytes(self.take(end + 1))[:-1].decode("latin-1")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise self.error("a value is missing")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise self.error(f"no {kind.__name__} where one is expected")
        return self.stack[-1]

    # --- operations -----------------------------------------------------------------------------------------------

    def mark(self) -> None:
        if len(self.marks) >= MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} nested values")
        self.marks.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        if not self.marks:
            raise self.error("a mark is missing")
        values, self.stack = self.stack, self.marks.pop()
        return values

    def text(self, size: int) -> None:
        self.push(bytes(self.take(self.number(size))).decode("utf-8", "surrogateescape"))

    def long(self) -> None:
        self.push(int.from_bytes(self.take(self.number(1)), "little", signed=True))

    def tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise self.error("a value is missing")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def put(self, key: int) -> None:
        self.memo[key] = self.top(object)

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise self.error(f"no object is stored under {key}")
        self.push(self.memo[key])

    def set_items(self, values: list[Any]) -> None:
        made = self.top(dict)
        if len(values) % 2 or not all(isinstance(key, str | int) for key in values[::2]):
            raise self.error("a dict whose keys are not names")
        made.update(zip(values[::2], values[1::2], strict=True))

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def name(self, module: Any, name: Any) -> None:
        self.push(_Global(f"{module}.{name}"))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def build(self) -> None:
        """Ignore the state of an OrderedDict, which is torch's version metadata."""
        self.pop()
        self.top(dict)

    def persistent(self) -> None:
        """Read ("storage", type, key, device, count, and in old files the base storage)."""
        match self.pop():
            case ("storage", _Global(name), str(key), str(), int(count)) | (
                    "storage", _Global(name), str(key), str(), int(count), None) if count >= 0:
                kind = name.removeprefix("torch.").removesuffix("Storage")
                if f"torch.{kind}Storage" == name and kind in _TYPES:
                    self.push(self.storages.setdefault(key, _Storage(kind, key, count)))
                    return
                raise self.error(f"a storage of type {name}")
        raise self.error("a storage in an unknown form")

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        match function, arguments:
            case _Global("collections.OrderedDict"), ():
                self.push({})
            case _Global("torch._utils._rebuild_tensor_v2"), (_Storage() as storage, int(offset), tuple(size),
                                                              tuple(stride), *_) if _whole(size) and _whole(stride):
                self.push(_View(storage, offset, size, stride))
            case _Global("torch._utils._rebuild_parameter"), (_View() as view, *_):
                self.push(view)
            case _Global(name), _:
                raise self.error(f"a call of {name[:80]}, which is never executed,")
            case _:
                raise self.error("a call of something that is not a function")


def _whole(sizes: tuple) -> bool:
    return all(type(size) is int and abs(size) < 1 << 62 for size in sizes)


_OPCODES: dict[int, Callable[[_Pickle], None]] = {ord(code): run for code, run in {
    "\x80": lambda p: p.number(1), "\x95": lambda p: p.number(8), "(": _Pickle.mark,
    "}": lambda p: p.push({}), "]": lambda p: p.push([]), ")": lambda p: p.push(()), "N": lambda p: p.push(None),
    "\x88": lambda p: p.push(True), "\x89": lambda p: p.push(False),
    "J": lambda p: p.push(struct.unpack("<i", p.take(4))[0]), "K": lambda p: p.push(p.number(1)),
    "M": lambda p: p.push(p.number(2)), "\x8a": _Pickle.long, "G": lambda p: p.push(struct.unpack(">d", p.take(8))[0]),
    "X": lambda p: p.text(4), "\x8c": lambda p: p.text(1), "U": lambda p: p.text(1), "T": lambda p: p.text(4),
    "t": lambda p: p.push(tuple(p.marked())), "\x85": lambda p: p.tuple(1), "\x86": lambda p: p.tuple(2),
    "\x87": lambda p: p.tuple(3), "q": lambda p: p.put(p.number(1)), "r": lambda p: p.put(p.number(4)),
    "\x94": lambda p: p.put(len(p.memo)), "h": lambda p: p.get(p.number(1)), "j": lambda p: p.get(p.number(4)),
    "s": _Pickle.set_item, "u": lambda p: p.set_items(p.marked()), "a": lambda p: p.append([p.pop()]),
    "e": lambda p: p.append(p.marked()), "c": lambda p: p.name(p.line(), p.line()), "\x93": _Pickle.stack_name,
    "b": _Pickle.build, "Q": _Pickle.persistent, "R": _Pickle.call,
}.items()}
