"""What every reader of files shares: one boundary for what libraries raise, and one limit for dimensions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .errors import FileError, RmpeError

MAX_DIMS = 32  # of an array in a file, as Caffe's kMaxBlobAxes; more is damage
MAX_ITEMS = 1 << 48  # of an array in a file; more cannot be addressed


@contextmanager
def reading(path: str | os.PathLike, kind: str,
            why: str = "the file is truncated, damaged or of another kind") -> Iterator[None]:
    """Around a library that parses a file: whatever it raises becomes a FileError that names the file.

    kind, why: what the file should be, "safetensors file", and what may be the matter, for the sentence.

    Libraries raise anything on a damaged file, so everything is caught; keep code of our own out of the block, or its
    bugs would look like damage.
    """
    try:
        yield
    except RmpeError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or first_line(error)}") from error
    except MemoryError as error:
        raise FileError(f"{path}: needs more memory than there is; the file is damaged, or too large for this "
                        "machine") from error
    except RecursionError as error:
        raise FileError(f"{path}: not a readable {kind}: nested too deep") from error
    except Exception as error:
        raise FileError(f"{path}: not a readable {kind}: {first_line(error)}; {why}") from error


def first_bytes(path: str | os.PathLike, count: int = 512) -> bytes:
    """The beginning of a file, by which its kind is told. FileError where it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def first_line(error: BaseException) -> str:
    """The first line of an exception's message that is not blank; the name of its class where there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def item_count(shape: Sequence[int]) -> int | None:
    """How many values an array of this shape has; None where a file cannot mean it.

    That is: more than MAX_DIMS dimensions, a negative one, or more values than can be addressed, a dimension of 0 left
    aside. Check this before sizes from a file are multiplied or printed.
    """
    if len(shape) > MAX_DIMS or min(shape, default=0) < 0:
        return None
    if math.prod(size for size in shape if size) > MAX_ITEMS:
        return None
    return math.prod(shape)


def expanded_limit(size: int) -> int:
    """How many bytes the compressed contents of a file of `size` bytes may take.

    Deflate reaches 1032 to 1, on nothing but zeros; the annotations of MPII, as loose as real files get, 21 to 1.
    """
    return (32 << 20) + 64 * size
