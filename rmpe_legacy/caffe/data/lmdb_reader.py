"""Reads an LMDB without the LMDB library: the records of data.mdb in key order, from a memory map.

The LMDB library trusts the file: a truncated one kills the process with a bus error. Here every offset is checked
before it is used, nothing is written next to the database, and values are views of the map.
Format: lmdb.h, mdb.c of LMDB 0.9 (data version 1), 64-bit and little-endian, as Caffe's tools write it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import cannot_open

MAGIC, VERSION = 0xBEEFC0DE, 1
HEADER = 16  # bytes at the start of a page: number u64, pad u16, flags u16, lower u16, upper u16
BRANCH, LEAF, OVERFLOW, META = 1, 2, 4, 8
BIG_DATA, SUB_DATA, DUPLICATES = 1, 2, 4
NO_PAGE = (1 << 64) - 1
MAX_DEPTH = 32  # LMDB's CURSOR_STACK

_PAGE = struct.Struct("<QHHHH")
_NODE = struct.Struct("<HHHH")  # size or page: low, high; flags; key's size
_META = struct.Struct("<IIQQ")  # magic, version, address, map size
_TREE = struct.Struct("<IHHQQQQQ")  # pad (page size in the first), flags, depth, branch, leaf, overflow, entries, root
_TAIL = struct.Struct("<QQ")  # last page, transaction

Record = tuple[bytes, memoryview]


@dataclass(frozen=True)
class _Snapshot:
    """What a meta page says."""

    page_size: int
    entries: int
    root: int
    last_page: int
    transaction: int


class LmdbReader:
    """The records of one LMDB. Iterating yields (key, value) in key order, as a cursor would."""

    def __init__(self, path: str | os.PathLike):
        """path: the store's folder, or its data file."""
        self.path = str(path)
        file = Path(path) / "data.mdb" if os.path.isdir(path) else Path(path)
        try:
            with open(file, "rb") as opened:
                if os.fstat(opened.fileno()).st_size < 2 * HEADER:
                    raise FileError(f"{file}: too short for an LMDB; the file is truncated or of another kind")
                self._map = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise cannot_open(file, error) from None
        self._file = str(file)
        self._snapshot = self._newest()

    def __len__(self) -> int:
        return self._snapshot.entries

    def __iter__(self) -> Iterator[Record]:
        if self._snapshot.root != NO_PAGE:
            yield from self._walk(self._snapshot.root, 0, bytearray(self._snapshot.last_page + 1))

    def _error(self, reason: str) -> FileError:
        return FileError(f"{self._file}: not a readable LMDB: {reason}; the file is truncated, damaged or of another "
                         "kind")

    def _newest(self) -> _Snapshot:
        """The meta page of the last transaction; two take turns."""
        first = self._meta(0)
        second = self._meta(first.page_size)
        newest = max(first, second, key=lambda meta: meta.transaction)
        if newest.last_page >= len(self._map) // first.page_size:
            raise self._error(f"page {newest.last_page} is the last one in use, the file has "
                              f"{len(self._map) // first.page_size}")
        return _Snapshot(first.page_size, newest.entries, newest.root, newest.last_page, newest.transaction)

    def _meta(self, at: int) -> _Snapshot:
        trees = at + HEADER + _META.size
        end = trees + 2 * _TREE.size + _TAIL.size
        if end > len(self._map):
            raise self._error("it ends inside its meta pages")
        flags = _PAGE.unpack_from(self._map, at)[2]
        magic, version, *_ = _META.unpack_from(self._map, at + HEADER)
        if not flags & META or magic != MAGIC:
            raise self._error("no meta page where one is expected")
        if version != VERSION:
            raise self._error(f"data version {version} instead of {VERSION}")
        page_size = _TREE.unpack_from(self._map, trees)[0]
        if not 512 <= page_size <= 65536 or page_size & (page_size - 1):
            raise self._error(f"a page size of {page_size}")
        entries, root = _TREE.unpack_from(self._map, trees + _TREE.size)[6:]
        return _Snapshot(page_size, entries, root, *_TAIL.unpack_from(self._map, end - _TAIL.size))

    def _visit(self, number: int, seen: bytearray) -> None:
        """Note that a link leads to this page: no other one may, or a small file could have records without end."""
        if not 2 <= number <= self._snapshot.last_page:
            raise self._error(f"a link to page {number}, but there are {self._snapshot.last_page + 1} pages")
        if seen[number]:
            raise self._error(f"two links to page {number}")
        seen[number] = 1

    def _page(self, number: int, kinds: int) -> tuple[memoryview, int, int]:
        """(page, its flags, how many nodes it has)."""
        size = self._snapshot.page_size
        page = self._map[number * size : (number + 1) * size]
        own, _, flags, lower, _ = _PAGE.unpack_from(page)
        if own != number or not flags & kinds or not HEADER <= lower <= size:
            raise self._error(f"page {number} is not what its link says")
        return page, flags, (lower - HEADER) // 2

    def _walk(self, number: int, depth: int, seen: bytearray) -> Iterator[Record]:
        """The records below a page. seen: a byte for each page of the file, 1 where one was visited."""
        if depth > MAX_DEPTH:
            raise self._error(f"a tree of more than {MAX_DEPTH} levels")
        self._visit(number, seen)
        page, flags, count = self._page(number, BRANCH | LEAF)
        offsets = struct.unpack_from(f"<{count}H", page, HEADER)
        if len(set(offsets)) < count:
            raise self._error(f"two links to a node of page {number}")
        for offset in offsets:
            if offset + _NODE.size > len(page):
                raise self._error(f"a node outside page {number}")
            low, high, kind, key_size = _NODE.unpack_from(page, offset)
            if flags & BRANCH:
                yield from self._walk(low | high << 16 | kind << 32, depth + 1, seen)
                continue
            begin = offset + _NODE.size + key_size
            if begin > len(page):
                raise self._error(f"a key outside page {number}")
            key = bytes(page[begin - key_size : begin])
            yield key, self._value(page, begin, low | high << 16, kind, key, seen)

    def _value(self, page: memoryview, begin: int, size: int, kind: int, key: bytes, seen: bytearray) -> memoryview:
        if kind & (SUB_DATA | DUPLICATES):
            raise self._error(f"record {key!r} is a database of its own, which Caffe's stores do not contain")
        if kind & BIG_DATA:
            if begin + 8 > len(page):
                raise self._error(f"record {key!r} has no value")
            number, = struct.unpack_from("<Q", page, begin)
            self._visit(number, seen)
            self._overflow(number)
            page, begin = self._map, number * self._snapshot.page_size + HEADER
        if size > len(page) - begin:
            raise self._error(f"record {key!r} of {size} bytes, but only {len(page) - begin} are left")
        return page[begin : begin + size]

    def _overflow(self, number: int) -> None:
        own, _, flags, _, _ = _PAGE.unpack_from(self._map, number * self._snapshot.page_size)
        if own != number or not flags & OVERFLOW:
            raise self._error(f"page {number} is not what its link says")
