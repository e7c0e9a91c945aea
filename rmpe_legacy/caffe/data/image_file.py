"""Decodes images with OpenCV after checking their headers, which OpenCV trusts.

Formats: PNG, JPEG, GIF, BMP, TIFF, WebP, PNM (with PAM and PFM), JPEG 2000, Sun raster and Radiance HDR.
Differs: other formats are refused, and so are images of more pixels than MAX_PIXELS, or than their bytes can encode.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.reading import reading
from rmpe_legacy.silence import silent_stderr

PNG = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 178_956_970  # of one image; Pillow refuses more, as a decompression bomb
SMALL = 1 << 22  # pixels allowed in a file of any size
PIXELS_PER_BYTE = 1032  # per byte beyond those: deflate's maximum ratio
_PNG_TEXT = (b"zTXt", b"iTXt", b"iCCP")  # chunks that libpng unpacks, and that say nothing of the pixels
_ORIENTATION = 0x112  # a tag of EXIF
_JPEG_2000_TILES = 8192  # OpenJPEG takes 6 kB for each before it reads one
_JPEG_2000_PARTS = 4
_PNM = re.compile(rb"P[1-6]\s*(?:#[^\n]*\n\s*)*(\d{1,10})\s+(?:#[^\n]*\n\s*)*(\d{1,10})\s")
_PFM = re.compile(rb"P[Ff]\s+(\d{1,10})\s+(\d{1,10})\s")
_PAM = {name: re.compile(rb"\n\s*" + name + rb"\s+(\d{1,10})\s") for name in (b"HEIGHT", b"WIDTH", b"DEPTH")}
_HDR = re.compile(rb"[-+]Y +(\d{1,10}) +[-+]X +(\d{1,10})\s")

Size = tuple[int, int] | None  # (height, width)


def decode_picture(data: bytes, flags: int, where: str) -> np.ndarray:
    """Decode an image with OpenCV, with the flags of ``cv2.imdecode``: (H, W) or (H, W, C).

    Raises:
        FileError: The data is not an image, is damaged, or claims more pixels than MAX_PIXELS or than its bytes can
            encode.
    """
    check_picture(data, where)
    if data.startswith(PNG):
        data = _without_text(data)
    with reading(where, "image"), silent_stderr():
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise _unreadable(where)
    _check_size(pixels.shape[:2], len(data), where)
    return pixels


def check_picture(data: bytes, where: str, frames: int = 1) -> None:
    """Check an image before decoding it, because a decoder allocates its pixels first.

    Args:
        data: The content of the file.
        where: Names the file in errors.
        frames: Number of frames of an animation; each counts as an image.

    Raises:
        FileError: The data is not an image, or claims too many pixels.
    """
    if not data:
        raise FileError(f"{where}: the file is empty; an image is expected")
    size = declared_size(data)
    if size is None:
        raise _unreadable(where)
    _check_size(size, len(data), where, frames)
    if data.startswith(PNG) and _png_ends_early(data):
        raise FileError(f"{where}: not a readable image: it ends inside a chunk; the file is truncated or damaged")


def _unreadable(where: str) -> FileError:
    return FileError(f"{where}: not a readable image; the file is truncated, damaged or of another kind")


def _check_size(size: tuple[int, int], count: int, where: str, frames: int = 1) -> None:
    height, width = size
    if height * width > MAX_PIXELS:
        raise FileError(f"{where}: claims to be {width} x {height} pixels, more than {MAX_PIXELS}; scale it down, or "
                        "check that the file is what it claims to be")
    if height * width * frames > SMALL + PIXELS_PER_BYTE * count:
        times = f"{frames} times " if frames > 1 else ""
        raise FileError(f"{where}: claims to be {times}{width} x {height} pixels, which its {count} bytes cannot hold; "
                        "the file is damaged")


def declared_size(data: bytes) -> Size:
    """Return (height, width) from the header; None if it has none or the format is unknown."""
    for start, look in _FORMATS:
        if data.startswith(start):
            try:
                return look(data)
            except (struct.error, IndexError):  # the file ends before the size
                return None
    return None


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _png_ends_early(data: bytes) -> bool:
    """Return whether a PNG chunk claims more bytes than the file has; OpenCV would allocate them first."""
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            break
    return at > len(data)


def _without_text(data: bytes) -> bytes:
    """Remove the PNG chunks that can unpack to megabytes each."""
    if not any(kind in data for kind in _PNG_TEXT):
        return data
    kept, at = [PNG], len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in _PNG_TEXT:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def _jpeg(data: bytes) -> Size:
    """Walk the segments up to the frame header; like libjpeg, skips bytes between segments."""
    at = 2
    while (at := data.find(b"\xff", at, at + 65536)) >= 0:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # all frames; not tables, not a reserve
            return struct.unpack_from(">HH", data, at + 5)
        if marker in (0, 0xFF):  # no marker, or padding
            at += 1
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _gif(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _bmp(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return abs(height), width  # rows run down where the height is negative


def _tiff(data: bytes) -> Size:
    """Look up width and length in the first directory; the larger one if a tag occurs twice."""
    found: dict[int, int] = {}
    for tag, value in _tiff_tags(data):
        if tag in (256, 257):
            found[tag] = max(value, found.get(tag, 0))
    return (found[257], found[256]) if len(found) == 2 else None


def _tiff_tags(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the tags of the first directory that hold a whole number, with it."""
    order = "<" if data.startswith(b"I") else ">"
    at = struct.unpack_from(order + "I", data, 4)[0]
    for i in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * i)
        if kind in (3, 4):
            yield tag, struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * i)[0]


def is_stored_turned(data: bytes) -> bool:
    """Return whether a JPEG's EXIF orientation says to turn or mirror its pixels for display."""
    at = data.find(b"Exif\0\0", 0, 1 << 16) if data.startswith(b"\xff\xd8") else -1
    if at < 0:
        return False
    try:
        return any(tag == _ORIENTATION and 2 <= value <= 8 for tag, value in _tiff_tags(data[at + 6 : at + (1 << 16)]))
    except struct.error:  # damaged; the pixels may be well
        return False


def _webp(data: bytes) -> Size:
    kind = data[12:16] if data[8:12] == b"WEBP" else b""
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


def _by(pattern: re.Pattern, width_first: bool) -> Callable[[bytes], Size]:
    """Parse a text header."""

    def look(data: bytes) -> Size:
        found = pattern.search(data, 0, 65536)
        if found is None:
            return None
        first, second = map(int, found.groups())
        return (second, first) if width_first else (first, second)

    return look


def _pam(data: bytes) -> Size:
    """PAM's fields may occur in any order and repeatedly; its channels count as pixels."""
    head = data[: data.find(b"ENDHDR") + 1]
    height, width, depth = (max(map(int, pattern.findall(head)), default=1) for pattern in _PAM.values())
    return height, width * max(1, depth // 4)


def _sun(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 4)
    return height, width


def _jpeg_2000(data: bytes) -> Size:
    """The codestream's own header, not the box around it; None where it has more tiles or parts than images have."""
    at = data.index(b"\xff\x4f\xff\x51") + 8 if b"\xff\x4f\xff\x51" in data else len(data)
    right, below, left, above, tile_width, tile_height = struct.unpack_from(">6I", data, at)
    parts = struct.unpack_from(">H", data, at + 32)[0]
    width, height = right - left, below - above
    if min(width, height, tile_width, tile_height) < 1 or not 1 <= parts <= _JPEG_2000_PARTS:
        return None
    tiles = -(-right // tile_width) * -(-below // tile_height)
    return (height, width) if tiles <= _JPEG_2000_TILES else None


_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], Size]], ...] = (
    (PNG, _png), (b"\xff\xd8", _jpeg), ((b"GIF87a", b"GIF89a"), _gif), (b"BM", _bmp),
    ((b"II*\0", b"MM\0*"), _tiff), (b"RIFF", _webp), (b"P7", _pam), ((b"PF", b"Pf"), _by(_PFM, True)),
    (tuple(b"P%d" % i for i in range(1, 7)), _by(_PNM, True)), (b"#?", _by(_HDR, False)),
    (b"\x59\xa6\x6a\x95", _sun), ((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), _jpeg_2000),
)
