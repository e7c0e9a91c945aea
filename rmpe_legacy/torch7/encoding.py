"""Torch7's encodings of numbers: binary in either byte order with longs of 4 or 8 bytes, or text.

Source: lib/TH/THDiskFile.c, torch7@814ea4a. A file does not say which one it uses.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError

MAX_TOKEN = 64  # characters of one number; Torch7 writes 24 at most
_TOKEN = re.compile(rb"\s*([-+.0-9A-Za-z]{1,%d})(?=\s|\Z)" % MAX_TOKEN)
_SPACE = re.compile(rb"\s*")


class Encoding:
    """Shared by both encodings: a position in a buffer."""

    path: str
    at: int
    end: int

    def error(self, reason: str, at: int | None = None) -> FileError:
        return _error(self.path, reason, self.at if at is None else at)

    @property
    def left(self) -> int:
        return self.end - self.at


class Binary(Encoding):
    """Binary numbers. Every size is checked against the bytes that are left."""

    text = False

    def __init__(self, buffer, order: str, long_size: int, path: str):
        self.buffer = buffer
        self.path = path
        self.order, self.long_size = order, long_size
        self.at, self.end = 0, len(buffer)
        self._int = struct.Struct(order + "i").unpack_from
        self._long = struct.Struct(order + ("q" if long_size == 8 else "i")).unpack_from
        self._double = struct.Struct(order + "d").unpack_from
        self.least_object = 4  # bytes of the shortest object, nil
        self.least_value = 1

    @property
    def at_end(self) -> bool:
        return self.at >= self.end

    def _take(self, size: int, what: str) -> int:
        """Skip `size` bytes and return where they start."""
        if size > self.end - self.at:
            raise self.error(f"{what} of {size} bytes, but only {self.left} are left")
        self.at += size
        return self.at - size

    def read_int(self) -> int:
        return self._int(self.buffer, self._take(4, "a number"))[0]

    def read_double(self) -> float:
        return self._double(self.buffer, self._take(8, "a number"))[0]

    def read_long(self) -> int:
        return self._long(self.buffer, self._take(self.long_size, "a number"))[0]

    def read_longs(self, count: int) -> list[int]:
        at = self._take(count * self.long_size, f"{count} numbers")
        return list(struct.unpack_from(f"{self.order}{count}{'q' if self.long_size == 8 else 'i'}", self.buffer, at))

    def read_bytes(self, count: int, what: str) -> bytes:
        at = self._take(count, what)
        return self.buffer[at : at + count]

    def read_array(self, kind: str, count: int) -> np.ndarray:
        """Return `count` elements of a numpy kind ("f4", ...; "long" is the file's own), (count,), as a view of the
        file.
        """
        dtype = np.dtype(self.order + (f"i{self.long_size}" if kind == "long" else kind))
        at = self._take(count * dtype.itemsize, f"a storage of {count} elements,")
        return np.frombuffer(self.buffer, dtype, count, at) if count else np.empty(0, dtype)


class Ascii(Encoding):
    """Decimal text, after optional white space; bytes and characters are stored as they are."""

    text = True
    order, long_size = "=", 8

    def __init__(self, buffer, path: str):
        self.buffer = buffer
        self.path = path
        self.at, self.end = 0, len(buffer)
        self.least_object = 2  # a digit and a line feed
        self.least_value = 2

    @property
    def at_end(self) -> bool:
        space: Any = _SPACE.match(self.buffer, self.at)  # it matches nothing too
        return space.end() >= self.end

    def _token(self) -> bytes:
        found = _TOKEN.match(self.buffer, self.at)
        if found is None:
            raise self.error("the text ends, or has no number, where one is expected")
        self.at = found.end()
        return found[1]

    def _number(self, convert: Callable) -> Any:
        at = self.at
        token = self._token()
        try:
            return convert(token)
        except ValueError:
            raise self.error(f"{token.decode('ascii')!r} where a number is expected", at) from None

    def _end_array(self) -> None:
        """Skip the line feed that ends an array; a string may start with another."""
        if self.buffer[self.at : self.at + 1] == b"\n":
            self.at += 1

    def read_int(self) -> int:
        value = self._number(int)
        self._end_array()
        return value

    def read_double(self) -> float:
        value = self._number(float)
        self._end_array()
        return value

    read_long = read_int

    def read_longs(self, count: int) -> list[int]:
        values = [self._number(int) for _ in range(count)]
        if count:
            self._end_array()
        return values

    def read_bytes(self, count: int, what: str) -> bytes:
        if count > self.left:
            raise self.error(f"{what} of {count} bytes, but only {self.left} are left")
        self.at += count
        value = self.buffer[self.at - count : self.at]
        if count:
            self._end_array()
        return value

    def read_array(self, kind: str, count: int) -> np.ndarray:
        """Return `count` elements of a numpy kind, (count,), parsed from the text.

        Raises:
            FileError: The file has fewer bytes left, or contains something other than numbers.
        """
        dtype = np.dtype("i8" if kind == "long" else kind)
        if dtype.itemsize == 1:
            return np.frombuffer(self.read_bytes(count, f"a storage of {count} elements,"), dtype)
        if count * self.least_value - 1 > self.left:
            raise self.error(f"a storage of {count} elements, but only {self.left} bytes are left")
        at, convert = self.at, float if dtype.kind == "f" else int
        tokens = self._tokens(count)
        try:
            wide = np.fromiter(map(convert, tokens), np.float64 if convert is float else np.int64, count)
        except (ValueError, OverflowError):
            raise self.error("a storage with something other than numbers", at) from None
        with np.errstate(over="ignore"):
            return wide.astype(dtype)

    def _tokens(self, count: int) -> list[bytes]:
        """Return the next `count` tokens; in a valid file they are the rest of the line, and no more of it is read."""
        most = self.at + count * (MAX_TOKEN + 1)
        end = self.buffer.find(b"\n", self.at, most + 1)
        line = self.buffer[self.at : most if end < 0 else end].split()
        if (end >= 0 or most >= self.end) and len(line) == count and max(map(len, line), default=0) <= MAX_TOKEN:
            self.at = self.end if end < 0 else end + (count > 0)
            return line
        tokens = [self._token() for _ in range(count)]
        if count:
            self._end_array()
        return tokens


def _error(path: str, reason: str, at: int) -> FileError:
    return FileError(f"{path}: not a readable Torch7 file: {reason} at byte {at}; "
                     "the file is truncated, damaged or of another kind")
