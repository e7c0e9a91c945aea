"""Reads any .t7 file as Python objects (``objects``): memory-mapped, without copying storages or executing anything.

Every size is checked against the bytes that are left before memory is allocated, and nesting uses no Python stack, so
a hostile file raises a FileError. Source of the format: File.lua, generic/{Tensor,Storage}.c of torch7@814ea4a,
generic/{Tensor,Storage}.c of cutorch@5e9d86c.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from typing import Any

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import cannot_open, other_kind

from .encoding import Ascii, Binary
from .objects import Function, Storage, Table, Tensor, Torch7Object, numeric_class, text

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, LEGACY_FUNCTION, CLOSURE = range(9)
MAX_DIMS = 32
MAX_BYTES = 1 << 62  # of a view that repeats its elements; more cannot be addressed

_VERSION = re.compile(rb"V (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Torch7File:
    """The objects of a .t7 file, and its encoding."""

    path: str
    objects: tuple[Any, ...]  # usually one; a file may contain several
    encoding: str  # "ascii", "little-endian" or "big-endian"
    long_size: int  # bytes of a long: 8, or 4 from Windows and 32-bit hosts; 8 if unknown
    size: int  # size of the file in bytes
    trailing: int = 0  # trailing bytes that are not an object

    @property
    def root(self) -> Any:
        """The first object, which Torch7's torch.load returns."""
        return self.objects[0]


def read_torch7(path: str | PathLike, long_size: int | None = None) -> Torch7File:
    """Read a .t7 file.

    Args:
        path: The file.
        long_size: Bytes of a long on the machine that wrote the file, 8 or 4; the file does not say. None means 8, or 4
            if only that makes the file a single object.

    Raises:
        FileError: The file cannot be read; the message gives the byte.
    """
    path = str(path)
    if long_size not in (None, 4, 8):
        raise FileError(f"{path}: longs have 4 or 8 bytes, not {long_size}")
    try:
        with open(path, "rb") as file:
            start = file.read(32)
            if not start:
                raise FileError(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise cannot_open(path, error) from None
    return parse_torch7(mapped, path, long_size)


def parse_torch7(buffer, path: str = "<torch7>", long_size: int | None = None) -> Torch7File:
    """Read a .t7 file from bytes or a memory map; see ``read_torch7``.

    Raises:
        FileError: The content is not a .t7 file, or is damaged; the message gives the byte.
    """
    encoding = _encoding(bytes(buffer[:32]), path)
    if encoding == "ascii":
        return _read(Ascii(buffer, path), encoding)
    order = ">" if encoding == "big-endian" else "<"
    try:
        found = _read(Binary(buffer, order, long_size or 8, path), encoding)
    except FileError:
        other = None if long_size else _with_short_longs(buffer, order, path, encoding)
        if other is None:
            raise
        return other
    if found.trailing and not long_size:
        return _with_short_longs(buffer, order, path, encoding) or found
    return found


def _with_short_longs(buffer, order: str, path: str, encoding: str) -> Torch7File | None:
    """Read a file that longs of 8 bytes do not fit with longs of 4 bytes; None if these do not make it one object."""
    with suppress(FileError):
        found = _read(Binary(buffer, order, 4, path), encoding)
        if len(found.objects) == 1 and not found.trailing:
            return found
    return None


def encoding_of(start: bytes) -> str | None:
    """Recognise the encoding by the first bytes: "ascii", "little-endian" or "big-endian"; None: not a .t7 file.

    An object starts with its type, 0 to 8, as an int or as text; no Caffe file does.
    """
    if re.match(rb"\s*[0-8]\s", start):
        return "ascii"
    if len(start) >= 4 and start[0] <= CLOSURE and start[1:4] == b"\0\0\0":
        return "little-endian"  # also a nil in either order
    if len(start) >= 4 and start[:3] == b"\0\0\0" and start[3] <= CLOSURE:
        return "big-endian"
    return None


def _encoding(start: bytes, path: str) -> str:
    if what := "an HDF5 file" if start.startswith(b"\x89HDF") else other_kind(start):
        raise FileError(f"{path}: this is {what}; a Torch7 file is expected")
    found = encoding_of(start)
    if found is None:
        raise FileError(f"{path}: not a Torch7 file: it begins with {start[:8]!r}, not with the type of an object")
    return found


def _read(source: Binary | Ascii, encoding: str) -> Torch7File:
    """Read all objects of the file. After the first one, bytes that are not an object are ignored, as by torch.load."""
    reader = _Reader(source)
    objects = [reader.object()]
    trailing = 0
    while not source.at_end:
        trailing = source.left
        try:
            objects.append(reader.object())
        except FileError:
            break
        trailing = 0
    return Torch7File(source.path, tuple(objects), encoding, source.long_size, source.end, trailing)


_OPEN = object()  # an incomplete value: its contents come first


class _Frame:
    """An object whose contents are being read; `left` is the number of objects to come."""

    def __init__(self, value: Any, left: int):
        self.value, self.left = value, left

    def give(self, reader: _Reader, part: Any, at: int) -> None:
        """Receive the next object, which starts at byte `at`."""
        raise NotImplementedError


class _TableFrame(_Frame):
    """Receives alternating keys and values, for a table or a tds.Hash."""

    key: Any = None

    def give(self, reader: _Reader, part: Any, at: int) -> None:
        self.left -= 1
        if self.left % 2:
            if part is None or part != part:
                raise reader.source.error("a table with a key that is nil or not a number", at)
            self.key = part
        elif part is not None:
            table = self.value if isinstance(self.value, Table) else self.value.fields
            table[self.key] = part


class _VecFrame(_Frame):
    """Receives a tds.Vec, as a table with keys from 1."""

    def give(self, reader: _Reader, part: Any, at: int) -> None:
        self.left -= 1
        self.value.fields[len(self.value.fields) + 1] = part


class _FieldsFrame(_Frame):
    """Receives an object of a class that writes a table, as nn.Module does; nn.GPU writes a header first."""

    def give(self, reader: _Reader, part: Any, at: int) -> None:
        self.left -= 1
        self.value.fields = part


class _FunctionFrame(_Frame):
    def give(self, reader: _Reader, part: Any, at: int) -> None:
        self.left -= 1
        self.value.upvalues = part


class _TensorFrame(_Frame):
    """Receives a tensor, and checks its view of the storage."""

    def give(self, reader: _Reader, storage: Any, at: int) -> None:
        self.left -= 1
        tensor = self.value
        tensor.storage = storage
        if storage is not None and not isinstance(storage, Storage):
            raise reader.source.error(f"a tensor whose storage is {storage!r}", tensor.offset)
        if storage is not None and storage.class_name != tensor.class_name.replace("Tensor", "Storage"):
            raise reader.source.error(f"a {tensor.class_name} on a {storage.class_name}", tensor.offset)
        count = tensor.count
        if not count:
            return
        last = tensor.start + sum((size - 1) * step for size, step in zip(tensor.size, tensor.stride, strict=True))
        length = 0 if storage is None else len(storage)
        if last >= length or count * 8 > MAX_BYTES:
            raise reader.source.error(f"a tensor of {'x'.join(map(str, tensor.size))} that reaches element {last} "
                                      f"of a storage of {length}", tensor.offset)


class _Reader:
    """Reads consecutive objects; earlier ones are referred to by index."""

    def __init__(self, source: Binary | Ascii):
        self.source = source
        self.known: dict[int, Any] = {}

    def object(self) -> Any:
        """Read the next object with its contents, using an explicit stack because nesting can be arbitrarily deep."""
        frames: list[_Frame] = []
        while True:
            at = self.source.at
            value = self._begin(frames)
            while value is not _OPEN:
                if not frames:
                    return value
                frames[-1].give(self, value, at)
                value = frames.pop().value if not frames[-1].left else _OPEN

    def _begin(self, frames: list[_Frame]) -> Any:
        """Read the head of an object: its value, or _OPEN with a frame for what follows."""
        source = self.source
        at = source.at
        kind = source.read_int()
        if kind == NUMBER:
            return source.read_double()
        if kind == STRING:
            return source.read_bytes(self._count("a string", 1), "a string")
        if kind == BOOLEAN:
            return source.read_int() == 1
        if kind == NIL:
            return None
        if kind == FUNCTION:  # has no index
            return self._function(frames, None, at)
        if kind not in (TABLE, TORCH, LEGACY_FUNCTION, CLOSURE):
            raise source.error(f"an object of unknown type {kind}", at)
        index = source.read_int()
        if index in self.known:
            return self.known[index]
        if kind == TABLE:
            return self._table(frames, index, at)
        if kind == TORCH:
            return self._torch(frames, index, at)
        return self._function(frames, index, at)

    def _count(self, what: str, least: int) -> int:
        """Read a count of items of at least `least` bytes each."""
        at = self.source.at
        return self._checked(self.source.read_int(), what, least, at)

    def _checked(self, count: int, what: str, least: int, at: int) -> int:
        if count < 0:
            raise self.source.error(f"{what} of size {count}", at)
        if count * least > self.source.left:
            raise self.source.error(f"{what} of size {count}, but only {self.source.left} bytes are left", at)
        return count

    def _open(self, frames: list[_Frame], frame: _Frame, index: int | None) -> Any:
        if index is not None:
            self.known[index] = frame.value  # registered before its contents, which may refer to it
        if not frame.left:
            return frame.value
        frames.append(frame)
        return _OPEN

    def _table(self, frames: list[_Frame], index: int, at: int) -> Any:
        count = self._count("a table", 2 * self.source.least_object)
        return self._open(frames, _TableFrame(Table(at), 2 * count), index)

    def _function(self, frames: list[_Frame], index: int | None, at: int) -> Any:
        code = self.source.read_bytes(self._count("a function", 1), "a function")
        return self._open(frames, _FunctionFrame(Function(code, None, at), 1), index)

    def _torch(self, frames: list[_Frame], index: int, at: int) -> Any:
        name, version = self._class()
        if numeric := numeric_class(name):
            what, kind = numeric
            return self._storage(index, name, kind, at) if what == "Storage" else self._tensor(frames, index, name, at)
        if name.startswith("torch.") and name.endswith(("Tensor", "Storage")):
            raise self.source.error(f"the class {name}, whose layout is not known,", at)
        value = Torch7Object(name, version, None, at)
        if name in ("tds.Vec", "tds.Hash"):
            size_at = self.source.at
            parts = 1 if name == "tds.Vec" else 2
            count = self._checked(self.source.read_long(), f"a {name}", parts * self.source.least_object, size_at)
            value.fields = Table(at)
            return self._open(frames, (_VecFrame if parts == 1 else _TableFrame)(value, parts * count), index)
        return self._open(frames, _FieldsFrame(value, 2 if name == "nn.GPU" else 1), index)

    def _class(self) -> tuple[str, float]:
        """Read (class name, version). Files from before 2012 have no version."""
        name = self.source.read_bytes(self._count("a class name", 1), "a class name")
        version = 0.0
        if found := _VERSION.match(name):
            try:
                version = float(found[1])
            except ValueError:
                return text(name), 0.0
            name = self.source.read_bytes(self._count("a class name", 1), "a class name")
        return text(name), version

    def _storage(self, index: int, name: str, kind: str, at: int) -> Storage:
        size_at = self.source.at
        count = self._checked(self.source.read_long(), f"a {name}", 1, size_at)
        self.known[index] = Storage(name, self.source.read_array(kind, count), at)
        return self.known[index]

    def _tensor(self, frames: list[_Frame], index: int, name: str, at: int) -> Any:
        source = self.source
        dims_at = source.at
        dims = source.read_int()
        if not 0 <= dims <= MAX_DIMS:
            raise source.error(f"a {name} of {dims} dimensions", dims_at)
        size, stride, start = source.read_longs(dims), source.read_longs(dims), source.read_long()
        if min(size, default=0) < 0 or min(stride, default=0) < 0 or start < 1:
            raise source.error(f"a {name} of sizes {size}, strides {stride} and offset {start}", dims_at)
        tensor = Tensor(name, tuple(size), tuple(stride), start - 1, None, at)
        return self._open(frames, _TensorFrame(tensor, 1), index)


def walk(root: Any) -> Iterator[Any]:
    """Yield every reachable table, object, function, tensor and storage once, without recursion."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if value is None or isinstance(value, (bool, float, bytes)) or id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, Table):
            for key, item in value.items():
                waiting += (key, item)
        elif isinstance(value, Torch7Object):
            waiting.append(value.fields)
        elif isinstance(value, Function):
            waiting.append(value.upvalues)
        elif isinstance(value, Tensor):
            waiting.append(value.storage)
