"""Which pictures a command works on: files, folders of files, frames of videos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from rmpe_legacy.caffe.data.image import load_image
from rmpe_legacy.caffe.data.image_file import check_picture
from rmpe_legacy.caffe.data.opencv_image import read_bytes
from rmpe_legacy.caffe.data.video import Frames
from rmpe_legacy.errors import FileError, RmpeError

from .result_files import breaks_lines

PICTURES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm",
            ".pnm", ".jp2")
GIF = ".gif"  # a picture or a video
VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts")


class Picture(Protocol):
    """Something to find people in."""

    @property
    def name(self) -> str:
        """The name in the results; no two of a run have the same."""

    def load(self) -> np.ndarray:
        """(H, W, 3) float32 RGB from 0 to 1. FileError where it cannot be read."""

    def digest(self) -> str:
        """Changes when the picture does; empty where it cannot be read."""


@dataclass(frozen=True)
class PictureFile:
    """A picture in a file of its own."""

    path: Path
    name: str

    def load(self) -> np.ndarray:
        return load_image(self.path)

    def digest(self) -> str:
        return file_digest(self.path)


@dataclass(frozen=True)
class Unreadable:
    """In place of what is known to be damaged before anything is loaded, so that it is reported as a picture is."""

    name: str
    reason: str

    def load(self) -> np.ndarray:
        raise FileError(self.reason)

    def digest(self) -> str:
        return ""


class Video:
    """Frames of a file, read from the front; a frame before the last one read begins anew. FileError if it is none."""

    def __init__(self, path: Path):
        self.path = path
        self.frames = Frames(str(path))
        if path.suffix.lower() == GIF:
            check_picture(read_bytes(path), str(path), self.frames.total)
        self.count, self.damage = self._count()
        self.digest = file_digest(path)

    def _count(self) -> tuple[int, str]:
        """The frames that can be read, which what the file says of itself is not always; and what is wrong with it."""
        total = self.frames.total
        with suppress(RmpeError):
            while self.frames.taken < total:
                self.frames.take()
        count = self.frames.taken
        if count >= max(total - 1, 1):
            return count, ""
        return count, (f"{self.path}: only {count} of {max(total, 0)} frames can be read; the video is truncated or "
                       "damaged")

    def frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 BGR."""
        if index < self.frames.taken:
            self.close()
        while self.frames.taken < index:
            self.frames.take()
        return self.frames.take()

    def close(self) -> None:
        self.frames.close()
        self.frames = Frames(str(self.path))


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video; its name has its number, from 1."""

    video: Video
    index: int
    name: str

    def load(self) -> np.ndarray:
        try:
            pixels = self.video.frame(self.index)
        except RmpeError as error:  # Frames' own class for a file that is cut short
            raise FileError(str(error)) from None
        return np.divide(pixels[:, :, ::-1], np.float32(255), dtype=np.float32, order="C")

    def digest(self) -> str:
        return self.video.digest and f"{self.video.digest}:{self.index}"


def find_pictures(inputs: Iterable[str | PathLike]) -> list[Picture]:
    """The pictures of files, of folders (not of folders in them) and of videos, in that order, folders sorted.

    RmpeError where there is none, or where two would have one name in the results. Whether a picture can be read shows
    when it is; what is missing of a damaged video is one picture that cannot.
    """
    found = [picture for source in inputs for picture in _of(Path(source))]
    if not found:
        raise RmpeError("no pictures; give files, folders or videos")
    _check_names(found)
    return found


def _of(path: Path) -> Iterator[Picture]:
    if path.is_dir():
        files = [p for p in sorted(path.iterdir())
                 if p.suffix.lower() in PICTURES + VIDEOS and not p.name.startswith(".") and not p.is_dir()]
        if not files:
            raise RmpeError(f"{path}: holds no pictures ({', '.join(PICTURES)}) and no videos ({', '.join(VIDEOS)}); "
                            "folders in it are not entered")
        for file in files:
            yield from _of_file(file)
    elif not path.exists():
        raise FileError(f"{path}: no such file or folder")
    else:
        yield from _of_file(path)


def _of_file(path: Path) -> Iterator[Picture]:
    if breaks_lines(path.name):
        yield Unreadable(path.name, f"{str(path)!r}: its name has a line break, which index.txt cannot hold; rename it")
        return
    if not _is_video(path):
        yield PictureFile(path, path.name)
        return
    try:
        video = Video(path)
    except FileError as error:
        yield Unreadable(path.name, str(error))
        return
    yield from (VideoFrame(video, i, _frame_name(path, i)) for i in range(video.count))
    if video.damage:
        yield Unreadable(_frame_name(path, video.count), video.damage)


def _is_video(path: Path) -> bool:
    """By its name; a GIF is one if it moves."""
    if path.suffix.lower() != GIF:
        return path.suffix.lower() in VIDEOS
    frames = Frames(str(path))
    try:
        check_picture(read_bytes(path), str(path))  # a decoder of videos takes memory for what it claims
        return frames.total > 1
    except RmpeError:  # what is wrong with it shows when it is read as a picture
        return False
    finally:
        frames.close()


def _frame_name(path: Path, index: int) -> str:
    return f"{path.stem}_{index + 1:06d}.jpg"


def _check_names(pictures: Sequence[Picture]) -> None:
    drawn = Counter(drawn_name(picture.name) for picture in pictures)
    twice = next((name for name, times in drawn.items() if times > 1), None)
    if twice:
        raise RmpeError(f"more than one picture would be called {twice} in the results; give them in separate runs")


def drawn_name(name: str) -> str:
    """The file that shows a picture's results: a JPEG."""
    return name if Path(name).suffix.lower() in (".jpg", ".jpeg") else f"{name}.jpg"


def file_digest(path: str | PathLike) -> str:
    """The SHA-256 of a file; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()
