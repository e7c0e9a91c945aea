"""Window files: regions of images with the class and the overlap of an object.

Source: window_data_layer.cpp of RMPE@5188c23. A file repeats, separated by white space: ``# index path channels
height width count``, then `count` times ``label overlap x1 y1 x2 y2`` (pixels, both corners inside).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rmpe_legacy.caffe.proto.schema import float32
from rmpe_legacy.errors import FileError, RmpeError

from .opencv_image import read_words

F = np.float32


@dataclass(frozen=True)
class Window:
    """One region of one image."""

    image: int  # which image of the file
    label: int  # 0 for background
    corners: tuple[int, int, int, int]  # x1, y1, x2, y2


@dataclass
class WindowFile:
    """The images and windows of one file."""

    paths: list[str] = field(default_factory=list)
    foreground: list[Window] = field(default_factory=list)
    background: list[Window] = field(default_factory=list)
    channels: int = 0  # of the last image, as Caffe takes it


def read_windows(path: str | Path, fg_threshold: float, bg_threshold: float, root: str = "") -> WindowFile:
    """Read the images and windows of a window file.

    Args:
        path: The file.
        fg_threshold: Windows with at least this overlap are foreground.
        bg_threshold: Windows with less overlap are background; those in between are dropped.
        root: A folder that is prepended to the images' paths.

    Raises:
        FileError: The file cannot be read, is malformed, or lacks foreground or background windows.
    """
    words = _Words(path)
    file = WindowFile()
    while words.left:
        if words.text() != "#":
            raise words.error("'#' expected before an image's index")
        index = words.whole("an image's index")
        file.paths.append(root + words.text())
        file.channels, _, _ = (words.whole(f"an image's {what}") for what in ("channels", "height", "width"))
        for _ in range(words.whole("the number of windows")):
            label, overlap = words.whole("a label"), F(float32(words.number("an overlap")))
            x1, y1, x2, y2 = (words.whole("a corner") for _ in range(4))
            if overlap >= F(fg_threshold):
                if label <= 0:
                    raise words.error(f"a foreground window of class {label}; classes begin at 1")
                file.foreground.append(Window(index, label, (x1, y1, x2, y2)))
            elif overlap < F(bg_threshold):
                file.background.append(Window(index, 0, (x1, y1, x2, y2)))
    if not file.paths:
        raise FileError(f"{path}: the window file is empty")
    for name, windows in (("foreground", file.foreground), ("background", file.background)):
        if not windows:
            raise FileError(f"{path}: no {name} windows; Caffe needs foreground and background windows")
        if far := next((w.image for w in windows if not 0 <= w.image < len(file.paths)), None):
            raise FileError(f"{path}: has {len(file.paths)} images, but one with the index {far}; the indices must be "
                            "0, 1, 2, ...")
    return file


class _Words:
    """The words of a text file, in order."""

    def __init__(self, path: str | Path):
        self.path = path
        self._words = read_words(path, "a window file")
        self._next = next(self._words, None)
        self._line = 1  # of the word taken last

    @property
    def left(self) -> bool:
        return self._next is not None

    def error(self, reason: str) -> FileError:
        return FileError(f"{self.path}:{self._line}: {reason}")

    def text(self) -> str:
        if self._next is None:
            raise self.error("the file ends inside an image's windows")
        word, self._line = self._next
        self._next = next(self._words, None)
        return word

    def whole(self, what: str) -> int:
        word = self.text()
        try:
            value = int(word)
            if abs(value) >= 1 << 31:
                raise ValueError
            return value
        except ValueError:
            raise self.error(f"{word!r} is not a whole number; {what} is expected") from None

    def number(self, what: str) -> float:
        word = self.text()
        try:
            return float(word)
        except ValueError:
            raise self.error(f"{word!r} is not a number; {what} is expected") from None


@dataclass(frozen=True)
class Placed:
    """A window's part of the image, warped, and where it goes in the blob."""

    image: np.ndarray  # (h, w, C) uint8
    row: int
    column: int


def cut_window(image: np.ndarray, corners: tuple[int, int, int, int], size: int, context_pad: int, square: bool,
               mirrored: bool) -> Placed:
    """Warp a window of an image (H, W, 3) to size x size, with context around it; the part outside the image stays
    empty.

    Raises:
        RmpeError: The window is outside its image.
    """
    x1, y1, x2, y2 = corners
    target, row, column = (size, size), 0, 0
    if context_pad > 0 or square:
        (x1, y1, x2, y2), target, row, column = _with_context(image.shape, corners, size, context_pad, square,
                                                              mirrored)
    height, width = image.shape[:2]
    if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height) or min(target) < 1:
        raise RmpeError(f"the window {corners} is outside its image of {width} x {height} (width x height)")
    part = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], target, interpolation=cv2.INTER_LINEAR)
    return Placed(cv2.flip(part, 1) if mirrored else part, row, column)


def _with_context(shape, corners, size: int, context_pad: int, square: bool, mirrored: bool):
    """((x1, y1, x2, y2) inside the image, (width, height) to warp to, row, column)."""
    x1, y1, x2, y2 = corners
    if size == 2 * context_pad:
        raise RmpeError(f"context_pad {context_pad} leaves nothing of a crop_size of {size}")
    scale = F(size) / F(size - 2 * context_pad)
    half_h, half_w = F((y2 - y1 + 1) / 2), F((x2 - x1 + 1) / 2)
    centre_x, centre_y = F(x1) + half_w, F(y1) + half_h
    if square:
        half_h = half_w = max(half_h, half_w)
    x1, x2 = _round(centre_x - half_w * scale), _round(centre_x + half_w * scale)
    y1, y2 = _round(centre_y - half_h * scale), _round(centre_y + half_h * scale)
    if x2 < x1 or y2 < y1:
        raise RmpeError(f"context_pad {context_pad} is more than half of crop_size {size}")
    scale_x, scale_y = F(size) / F(x2 - x1 + 1), F(size) / F(y2 - y1 + 1)
    left, right = max(0, -x1), max(0, x2 - shape[1] + 1)
    top, bottom = max(0, -y1), max(0, y2 - shape[0] + 1)
    x1, x2, y1, y2 = x1 + left, x2 - right, y1 + top, y2 - bottom
    row, column = _round(F(top) * scale_y), _round(F(right if mirrored else left) * scale_x)
    width = min(_round(F(x2 - x1 + 1) * scale_x), size - column)
    height = min(_round(F(y2 - y1 + 1) * scale_y), size - row)
    return (x1, y1, x2, y2), (width, height), row, column


def _round(value: np.float32) -> int:
    """C's round(): rounds halves away from zero."""
    number = float(value)
    return math.floor(number + 0.5) if number >= 0 else -math.floor(-number + 0.5)
