"""How large a picture file says it is: asked before it is decoded, for OpenCV takes the memory on its word."""

from __future__ import annotations

import struct

from rmpe_legacy.errors import FileError

MAX_RATIO = 1100  # bytes that one byte of a file can stand for; deflate reaches 1032
_PNG, _GIF, _BMP, _JPEG = b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"\xff\xd8"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def check_claim(data: memoryview | bytes, where: str) -> None:
    """FileError for a PNG, JPEG, BMP or GIF that claims more pixels than its bytes can hold."""
    size = _claim(bytes(data[:32]), data)
    if size is None:
        return
    width, height, bits = size
    if width * height * bits // 8 > MAX_RATIO * len(data):
        raise FileError(f"{where}: a picture of {len(data)} bytes that claims {width} x {height} pixels; the file is "
                        "damaged")


def _claim(head: bytes, data: memoryview | bytes) -> tuple[int, int, int] | None:
    """(width, height, least bits per pixel); None for other formats, and where the header is cut off."""
    if head.startswith(_PNG) and len(head) >= 26:
        width, height, depth, color = struct.unpack_from(">IIBB", head, 16)
        return width, height, depth * _PNG_SAMPLES.get(color, 1)
    if head.startswith(_GIF) and len(head) >= 10:
        return *struct.unpack_from("<HH", head, 6), 8
    if head.startswith(_BMP) and len(head) >= 26:
        width, height = struct.unpack_from("<ii", head, 18)
        return abs(width), abs(height), 8
    return _jpeg_claim(data) if head.startswith(_JPEG) else None


def _jpeg_claim(data: memoryview | bytes) -> tuple[int, int, int] | None:
    """From the first frame header; segments before it are skipped by their lengths."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill bytes, markers without a segment
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height, 8
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
