"""Reads a LevelDB without the LevelDB library: the live records in key order. Nothing is written.

The LevelDB library rewrites a database whenever it opens it. Format: doc/{impl,log_format,table_format}.md of
google/leveldb. Keys are compared bytewise, as Caffe's stores are; blocks are plain or compressed with snappy.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from pathlib import Path

from rmpe_legacy import _host
from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import cannot_open

LOG_BLOCK = 32768
LEVELS = 7
# In bytes, so that keys which repeat a long beginning cannot fill the memory. Differs: LevelDB has no limit; Caffe's
# keys are file names.
MAX_KEY = 8192
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
FOOTER, TABLE_MAGIC = 48, 0xDB4775248B80FB57
TRAILER = 5  # bytes after a block: its compression and its checksum
PLAIN, SNAPPY = 0, 1
DELETION, VALUE = 0, 1
COMPARATOR, LOG_NUMBER, NEXT_FILE, LAST_SEQUENCE, COMPACT_POINTER, DELETED_FILE, NEW_FILE = 1, 2, 3, 4, 5, 6, 7
PREVIOUS_LOG = 9
BYTEWISE = b"leveldb.BytewiseComparator"

NOTHING = memoryview(b"")
_CHUNK = struct.Struct("<IHB")  # masked checksum, length, kind
Record = tuple[bytes, memoryview]
Entry = tuple[bytes, int, int, memoryview]  # key, minus its sequence number, VALUE or DELETION, value


class LevelDbReader:
    """The records of one LevelDB. Iterating yields (key, value) in key order: the newest of each key."""

    def __init__(self, path: str | os.PathLike):
        """path: the store's folder."""
        self.path = str(path)
        current = _read(Path(path) / "CURRENT")
        name = bytes(current).decode("ascii", "replace").rstrip("\n")
        if not name.startswith("MANIFEST-") or "/" in name:
            raise FileError(f"{self.path}/CURRENT: names {name!r}, not a MANIFEST; the store is damaged")
        self._version = _version(_Log(Path(path) / name))
        self._logs = self._written_since()
        self._tables: dict[int, _Table] = {}

    def __iter__(self) -> Iterator[Record]:
        last = None
        for key, _, kind, value in merge(*self._sources(), key=itemgetter(0, 1)):
            if key != last and kind == VALUE:
                yield key, value
            last = key

    def _sources(self) -> list[Iterator[Entry]]:
        """Level 0's files may overlap, so each is a source; a deeper level's follow each other."""
        sources = [iter(self._logs)]
        for level, files in sorted(self._version.levels.items()):
            ordered = sorted(files.items(), key=itemgetter(1))
            if level == 0:
                sources += [iter(self._table(number)) for number, _ in ordered]
            else:
                sources.append(entry for number, _ in ordered for entry in self._table(number))
        return sources

    def _table(self, number: int) -> _Table:
        if number not in self._tables:
            names = [Path(self.path) / f"{number:06d}.{kind}" for kind in ("ldb", "sst")]
            self._tables[number] = _Table(next((n for n in names if os.path.exists(n)), names[0]))
        return self._tables[number]

    def _written_since(self) -> list[Entry]:
        """The records of the logs that are not in a table yet."""
        wanted = self._version
        numbers = sorted(int(p.stem) for p in Path(self.path).glob("*.log") if p.stem.isdigit())
        entries: list[Entry] = []
        for number in numbers:
            if number >= wanted.log or number == wanted.previous_log:
                log = _Log(Path(self.path) / f"{number:06d}.log")
                for batch in log.records():
                    entries += _batch(log, batch)
        return sorted(entries, key=itemgetter(0, 1))


@dataclass
class _Version:
    """The live tables and logs, according to the manifest."""

    log: int = 0
    previous_log: int = 0
    levels: dict[int, dict[int, bytes]] = field(default_factory=dict)  # level -> file number -> its smallest key


class _Bytes:
    """Numbers and strings out of a buffer, each checked against its end."""

    def __init__(self, data: memoryview, path: str):
        self.data, self.path, self.at = data, path, 0

    def error(self, reason: str) -> FileError:
        return FileError(f"{self.path}: not a readable LevelDB file: {reason}; the file is truncated, damaged or of "
                         "another kind")

    def varint(self) -> int:
        value = shift = 0
        while self.at < len(self.data) and shift < 64:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise self.error(f"a number that does not end at byte {self.at}")

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise self.error(f"{size} bytes at byte {self.at}, but only {len(self.data) - self.at} are left")
        self.at += size
        return self.data[self.at - size : self.at]

    def string(self) -> memoryview:
        return self.take(self.varint())


class _Log:
    """A log or a manifest: records in pieces, in blocks of 32 KiB."""

    def __init__(self, path: Path):
        self.path = str(path)
        self._data = _read(path)

    def records(self) -> Iterator[memoryview]:
        """Each record whole. One that the end of the file cuts off was never finished, as LevelDB sees it."""
        parts: list[memoryview] = []
        for kind, piece in self._pieces():
            if kind in (FULL, FIRST):
                parts = []
            elif not parts:
                raise _Bytes(piece, self.path).error("a record without its first fragment")
            parts.append(piece)
            if kind in (FULL, LAST):
                yield parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
                parts = []

    def _pieces(self) -> Iterator[tuple[int, memoryview]]:
        for start in range(0, len(self._data), LOG_BLOCK):
            block = _Bytes(self._data[start : start + LOG_BLOCK], self.path)
            while len(block.data) - block.at >= _CHUNK.size:
                checksum, length, kind = _CHUNK.unpack_from(block.data, block.at)
                if kind == 0 and length == 0:
                    break  # room that was set aside and never written
                if length > len(block.data) - block.at - _CHUNK.size and start + LOG_BLOCK >= len(self._data):
                    return
                block.take(_CHUNK.size)
                piece = block.take(length)
                if kind not in (FULL, FIRST, MIDDLE, LAST):
                    raise block.error(f"a fragment of unknown kind {kind}")
                _check(block, checksum, block.data[block.at - length - 1 : block.at])
                yield kind, piece


def _batch(log: _Log, batch: memoryview) -> Iterator[Entry]:
    """The entries of one write."""
    data = _Bytes(batch, log.path)
    sequence, count = struct.unpack("<QI", data.take(12))
    for i in range(count):
        kind = data.take(1)[0]
        if kind not in (DELETION, VALUE):
            raise data.error(f"an entry of unknown kind {kind}")
        key = bytes(data.string())
        yield key, -(sequence + i), kind, data.string() if kind == VALUE else NOTHING


def _version(manifest: _Log) -> _Version:
    """All edits of the manifest, in order."""
    version = _Version()
    for record in manifest.records():
        edit = _Bytes(record, manifest.path)
        while edit.at < len(record):
            _edit(version, edit, edit.varint())
    return version


def _edit(version: _Version, edit: _Bytes, tag: int) -> None:
    if tag == COMPARATOR:
        if (name := bytes(edit.string())) != BYTEWISE:
            raise edit.error(f"keys in the order of {name.decode('ascii', 'replace')!r}, not bytewise")
    elif tag == LOG_NUMBER:
        version.log = edit.varint()
    elif tag == PREVIOUS_LOG:
        version.previous_log = edit.varint()
    elif tag in (NEXT_FILE, LAST_SEQUENCE):
        edit.varint()
    elif tag == COMPACT_POINTER:
        edit.varint()
        edit.string()
    elif tag == DELETED_FILE:
        level = edit.varint()
        version.levels.get(level, {}).pop(edit.varint(), None)
    elif tag == NEW_FILE:
        level, number, _ = edit.varint(), edit.varint(), edit.varint()
        if level >= LEVELS or any(number in files for files in version.levels.values()):
            raise edit.error(f"table {number} at level {level}, which is listed twice or too deep")
        version.levels.setdefault(level, {})[number] = bytes(edit.string())
        edit.string()
    else:
        raise edit.error(f"an edit of kind {tag}")


class _Table:
    """One sorted table: an index block that leads to the data blocks."""

    def __init__(self, path: Path):
        self.path = str(path)
        self._data = _read(path)
        if len(self._data) < FOOTER or struct.unpack("<Q", self._data[-8:])[0] != TABLE_MAGIC:
            raise _Bytes(self._data, self.path).error("no table footer")
        footer = _Bytes(self._data[-FOOTER:], self.path)
        footer.varint(), footer.varint()  # the filters' index
        self._index = footer.varint(), footer.varint()

    def __iter__(self) -> Iterator[Entry]:
        """The entries in order. Blocks follow each other in the file, and no two keys are the same."""
        last, end = (b"", -math.inf), 0
        for _, handle in self._entries(*self._index):
            place = _Bytes(handle, self.path)
            offset, size = place.varint(), place.varint()
            if offset < end:
                raise place.error(f"two links to the block at byte {offset}")
            end = offset + size + TRAILER
            for key, value in self._entries(offset, size):
                if len(key) < 8:
                    raise place.error(f"a key of {len(key)} bytes")
                tail, = struct.unpack("<Q", key[-8:])
                this = key[:-8], -tail
                if this <= last:
                    raise place.error("keys out of order")
                last = this
                yield key[:-8], -(tail >> 8), tail & 255, value

    def _entries(self, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
        """The keys and values of one block; a key gives only what differs from the one before it."""
        block = self._block(offset, size)
        if len(block.data) < 4:
            raise block.error("a block without its trailer")
        restarts, = struct.unpack("<I", block.data[-4:])
        end = len(block.data) - 4 - 4 * restarts
        if end < 0:
            raise block.error(f"a block of {len(block.data)} bytes with {restarts} restarts")
        block.data = block.data[:end]
        key = b""
        while block.at < end:
            shared, rest, length = block.varint(), block.varint(), block.varint()
            if shared > len(key):
                raise block.error("a key that shares more bytes than the key before it has")
            if shared + rest > MAX_KEY:
                raise block.error(f"a key of {shared + rest} bytes")
            key = key[:shared] + bytes(block.take(rest))
            yield key, block.take(length)

    def _block(self, offset: int, size: int) -> _Bytes:
        whole = _Bytes(self._data, self.path)
        if offset > len(self._data):
            raise whole.error(f"a block at byte {offset} of a file of {len(self._data)} bytes")
        whole.at = offset
        content, kind = whole.take(size), whole.take(1)[0]
        checksum, = struct.unpack("<I", whole.take(4))
        _check(whole, checksum, self._data[offset : offset + size + 1])
        if kind == SNAPPY:
            try:
                content = memoryview(_host.snappy_decompress(content))
            except ValueError as error:
                raise whole.error(str(error)) from None
        elif kind != PLAIN:
            raise whole.error(f"a block of compression {kind}; only snappy and uncompressed blocks are supported")
        return _Bytes(content, self.path)


def _check(where: _Bytes, masked: int, data: memoryview) -> None:
    crc = _host.crc32c(data)
    if masked != ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF:
        raise where.error(f"wrong checksum before byte {where.at}")


def _read(path: Path) -> memoryview:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from None
