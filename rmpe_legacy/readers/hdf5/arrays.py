"""An array's shape, its type and its values, from the messages of its header."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rmpe_legacy.reading import MAX_DIMS, expanded_limit, item_count

from . import header
from .blocks import Blocks, Cursor
from .groups import tree_node
from .header import Messages

_TEXT = 3
_CLASSES = {2: "times", 4: "bit fields", 5: "opaque values", 6: "records", 7: "references",
            8: "enumerated values", 9: "values of any length", 10: "arrays", 11: "complex numbers"}
_IEEE = {2: (10, 5, 0, 10, 15), 4: (23, 8, 0, 23, 127), 8: (52, 11, 0, 52, 1023)}  # exponent, mantissa, bias by size
_COMPACT, _CONTIGUOUS, _CHUNKED = range(3)
_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_FILTER_NAMES = {4: "szip", 5: "nbit", 6: "scale-offset", 32000: "lzf"}


@dataclass(frozen=True)
class Filter:
    id: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where a dataset's values are stored."""

    kind: int  # _COMPACT, _CONTIGUOUS or _CHUNKED
    address: int = 0
    content: Cursor | None = None  # of a compact one
    chunk: tuple[int, ...] = ()  # in elements


def read_shape(blocks: Blocks, message: Cursor) -> tuple[int, ...] | None:
    """Return the sizes of a dataspace; None for a null dataspace, which has no elements.

    Raises:
        FileError: The dataspace is malformed.
    """
    version, rank = message.number(1), message.number(1)
    if version not in (1, 2) or rank > MAX_DIMS:
        raise blocks.error(f"a dataspace of version {version} with {rank} dimensions")
    message.skip(1)  # whether the largest sizes follow
    if version == 1:
        message.skip(5)
    elif message.number(1) == 2:
        return None
    shape = tuple(message.length() for _ in range(rank))
    if item_count(shape) is None:
        raise blocks.error(f"an array of {' x '.join(map(str, shape))} values")
    return shape


def read_dtype(message: Cursor) -> np.dtype | str:
    """Return the dtype of an array of numbers or fixed-length strings; for any other type, a description of it."""
    first, bits = message.number(1), message.number(3)
    size, kind = message.number(4), first & 15
    if kind == _TEXT and size:
        return np.dtype(f"S{size}")
    if kind > 1:
        return _CLASSES.get(kind, "values of an unknown type")
    order = ">" if bits & 1 else "<"
    offset, precision = message.number(2), message.number(2)
    if kind == 0:
        whole = offset == 0 and precision == 8 * size and size in (1, 2, 4, 8)
        return np.dtype(f"{order}{'i' if bits & 8 else 'u'}{size}") if whole else f"integers of {precision} bits"
    form = (*(message.number(1) for _ in range(4)), message.number(4))
    ieee = offset == 0 and precision == 8 * size and _IEEE.get(size) == form and not bits & 64
    return np.dtype(f"{order}f{size}") if ieee else f"floating-point numbers of {precision} bits"


def read_layout(blocks: Blocks, message: Cursor) -> Layout:
    version = message.number(1)
    if version in (1, 2):
        rank, kind = message.number(1), message.number(1)
        message.skip(5)
        address = 0 if kind == _COMPACT else message.address()
        sizes = tuple(message.number(4) for _ in range(rank))
        if kind == _COMPACT:
            return Layout(kind, content=message.sub(message.number(4)))
        return Layout(kind, address, chunk=sizes)
    if version != 3:
        raise blocks.unsupported(f"an array whose layout is of version {version} (libver='latest', or virtual)")
    kind = message.number(1)
    if kind == _COMPACT:
        return Layout(kind, content=message.sub(message.number(2)))
    if kind == _CONTIGUOUS:
        return Layout(kind, message.address())
    rank, address = message.number(1), message.address()
    return Layout(kind, address, chunk=tuple(message.number(4) for _ in range(rank - 1)))


def read_filters(blocks: Blocks, message: Cursor) -> list[Filter]:
    version, count = message.number(1), message.number(1)
    if version == 1:
        message.skip(6)
    filters = []
    for _ in range(count):
        kind = message.number(2)
        name_size = message.number(2) if version == 1 or kind >= 256 else 0
        message.skip(2)
        values = message.number(2)
        message.skip(name_size)
        filters.append(Filter(kind, tuple(message.number(4) for _ in range(values))))
        if version == 1 and values % 2:
            message.skip(4)
        if kind not in (_DEFLATE, _SHUFFLE, _FLETCHER32):
            raise blocks.unsupported(f"an array compressed with {_FILTER_NAMES.get(kind, f'filter {kind}')}")
    return filters


def read_values(blocks: Blocks, messages: Messages, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return the values of the array `name`, in `shape` and in the file's byte order; a view of the file if contiguous.
    """
    layout = read_layout(blocks, messages[header.LAYOUT][0])
    size = math.prod(shape) * dtype.itemsize
    if layout.kind == _COMPACT or (layout.kind == _CONTIGUOUS and not blocks.is_nowhere(layout.address)):
        block = layout.content or blocks.block(layout.address, size, "array")
        if not size:
            return np.empty(shape, dtype)
        return np.frombuffer(block.take(size), dtype).reshape(shape)
    blocks.expand(size, name)
    out = np.full(shape, _fill(messages, dtype), dtype)
    if layout.kind == _CHUNKED and not blocks.is_nowhere(layout.address):
        filters = [f for message in messages.get(header.FILTERS, ()) for f in read_filters(blocks, message)]
        _read_chunks(blocks, layout, filters, out)
    return out


def _fill(messages: Messages, dtype: np.dtype) -> np.ndarray:
    """What stands where nothing was written: one value."""
    raw = b""
    for message in messages.get(header.FILL, ())[:1]:
        version, flags = message.number(1), message.number(1)
        if version < 3:
            message.skip(1)
        if (message.number(1) if version < 3 else flags & 32) and message.left >= 4:
            raw = bytes(message.take(message.number(4)))
    return np.frombuffer(raw if len(raw) == dtype.itemsize else bytes(dtype.itemsize), dtype)[0]


def _read_chunks(blocks: Blocks, layout: Layout, filters: list[Filter], out: np.ndarray) -> None:
    chunk = layout.chunk[: out.ndim]
    if len(chunk) != out.ndim or 0 in chunk:
        raise blocks.error(f"chunks of {chunk} for an array of {out.shape}")
    size, budget = math.prod(chunk) * out.itemsize, expanded_limit(len(blocks.data))
    for key, address in _chunks(blocks, layout.address, out.ndim):
        stored, mask = key.number(4), key.number(4)
        begin = [key.number(8) for _ in range(out.ndim)]
        if any(b >= n or b % c for b, n, c in zip(begin, out.shape, chunk, strict=True)):
            raise blocks.error(f"a chunk at {begin}, outside the array of {out.shape}")
        data = _decoded(blocks, blocks.block(address, stored, "chunk").take(stored), filters, mask, size, out.itemsize)
        budget -= len(data)
        if len(data) != size or budget < 0:
            raise blocks.error(f"a chunk of {len(data)} bytes, but {size} are needed")
        inside = tuple(slice(b, b + c) for b, c in zip(begin, chunk, strict=True))
        part = out[inside]
        part[...] = np.frombuffer(data, out.dtype).reshape(chunk)[tuple(slice(n) for n in part.shape)]


def _chunks(blocks: Blocks, address: int, rank: int, level: int | None = None) -> Iterator[tuple[Cursor, int]]:
    if level == -1:
        return
    for key, child, below in tree_node(blocks, address, 1, 8 + 8 * (rank + 1), level):
        if below == -1:
            yield key, child
        else:
            yield from _chunks(blocks, child, rank, below)


def _decoded(blocks: Blocks, data: memoryview | bytes, filters: list[Filter], mask: int, size: int,
             itemsize: int) -> memoryview | bytes:
    """A chunk's `size` bytes; the filters are undone from the last to the first, but those in the mask."""
    for i, each in reversed(list(enumerate(filters))):
        if mask >> i & 1:
            continue
        if each.id == _DEFLATE:
            data = _inflated(blocks, data, size)
        elif each.id == _FLETCHER32:
            data = _checked(blocks, data)
        else:
            data = _unshuffled(data, each.values[0] if each.values else itemsize)
    return data


def _inflated(blocks: Blocks, data: memoryview | bytes, size: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        out = unpack.decompress(data, size + _FLETCHER32 + 1)
    except zlib.error as error:
        raise blocks.error(f"a chunk that cannot be unpacked ({error})") from None
    return out


def _unshuffled(data: memoryview | bytes, width: int) -> memoryview | bytes:
    """All first bytes of the elements came first, then all second ones."""
    values = np.frombuffer(data, np.uint8)
    count = len(values) // width if width else 0
    if count < 2 or width < 2:
        return data
    whole = values[: count * width].reshape(width, count).T.tobytes()
    return whole + values[count * width :].tobytes()


def _checked(blocks: Blocks, data: memoryview | bytes) -> memoryview | bytes:
    """A chunk without the checksum at its end (Fletcher's, of 32 bits), which must be right."""
    body, stored = data[:-4], int.from_bytes(data[-4:], "little")
    words = np.frombuffer(bytes(body) + b"\0" * (len(body) % 2), ">u2").astype(np.uint64)
    weights = np.arange(len(words), 0, -1, dtype=np.uint64) % 65535
    sums = int(words.sum()) % 65535, int((words * weights % 65535).sum()) % 65535
    if (stored & 0xFFFF) % 65535 != sums[0] or (stored >> 16) % 65535 != sums[1]:
        raise blocks.error("a chunk with a wrong checksum")
    return body
