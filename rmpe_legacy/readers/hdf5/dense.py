"""Large groups in the new form: link messages in a fractal heap, found by the records of a version 2 B-tree."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from .blocks import Blocks, Cursor

MAX_LEVELS = 32
_NAME_INDEX = 5  # type of the B-tree's records: a hash of the name, then the place in the heap
_CHECKSUM = 4


def dense_messages(blocks: Blocks, heap: int, tree: int) -> Iterator[Cursor]:
    """Yield each message of the heap that the tree lists."""
    found = _Heap(blocks, heap)
    for record in _records(blocks, tree):
        record.skip(4)
        yield found.managed(record)


class _Heap:
    """A fractal heap: its direct blocks, and where in the heap's own space each begins."""

    def __init__(self, blocks: Blocks, address: int):
        self._blocks = blocks
        o, size = blocks.offset_size, blocks.length_size
        c = blocks.block(address, 22 + 3 * o + 12 * size + _CHECKSUM, "fractal heap")
        c.signature(b"FRHP")
        c.skip(3)
        filtered, flags = c.number(2), c.number(1)
        if filtered:
            raise blocks.unsupported("a group whose links are compressed")
        self._checked = bool(flags & 2)
        self._largest = c.number(4)
        c.skip(10 * size + 2 * o)
        self._width, self._start, self._most = c.number(2), c.length(), c.length()
        bits = c.number(2)
        c.skip(2)
        root, rows = c.address(), c.number(2)
        powers = all(n > 0 and n & (n - 1) == 0 for n in (self._width, self._start, self._most))
        if not powers or self._start > self._most or not 0 < bits <= 64:
            raise blocks.error(f"a fractal heap of blocks of {self._start} to {self._most} bytes, {self._width} in a "
                               f"row, and {bits} bits")
        self._offset_bytes = -(-bits // 8)
        self._length_bytes = min(_bytes_of(self._most), _bytes_of(self._largest))
        self._begins: list[int] = []
        self._data: list[Cursor] = []
        if rows:
            self._indirect(root, rows, 0, 0)
        elif not blocks.is_nowhere(root):
            self._direct(root, self._start, 0)

    def managed(self, place: Cursor) -> Cursor:
        """The object that an identifier in a record leads to."""
        if place.number(1) & 0x30:
            raise self._blocks.unsupported("a link of more than 64 KB")
        offset, size = place.number(self._offset_bytes), place.number(self._length_bytes)
        i = bisect_right(self._begins, offset) - 1
        if i < 0:
            raise self._blocks.error(f"a link at byte {offset} of a heap that begins later")
        block = self._data[i]
        inside = Cursor(self._blocks, block.at, block.end, "fractal heap")
        inside.skip(offset - self._begins[i])
        return inside.sub(size)

    def _direct(self, address: int, size: int, begin: int) -> None:
        block = self._blocks.block(address, size, "fractal heap")
        self._blocks.peek(address, 4, "fractal heap").signature(b"FHDB")
        if self._begins and begin <= self._begins[-1]:
            raise self._blocks.error("a fractal heap whose blocks are out of order")
        self._begins.append(begin)
        self._data.append(block)

    def _indirect(self, address: int, rows: int, begin: int, level: int) -> None:
        """A block of addresses: rows of direct blocks, which double from the third on, then rows of indirect ones."""
        direct_rows = self._most.bit_length() - self._start.bit_length() + 2
        if level > MAX_LEVELS or rows > 128:
            raise self._blocks.error(f"a fractal heap of {rows} rows at level {level}")
        size = 5 + self._blocks.offset_size + self._offset_bytes + rows * self._width * self._blocks.offset_size
        block = self._blocks.block(address, size + _CHECKSUM, "fractal heap")
        block.signature(b"FHIB")
        block.skip(1 + self._blocks.offset_size + self._offset_bytes)
        for row in range(rows):
            each = self._start << max(row - 1, 0)
            for _ in range(self._width):
                child = block.address()
                if self._blocks.is_nowhere(child):
                    pass
                elif row < direct_rows:
                    self._direct(child, each, begin)
                else:
                    below = each.bit_length() - (self._start * self._width).bit_length() + 1
                    self._indirect(child, below, begin, level + 1)
                begin += each


def _records(blocks: Blocks, address: int) -> Iterator[Cursor]:
    """Every record of a version 2 B-tree."""
    c = blocks.block(address, 16 + blocks.offset_size + 2 + blocks.length_size + _CHECKSUM, "B-tree")
    c.signature(b"BTHD")
    c.skip(1)
    kind, node_size, size, depth = c.number(1), c.number(4), c.number(2), c.number(2)
    c.skip(2)
    root, count = c.address(), c.number(2)
    if kind != _NAME_INDEX or not 0 < size <= node_size or depth > MAX_LEVELS:
        raise blocks.error(f"a B-tree of type {kind}, depth {depth} and records of {size} bytes")
    if not blocks.is_nowhere(root):
        yield from _node(blocks, root, count, depth, node_size, size, _pointers(blocks, node_size, size, depth))


def _pointers(blocks: Blocks, node_size: int, size: int, depth: int) -> list[tuple[int, int]]:
    """By level: how many bytes of a pointer to a node hold the number of its records, and of all below it."""
    most = (node_size - 10) // size
    own, total, pointers = _bytes_of(most), most, [(_bytes_of(most), 0)]
    for _ in range(depth):
        pointer = blocks.offset_size + sum(pointers[-1])
        most = (node_size - 10 - pointer) // (size + pointer)
        if most < 1:
            raise blocks.error(f"a B-tree whose nodes of {node_size} bytes hold nothing")
        total = (most + 1) * total + most
        pointers.append((own, _bytes_of(total)))
    return pointers


def _node(blocks: Blocks, address: int, count: int, depth: int, node_size: int, size: int,
          pointers: list[tuple[int, int]]) -> Iterator[Cursor]:
    node = blocks.block(address, node_size, "B-tree")
    node.signature(b"BTIN" if depth else b"BTLF")
    node.skip(2)
    yield from [node.sub(size) for _ in range(count)]
    if depth:
        own, below = pointers[depth - 1]
        for _ in range(count + 1):
            child, children = node.address(), node.number(own)
            node.skip(below)
            yield from _node(blocks, child, children, depth - 1, node_size, size, pointers)


def _bytes_of(most: int) -> int:
    """How many bytes hold a number up to `most`."""
    return max(1, -(-most.bit_length() // 8))
