"""What a picture file says of itself, looked at before a decoder takes memory for it."""

from __future__ import annotations

import struct

PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}


def declared_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) in pixels as a PNG, JPEG, GIF, BMP, TIFF or WebP file has them; None where it does not say."""
    try:
        if data.startswith(PNG):
            w, h = struct.unpack_from(">II", data, 16)
        elif data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        elif data.startswith((b"GIF87a", b"GIF89a")):
            w, h = struct.unpack_from("<HH", data, 6)
        elif data.startswith(b"BM"):
            w, h = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
        elif data[:4] in _TIFF:
            return _tiff(data, _TIFF[data[:4]])
        elif data[8:12] == b"WEBP":
            return _webp(data)
        else:
            return None
    except (struct.error, IndexError):  # the file ends before it says
        return None
    return abs(h), w  # a BMP's rows run down where its height is negative


def png_ends_early(data: bytes) -> bool:
    """Whether a chunk of a PNG claims more bytes than the file has; OpenCV would take the memory first."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            break
    return at > len(data)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk over the segments up to the frame header."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # all frames; not tables, not a reserve
            return struct.unpack_from(">HH", data, at + 5)
        if marker == 0xFF:  # padding
            at += 1
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _tiff(data: bytes, order: str) -> tuple[int, int] | None:
    """Look up width and length in the first directory."""
    at = struct.unpack_from(order + "I", data, 4)[0]
    found = {}
    for i in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * i)
        if tag in (256, 257) and kind in (3, 4):
            found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * i)[0]
    return (found[257], found[256]) if len(found) == 2 else None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 ":
        w, h = struct.unpack_from("<HH", data, 26)
        return h & 0x3FFF, w & 0x3FFF
    return None
