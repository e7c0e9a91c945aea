"""Reads untrusted MATLAB 5 files (save -v6 and -v7), without scipy.

Numbers, text, cells and structs are read; anything else (objects, functions, sparse matrices) becomes ``UNREAD``.
Nothing is executed; sizes are checked against the bytes present before memory is allocated. Source: MathWorks,
"MAT-File Format", level 5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import MAX_DIMS, expanded_limit, item_count, reading

MAX_DEPTH = 32  # nested cells and structs; annotation files have 8

UNREAD = object()  # represents a value of an unsupported class

_HEADER = 128
_PIECE = 1 << 20  # bytes that are unpacked at once
_MATRICES = 100_000  # allowed in a file of any size, not counting single numbers; groups_v12.mat has 30,000
_MATRIX, _COMPRESSED = 14, 15
_INT8, _INT32, _UINT32 = 1, 5, 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_SHORT = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f"}  # may stand within their own tag
_TEXT = {1: "latin-1", 2: "latin-1", 16: "utf-8"}  # others are code units of 2 or 4 bytes
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC = range(6, 16)  # double to uint64
_COMPLEX = 0x0800
_EMPTY = np.zeros((0, 0))
_EMPTY.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell array; items in Matlab's order, columns first."""

    shape: tuple[int, ...]
    items: list[Any]


@dataclass(frozen=True, eq=False)
class Struct:
    """A struct array of N elements, in Matlab's order; each has a value per field."""

    shape: tuple[int, ...]
    fields: tuple[str, ...]
    items: list[list[Any]]

    def __len__(self) -> int:
        return len(self.items)

    def column(self, field: str) -> list[Any] | None:
        """Return the N values of a field; None if there is no such field."""
        if field not in self.fields:
            return None
        i = self.fields.index(field)
        return [item[i] for item in self.items]

    def get(self, field: str) -> Any:
        """Return a field of a struct with one element; None if it has no such field or not exactly one element."""
        return self.items[0][self.fields.index(field)] if len(self.items) == 1 and field in self.fields else None


def read_mat(path: str | PathLike) -> dict[str, Any]:
    """Read the variables of a .mat file by name.

    A value is a float (a 1x1 matrix), a float64 array of two or more axes, a str (a row of text), a list of str (more
    rows), a Cell, a Struct, or UNREAD.

    Raises:
        FileError: The file is not MATLAB 5, or is damaged.
    """
    with reading(path, "MATLAB file"):
        data = Path(path).read_bytes()
    return parse_mat(data, path)


def parse_mat(data: bytes, path: str | PathLike = "<mat>") -> dict[str, Any]:
    """Like ``read_mat``, from a file's content; the path is for messages."""
    order = _byte_order(path, data)
    try:
        return _Reader(order, len(data)).variables(data)
    except _DamageError as error:
        raise FileError(f"{path}: damaged MATLAB file: {error}") from None
    except MemoryError:
        raise FileError(f"{path}: needs more memory than there is") from None


def is_mat(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is a MATLAB file, version 5 or newer."""
    return start.startswith(b"MATLAB")


def _byte_order(path: str | PathLike, data: bytes) -> str:
    if data.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise FileError(f"{path}: a MATLAB 7.3 file; save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        hint = "; an Octave text file? save it with -v7" if data.startswith(b"# Created by Octave") else ""
        raise FileError(f"{path}: not a MATLAB 5 file{hint}")
    return order


_Bytes = bytes | bytearray


class _DamageError(Exception):
    """The bytes contradict the format, so the rest cannot be read."""


class _Reader:
    """Reads the elements of one file. Positions are byte offsets into the buffer that is passed along."""

    def __init__(self, order: str, file_size: int):
        self.order = order
        self.tag = struct.Struct(order + "II")
        # A matrix of two axes and no name, up to the tag of its value. Annotation files are full of 1x1 and 0x0 ones.
        self.plain = struct.Struct(order + "14I")
        self.double = struct.Struct(order + "d")
        self.short = {struct.calcsize(code) << 16 | kind: struct.Struct(order + code) for kind, code in _SHORT.items()}
        self.limit = self.bytes_left = expanded_limit(file_size)  # for what is unpacked, or widened to double
        self.matrices_left = _MATRICES + file_size // 8

    def variables(self, data: _Bytes) -> dict[str, Any]:
        out, pos = {}, _HEADER
        while pos < len(data):
            kind, start, size, pos = self.element(data, pos, len(data))
            if kind == _COMPRESSED:
                pos = start + size  # the only element that is not padded
                inner = self.decompress(data[start : start + size])
                kind, start, size, _ = self.element(inner, 0, len(inner))
            else:
                inner = data
            if kind == _MATRIX:
                name, value = self.matrix(inner, start, start + size, 0)
                out[name] = value
        return out

    def decompress(self, data: _Bytes) -> _Bytes:
        unpack, out = zlib.decompressobj(), bytearray()
        try:
            for begin in range(0, len(data), _PIECE):
                left = data[begin : begin + _PIECE]
                while left and not unpack.eof:
                    piece = unpack.decompress(left, _PIECE)
                    self.spend(len(piece))
                    out += piece
                    left = unpack.unconsumed_tail
        except zlib.error as error:
            raise _DamageError(str(error)) from None
        return out

    def spend(self, size: int) -> None:
        """Raise before allocating memory for which the file has no bytes."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise _DamageError(f"holds more than {self.limit >> 20} MB, too much for a file of its size")

    def element(self, data: _Bytes, pos: int, end: int) -> tuple[int, int, int, int]:
        """Return type, start and size of the data, and where the next element starts."""
        if pos + 8 > end:
            raise _DamageError(f"ends in the middle of a value, at byte {pos}")
        kind, size = self.tag.unpack_from(data, pos)
        if kind >> 16:  # up to four bytes of data within the tag
            size, kind, start, after = kind >> 16, kind & 0xFFFF, pos + 4, pos + 8
            if size > 4:
                raise _DamageError(f"a short value of {size} bytes at byte {pos}")
        else:
            start = pos + 8
            after = start + size + (-size & 7)
        if start + size > end:
            raise _DamageError(f"a value of {size} bytes at byte {pos}, but only {max(end - start, 0)} are left")
        return kind, start, size, min(after, end)

    def matrix(self, data: _Bytes, pos: int, end: int, depth: int) -> tuple[str, Any]:
        """Read the name and value of a matrix element with contents at pos:end."""
        if pos == end:
            return "", _EMPTY
        self.matrices_left -= 1
        if self.matrices_left < 0:
            raise _DamageError("holds more cells, structs and matrices than a file of its size")
        if depth > MAX_DEPTH:
            raise _DamageError(f"more than {MAX_DEPTH} nested cells or structs")
        kind, start, size, pos = self.element(data, pos, end)
        if kind != _UINT32 or size != 8:
            raise _DamageError(f"no matrix flags at byte {start}")
        flags = self.tag.unpack_from(data, start)[0]
        kind, start, size, pos = self.element(data, pos, end)
        if kind != _INT32 or size < 8 or size % 4:
            if flags & 0xFF == 17:  # an object of a newer class has no dimensions
                return "", UNREAD
            raise _DamageError(f"no matrix dimensions at byte {start}")
        if size > 4 * MAX_DIMS:
            raise _DamageError(f"{size // 4} dimensions, more than {MAX_DIMS}, at byte {start}")
        shape = tuple(np.frombuffer(data, self.order + "i4", size // 4, start).tolist())
        count = item_count(shape)
        if count is None:
            raise _DamageError(f"dimensions {shape}")
        kind, start, size, pos = self.element(data, pos, end)
        name = bytes(data[start : start + size]).decode("latin-1")
        matlab_class = flags & 0xFF
        if matlab_class in _NUMERIC:
            return name, self.numbers(data, pos, end, shape, count, flags)
        if matlab_class == _CHAR:
            return name, self.text(data, pos, end, shape, count)
        if matlab_class == _CELL:
            return name, Cell(shape, self.values(data, pos, end, count, depth))
        if matlab_class == _STRUCT:
            return name, self.structure(data, pos, end, shape, count, depth)
        return name, UNREAD

    def numbers(self, data: _Bytes, pos: int, end: int, shape: tuple[int, ...], count: int, flags: int) -> Any:
        if flags & _COMPLEX:
            return UNREAD
        kind, start, size, _ = self.element(data, pos, end)
        values = self.array(data, kind, start, size)
        if len(values) != count:
            raise _DamageError(f"{len(values)} numbers for a matrix of {shape}")
        if shape == (1, 1):
            return float(values[0])
        self.spend(8 * count - size)
        return values.astype(np.float64).reshape(shape, order="F")

    def array(self, data: _Bytes, kind: int, start: int, size: int) -> np.ndarray:
        if kind not in _NUMBERS:
            raise _DamageError(f"numbers of unknown type {kind} at byte {start}")
        dtype = np.dtype(self.order + _NUMBERS[kind])
        if size % dtype.itemsize:
            raise _DamageError(f"{size} bytes of {dtype} at byte {start}")
        return np.frombuffer(data, dtype, size // dtype.itemsize, start)

    def text(self, data: _Bytes, pos: int, end: int, shape: tuple[int, ...], count: int) -> str | list[str]:
        if not count:
            return ""
        kind, start, size, _ = self.element(data, pos, end)
        raw = data[start : start + size]
        if kind in (4, 17):
            encoding = "utf-16-le" if self.order == "<" else "utf-16-be"
        elif kind == 18:
            encoding = "utf-32-le" if self.order == "<" else "utf-32-be"
        else:
            encoding = _TEXT.get(kind, "latin-1")
        letters = bytes(raw).decode(encoding, "replace")
        if shape[0] == 1 or len(shape) != 2 or len(letters) != count:
            return letters
        return ["".join(letters[row :: shape[0]]) for row in range(shape[0])]

    def structure(self, data: _Bytes, pos: int, end: int, shape: tuple[int, ...], count: int, depth: int) -> Struct:
        kind, start, size, pos = self.element(data, pos, end)
        if kind != _INT32 or size != 4:
            raise _DamageError(f"no field name length at byte {start}")
        (length,) = struct.unpack_from(self.order + "i", data, start)
        kind, start, size, pos = self.element(data, pos, end)
        if kind != _INT8 or length < 1 or size % length:
            raise _DamageError(f"no field names at byte {start}")
        fields = tuple(bytes(data[i : i + length]).split(b"\0")[0].decode("latin-1")
                       for i in range(start, start + size, length))
        width = len(fields)
        if not width:
            return Struct(shape, fields, [])
        values = self.values(data, pos, end, count * width, depth)
        return Struct(shape, fields, [values[i : i + width] for i in range(0, len(values), width)])

    def values(self, data: _Bytes, pos: int, end: int, count: int, depth: int) -> list[Any]:
        """Read ``count`` consecutive matrices, as in cells and structs."""
        if count * 8 > end - pos:  # each takes at least a tag
            raise _DamageError(f"{count} values in {end - pos} bytes")
        out = []
        for _ in range(count):
            value, after = self.plain_value(data, pos, end)
            if value is None:
                kind, start, size, after = self.element(data, pos, end)
                if kind != _MATRIX:
                    raise _DamageError(f"a value of type {kind} instead of a matrix at byte {start}")
                value = self.matrix(data, start, start + size, depth + 1)[1]
            out.append(value)
            pos = after
        return out

    def plain_value(self, data: _Bytes, pos: int, end: int) -> tuple[float | np.ndarray | None, int]:
        """Read a real 1x1 or 0x0 matrix in its usual layout, and where the next value starts; None for any other.

        A shortcut for ``element`` and ``matrix``, which give the same result ten times as slowly.
        """
        if pos + 56 > end:
            return None, pos
        kind, size, k1, s1, flags, _, k2, s2, rows, columns, k3, s3, tag, tag_size = self.plain.unpack_from(data, pos)
        if ((kind, k1, s1, k2, s2, k3, s3) != (_MATRIX, _UINT32, 8, _INT32, 8, _INT8, 0)
                or flags & 0xFF not in _NUMERIC or flags & _COMPLEX):
            return None, pos
        if rows == columns == 1:
            if size == 56 and tag == 9 and tag_size == 8 and pos + 64 <= end:
                return self.double.unpack_from(data, pos + 56)[0], pos + 64
            if size == 48 and tag in self.short:
                return float(self.short[tag].unpack_from(data, pos + 52)[0]), pos + 56
        elif rows == columns == 0 and size == 48 and tag in _NUMBERS and tag_size == 0:
            return _EMPTY, pos + 56
        return None, pos
