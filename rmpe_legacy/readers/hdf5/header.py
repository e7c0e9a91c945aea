"""Object headers: the messages that describe a group or an array."""

from __future__ import annotations

from .blocks import Blocks, Cursor

DATASPACE, LINK_INFO, DATATYPE, FILL_OLD, FILL, LINK, EXTERNAL, LAYOUT, FILTERS = 1, 2, 3, 4, 5, 6, 7, 8, 11
CONTINUATION, SYMBOL_TABLE = 16, 17
SHARED = 2  # flag of a message whose content stands elsewhere

Messages = dict[int, list[Cursor]]  # by type, in the file's order


def read_header(blocks: Blocks, address: int) -> Messages:
    """Return the messages of one object, without shared messages, whose content is stored elsewhere and is not read."""
    start = blocks.peek(address, 4, "object header")
    new = bytes(start.take(4)) == b"OHDR"
    messages: Messages = {}
    waiting = [_new_first(blocks, address) if new else _old_first(blocks, address)]
    while waiting:
        block, ordered = waiting.pop()
        while block.left >= (4 if new else 8):
            kind, size = block.number(1 if new else 2), block.number(2)
            flags = block.number(1)
            block.skip((2 if ordered else 0) if new else 3)
            content = block.sub(size)
            if kind == CONTINUATION:
                waiting.append((_continuation(blocks, content, new), ordered))
            elif not flags & SHARED:
                messages.setdefault(kind, []).append(content)
    return messages


def _old_first(blocks: Blocks, address: int) -> tuple[Cursor, bool]:
    head = blocks.peek(address, 16, "object header")
    version = head.number(1)
    if version != 1:
        raise blocks.error(f"no object header at byte {head.at - 1}")
    head.skip(7)
    size = head.number(4)
    block = blocks.block(address, 16 + size, "object header")
    block.skip(16)
    return block, False


def _new_first(blocks: Blocks, address: int) -> tuple[Cursor, bool]:
    head = blocks.peek(address, 6, "object header")
    head.skip(4)
    version, flags = head.number(1), head.number(1)
    if version != 2:
        raise blocks.error(f"an object header of version {version} at byte {head.at - 6}")
    before = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
    width = 1 << (flags & 3)
    sized = blocks.peek(address, before + width, "object header")
    sized.skip(before)
    size = sized.number(width)
    block = blocks.block(address, before + width + size + 4, "object header")
    block.skip(before + width)
    return block.sub(size), bool(flags & 4)


def _continuation(blocks: Blocks, message: Cursor, new: bool) -> Cursor:
    block = blocks.block(message.address(), message.length(), "object header")
    if not new:
        return block
    block.signature(b"OCHK")
    return block.sub(block.left - 4) if block.left >= 4 else block
