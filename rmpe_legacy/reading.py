"""Shared by all file readers: conversion of libraries' exceptions, and limits for dimensions."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import FileError, RmpeError

_SIGNATURES = {
    b"PK\x03\x04": "a zip archive (a PyTorch file?)",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"\xfd7zXZ": "xz-compressed; unpack it first",
    b"BZh": "bzip2-compressed; unpack it first",
    b"\x80\x02": "a Python pickle (an old PyTorch file?)",
    b"<!DO": "a web page; the download went wrong",
    b"<!do": "a web page; the download went wrong",
    b"<htm": "a web page; the download went wrong",
    b"version https://git-lfs": "a Git LFS pointer, not the file it points to",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG\r\n": "a PNG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")  # pathlib drops one of the slashes
MAX_DIMS = 32  # of an array in a file, as Caffe's kMaxBlobAxes; more is damage
MAX_ITEMS = 1 << 48  # of an array in a file; more cannot be addressed


@contextmanager
def reading(path: str | os.PathLike, kind: str,
            why: str = "the file is truncated, damaged or of another kind") -> Iterator[None]:
    """Convert every exception of a library that parses a file to a FileError that names the file.

    kind, why: the expected format ("safetensors file") and the likely reason, for the message.

    Libraries can raise anything for a damaged file, so everything is caught. Keep our own code out of the block, or its
    bugs would look like damage.
    """
    try:
        yield
    except RmpeError:
        raise
    except OSError as error:
        raise cannot_open(path, error) from error
    except MemoryError as error:
        raise FileError(f"{path}: needs more memory than there is; the file is damaged, or too large for this "
                        "machine") from error
    except RecursionError as error:
        raise FileError(f"{path}: not a readable {kind}: nested too deep") from error
    except Exception as error:
        raise FileError(f"{path}: not a readable {kind}: {first_line(error)}; {why}") from error


def cannot_open(path: str | os.PathLike, error: OSError | ValueError) -> FileError:
    """Return the FileError for a file that could not be opened: what the system says, or that it is a URL or a device.

    A ValueError comes from a null character in the name.
    """
    refuse_url(path)
    with suppress(OSError, ValueError):
        refuse_device(path)
    return FileError(f"{path}: {getattr(error, 'strerror', None) or first_line(error)}")


def refuse_url(path: str | os.PathLike) -> None:
    """Raise FileError for a URL, unless there is a file of this name."""
    found = _URL.match(str(path))
    if found and not os.path.exists(path):
        raise FileError(f"{found[1]}://{str(path)[found.end():]}: is a URL, and nothing is downloaded; download it and "
                        "give the file")


def refuse_device(path: str | os.PathLike) -> None:
    """Raise FileError for a device, and OSError for a file that is not there: /dev/zero has no end to be read to."""
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise FileError(f"{path}: is a device; give a file")


def read_bytes(path: str | os.PathLike) -> bytes:
    """Read a file.

    Raises:
        FileError: The file cannot be read.
    """
    try:
        refuse_device(path)
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from None


def first_bytes(path: str | os.PathLike, count: int = 512) -> bytes:
    """Return the first bytes of a file, to recognise its format. Raises FileError if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except (OSError, ValueError) as error:
        raise cannot_open(path, error) from None


def other_kind(start: bytes) -> str:
    """What a file is by its first bytes, if it is neither a caffemodel nor a prototxt; "" if it may be one."""
    return next((what for signature, what in _SIGNATURES.items() if start.startswith(signature)), "")


def first_line(error: BaseException) -> str:
    """Return the first non-blank line of an exception's message, or the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def item_count(shape: Sequence[int]) -> int | None:
    """Return the number of values of an array of this shape; None if the shape is impossible.

    That is: more than MAX_DIMS dimensions, a negative one, or more values than can be addressed, ignoring dimensions of
    0. Check this before multiplying or printing sizes from a file.
    """
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0:
        return None
    if math.prod(size for size in shape if size) > MAX_ITEMS:
        return None
    return math.prod(shape)


def expanded_limit(size: int) -> int:
    """Return the maximum unpacked size in bytes of a compressed file of `size` bytes.

    Deflate's maximum ratio is 1032 to 1, for zeros; for MPII's annotations, an extreme among real files, it is 21 to 1.
    """
    return (32 << 20) + 64 * size
