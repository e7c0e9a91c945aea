"""The members of a group: in the old form a B-tree and a heap of names, in the new one messages or a fractal heap."""

from __future__ import annotations

from collections.abc import Iterator

from . import header
from .blocks import Blocks, Cursor
from .dense import dense_messages
from .header import Messages

Links = dict[str, int | None]  # name -> address of the object's header; None: a link to elsewhere

_SOFT = 2  # cache type of an old soft link
_HARD = 0
MAX_LEVELS = 32  # of a B-tree


def is_group(messages: Messages) -> bool:
    return any(kind in messages for kind in (header.SYMBOL_TABLE, header.LINK_INFO, header.LINK))


def read_links(blocks: Blocks, messages: Messages) -> Links:
    """Return a group's members, sorted by name."""
    links: Links = {}
    for message in messages.get(header.SYMBOL_TABLE, ()):
        links |= _symbols(blocks, message.address(), message.address())
    for message in messages.get(header.LINK, ()):
        _add_link(blocks, message, links)
    for message in messages.get(header.LINK_INFO, ()):
        for stored in _dense(blocks, message):
            _add_link(blocks, stored, links)
    return dict(sorted(links.items()))


def _symbols(blocks: Blocks, tree: int, heap: int) -> Links:
    names = _heap(blocks, heap)
    return {_name(blocks, names, offset): address for offset, address in _symbol_nodes(blocks, tree, None)}


def _heap(blocks: Blocks, address: int) -> bytes:
    head = blocks.block(address, 8 + 2 * blocks.length_size + blocks.offset_size, "local heap")
    head.signature(b"HEAP")
    head.skip(4)
    size = head.length()
    head.length()
    data = blocks.block(head.address(), size, "local heap")
    return bytes(data.take(size))


def _name(blocks: Blocks, names: bytes, offset: int) -> str:
    end = names.find(b"\0", offset)
    if offset >= len(names) or end < 0:
        raise blocks.error(f"a name at byte {offset} of a heap of {len(names)} bytes")
    return names[offset:end].decode("utf-8", "surrogateescape")


def _symbol_nodes(blocks: Blocks, address: int, level: int | None) -> Iterator[tuple[int, int | None]]:
    """(offset of the name, address of the object) of each member, from a B-tree's node or the table below it."""
    if level == -1:
        yield from _symbol_table(blocks, address)
        return
    for _, child, below in tree_node(blocks, address, 0, blocks.length_size, level):
        yield from _symbol_nodes(blocks, child, below)


def tree_node(blocks: Blocks, address: int, kind: int, key_size: int,
              level: int | None) -> Iterator[tuple[Cursor, int, int]]:
    """Yield (key, address, level) of each child of a node of an old B-tree; -1 is the level of the leaves' entries.

    Args:
        blocks: The file.
        address: Of the node.
        kind: 0 for groups, 1 for chunks.
        key_size: Bytes of a key.
        level: The expected level of this node; None for the root, which may have any.

    Raises:
        FileError: The node is malformed.
    """
    head = blocks.peek(address, 8, "B-tree")
    head.signature(b"TREE")
    own_kind, own_level, count = head.number(1), head.number(1), head.number(2)
    if own_kind != kind or own_level > MAX_LEVELS or level not in (None, own_level):
        raise blocks.error(f"a B-tree of kind {own_kind} and level {own_level} at byte {head.at - 8}")
    size = 8 + 2 * blocks.offset_size + count * (key_size + blocks.offset_size)
    node = blocks.block(address, size, "B-tree")
    node.skip(8 + 2 * blocks.offset_size)
    for _ in range(count):
        yield node.sub(key_size), node.address(), own_level - 1


def _symbol_table(blocks: Blocks, address: int) -> Iterator[tuple[int, int | None]]:
    head = blocks.peek(address, 8, "symbol table")
    head.signature(b"SNOD")
    head.skip(2)
    count, entry = head.number(2), 2 * blocks.offset_size + 24
    node = blocks.block(address, 8 + count * entry, "symbol table")
    node.skip(8)
    for _ in range(count):
        name, target, cached = node.address(), node.address(), node.number(4)
        node.skip(20)
        yield name, None if cached == _SOFT else target


def _add_link(blocks: Blocks, message: Cursor, links: Links) -> None:
    version, flags = message.number(1), message.number(1)
    if version != 1:
        raise blocks.error(f"a link message of version {version}")
    kind = message.number(1) if flags & 8 else _HARD
    message.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    size = message.number(1 << (flags & 3))
    name = bytes(message.take(size)).decode("utf-8", "surrogateescape")
    links[name] = message.address() if kind == _HARD else None


def _dense(blocks: Blocks, message: Cursor) -> Iterator[Cursor]:
    """The link messages that a link-info message leads to."""
    message.skip(1)
    flags = message.number(1)
    message.skip(8 if flags & 1 else 0)
    heap, tree = message.address(), message.address()
    if not blocks.is_nowhere(heap):
        yield from dense_messages(blocks, heap, tree)
