"""Reads image files through OpenCV like Caffe, and the text lists of its data layers.

An image is uint8, (H, W) grey or (H, W, C) in the order B, G, R.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import read_bytes

from .image_file import decode_picture

FLAGS = {"color": cv2.IMREAD_COLOR, "gray": cv2.IMREAD_GRAYSCALE, "native": cv2.IMREAD_UNCHANGED}
_NUMBER = re.compile(r"\s*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|nan)", re.IGNORECASE)


def decode_image(data, mode: str = "native", where: str = "<image>") -> np.ndarray:
    """Decode an image: (H, W, C), or (H, W) for grey images, uint8.

    Args:
        data: The content of the file.
        mode: "color" (three channels), "gray", or "native" (as in the file).
        where: Names the file in errors.

    Raises:
        FileError: OpenCV cannot read the image, or it has more than 8 bits per channel.
    """
    image = decode_picture(bytes(data), FLAGS[mode], where)
    if image.dtype != np.uint8:
        raise FileError(f"{where}: an image of {image.dtype} values; Caffe's layers take 8 bits per channel")
    return image


def read_image(path: str | Path, color: bool = True, height: int = 0, width: int = 0) -> np.ndarray:
    """Read an image file, resized to height x width if they are given (io.cpp:75-112 of RMPE@5188c23): (H, W, 3) uint8
    BGR.

    Raises:
        FileError: The file cannot be read as an image.
    """
    image = decode_image(read_bytes(path), "color" if color else "gray", str(path))
    return cv2.resize(image, (width, height)) if height and width else image


def read_lines(path: str | PathLike, what: str) -> list[str]:
    """Read the lines of a text file.

    Raises:
        FileError: The file cannot be read, or is not text.
    """
    data = read_bytes(path)
    if b"\0" in data[:4096]:
        raise FileError(f"{path}: not text; {what} is expected")
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return lines if lines[-1] else lines[:-1]  # a line's end begins no other


def read_words(path: str | Path, what: str) -> Iterator[tuple[str, int]]:
    """Yield the words of a text file, each with its line number.

    Raises:
        FileError: The file cannot be read, or is not text.
    """
    return ((word, number) for number, line in enumerate(read_lines(path, what), 1) for word in line.split())


def c_number(text: str) -> float:
    """C's atof: parse the number at the start of a text; 0 if there is none."""
    match = _NUMBER.match(text)
    return float(match[0]) if match else 0.0


def c_integer(text: str) -> int:
    """C's atoi: parse the integer at the start of a text; 0 if there is none."""
    match = re.match(r"\s*[+-]?[0-9]{1,20}", text)
    value = min(max(int(match[0]) if match else 0, -(1 << 63)), (1 << 63) - 1)  # strtol's range, then cut to an int
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def channels_of(image: np.ndarray) -> int:
    """Return the number of channels of an image: 1 for (H, W), otherwise C."""
    return image.shape[2] if image.ndim == 3 else 1


def check_opencv(call, *args):
    """Call an OpenCV function, converting its errors to RmpeError."""
    try:
        return call(*args)
    except cv2.error as error:
        raise RmpeError(f"OpenCV cannot do this with the image: {error.err}") from None
