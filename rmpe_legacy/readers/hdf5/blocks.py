"""The blocks of an HDF5 file: each lies inside the file and is visited once, so the file's size bounds the work."""

from __future__ import annotations

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import expanded_limit

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_SIZES = (2, 4, 8)  # bytes of an address or a length


class Blocks:
    """A mapped file with its superblock read. Addresses count from `base`, the end of a user's own block."""

    def __init__(self, data: memoryview, path: str):
        self.data, self.path = data, path
        self._claimed = 0
        self._expanded = 0
        self._begins: set[int] = set()
        self.base = self._find_signature()
        self.offset_size = self.length_size = 8
        self.root = self._superblock()  # address of the root group's object header

    def error(self, reason: str) -> FileError:
        return FileError(f"{self.path}: not a readable HDF5 file: {reason}; the file is truncated or damaged")

    def unsupported(self, what: str) -> FileError:
        return FileError(f"{self.path}: {what}, which is not supported; write the file again with h5py's defaults")

    def block(self, address: int, size: int, what: str) -> Cursor:
        """Return a cursor over a block that nothing has visited yet.

        Raises:
            FileError: The block was visited before, or lies beyond the file's end.
        """
        cursor = self.peek(address, size, what)
        self._claimed += size
        if cursor.at in self._begins or self._claimed > len(self.data):
            raise self.error(f"two links lead to the {what} at byte {cursor.at}")
        self._begins.add(cursor.at)
        return cursor

    def peek(self, address: int, size: int, what: str) -> Cursor:
        """Return a cursor over a block without marking it as visited, to read how long the block is.

        Raises:
            FileError: The block lies beyond the file's end.
        """
        begin = self.base + address
        if size > len(self.data) - begin:
            raise self.error(f"a {what} of {size} bytes at byte {begin}, beyond the file's end")
        return Cursor(self, begin, begin + size, what)

    def expand(self, size: int, name: str) -> None:
        """Account for memory that an array will take if the file holds it in a shorter form; called before allocating
        it.

        Raises:
            FileError: The array would be too large for a file of this size.
        """
        self._expanded += size
        if self._expanded > expanded_limit(len(self.data)):
            raise FileError(f"{self.path}: {name}: claims {size} bytes, too much for a file of {len(self.data)} "
                            "bytes; the file is damaged")

    def is_nowhere(self, address: int) -> bool:
        """Return whether an address means that nothing was written."""
        return address == (1 << 8 * self.offset_size) - 1

    def _find_signature(self) -> int:
        at = 0
        while at + len(SIGNATURE) <= len(self.data):
            if self.data[at : at + len(SIGNATURE)] == SIGNATURE:
                return at
            at = max(512, 2 * at)
        raise FileError(f"{self.path}: not a readable HDF5 file: it has no HDF5 signature; the file is of another kind")

    def _superblock(self) -> int:
        size = min(128, len(self.data) - self.base)
        c = self.peek(0, size, "superblock")
        c.skip(len(SIGNATURE))
        version = c.number(1)
        if version > 3:
            raise self.unsupported(f"an HDF5 superblock of version {version}")
        if version < 2:
            c.skip(4)
        self.offset_size, self.length_size = c.number(1), c.number(1)
        if self.offset_size not in _SIZES or self.length_size not in _SIZES:
            raise self.error(f"addresses of {self.offset_size} and lengths of {self.length_size} bytes")
        c.skip({0: 9, 1: 13}.get(version, 1))
        c.address()  # the base, which is where the signature was found
        c.address()
        end = c.address()
        if end > len(self.data):  # this one counts from the file's beginning
            raise self.error(f"its header claims {end} bytes, but it has {len(self.data)}")
        if version < 2:
            c.skip(2 * self.offset_size)  # driver information; the root group's name
        return c.address()


class Cursor:
    """Reads consecutive little-endian numbers, checking each against the block's end."""

    def __init__(self, blocks: Blocks, at: int, end: int, what: str):
        self.blocks, self.at, self.end, self.what = blocks, at, end, what

    @property
    def left(self) -> int:
        return self.end - self.at

    def take(self, size: int) -> memoryview:
        if size > self.end - self.at:
            raise self.blocks.error(f"a {self.what} that ends at byte {self.end}, but {size} bytes are needed from "
                                    f"byte {self.at} on")
        self.at += size
        return self.blocks.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        self.take(size)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def address(self) -> int:
        return self.number(self.blocks.offset_size)

    def length(self) -> int:
        return self.number(self.blocks.length_size)

    def sub(self, size: int) -> Cursor:
        """Return a cursor over the next `size` bytes, which this one skips."""
        begin = self.at
        self.skip(size)
        return Cursor(self.blocks, begin, self.at, self.what)

    def signature(self, *wanted: bytes) -> bytes:
        found = bytes(self.take(4))
        if found not in wanted:
            raise self.blocks.error(f"no {self.what} at byte {self.at - 4}")
        return found
