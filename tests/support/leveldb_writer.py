"""Small LevelDB stores, well-formed or not, from what their tables and their manifest shall say."""

import struct
from pathlib import Path

from rmpe_legacy import _host
from rmpe_legacy.caffe.proto.wire import varint

Entry = tuple[int, bytes, bytes]  # how much of the last key, the rest of this one, the value


def key(name: bytes, sequence: int = 1) -> bytes:
    """As tables hold it: with its sequence number, and that it has a value."""
    return name + struct.pack("<Q", sequence << 8 | 1)


def string(text: bytes) -> bytes:
    return varint(len(text)) + text


def checksum(data: bytes) -> bytes:
    crc = _host.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def block(entries: list[Entry]) -> bytes:
    body = b"".join(varint(shared) + varint(len(rest)) + varint(len(value)) + rest + value
                    for shared, rest, value in entries)
    return body + struct.pack("<II", 0, 1)


def table(blocks: list[bytes], times: int = 1) -> bytes:
    """times: how often the index names each block."""
    out, handles = b"", []
    for content in blocks:
        handles += [varint(len(out)) + varint(len(content))] * times
        out += content + b"\0" + checksum(content + b"\0")
    index = block([(0, key(b"%08d" % i), handle) for i, handle in enumerate(handles)])
    place = varint(len(out)) + varint(len(index))
    return (out + index + b"\0" + checksum(index + b"\0") + (b"\0\0" + place).ljust(40, b"\0")
            + struct.pack("<Q", 0xDB4775248B80FB57))


def new_file(level: int, number: int = 5) -> bytes:
    """The manifest's word that a table belongs to a level."""
    return b"\7" + varint(level) + varint(number) + varint(1000) + string(key(b"a")) + string(key(b"z"))


def write_leveldb(folder: Path, content: bytes, edits: bytes) -> Path:
    """A store with one table, 000005.ldb. edits: at most 30,000 bytes."""
    edits = b"\1" + string(b"leveldb.BytewiseComparator") + edits
    folder.mkdir(exist_ok=True)
    (folder / "CURRENT").write_bytes(b"MANIFEST-000001\n")
    (folder / "MANIFEST-000001").write_bytes(
        checksum(b"\1" + edits) + struct.pack("<HB", len(edits), 1) + edits)
    (folder / "000005.ldb").write_bytes(content)
    return folder
