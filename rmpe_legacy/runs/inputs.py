"""The images a command works on: image files, folders, and video frames."""

from __future__ import annotations

import glob
import hashlib
import os
import time
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
from rmpe_legacy.caffe.data.video import Frames
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.reading import read_bytes, refuse_url

from .result_files import breaks_lines

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm",
                  ".pbm", ".pnm", ".jp2")
GIF = ".gif"  # an image or a video
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts")

CAMERA_FRAMES = 300  # taken of a camera: ten seconds of most of them


class ImageSource(Protocol):
    """Where an image comes from."""

    @property
    def name(self) -> str:
        """Its name in the results, unique within a run."""

    def load(self) -> np.ndarray:
        """Read the image: (H, W, 3) float32 RGB from 0 to 1. Raises FileError if it cannot be read."""

    def digest(self) -> str:
        """Return a string that changes when the image does; empty if it cannot be read."""


@dataclass(frozen=True)
class ImageFile:
    """An image file."""

    path: Path
    name: str

    def load(self) -> np.ndarray:
        return load_image(self.path)

    def digest(self) -> str:
        return file_digest(self.path)


@dataclass(frozen=True)
class UnreadableImage:
    """Placeholder for a file already known to be damaged, so it is reported like any unreadable image."""

    name: str
    reason: str

    def load(self) -> np.ndarray:
        raise FileError(self.reason)

    def digest(self) -> str:
        return ""


class Video:
    """The frames of a video, decoded in order; going back to an earlier frame restarts decoding.

    Raises FileError if the file is not a video.
    """

    def __init__(self, path: Path):
        self.path = path
        self.frames = Frames(str(path))
        if path.suffix.lower() == GIF:
            check_picture(read_bytes(path), str(path), self.frames.total)
        self.fps = self.frames.fps  # 0 if the file does not say
        self.count, self.damage = self._count()
        self.digest = file_digest(path)

    def _count(self) -> tuple[int, str]:
        """Number of frames that can actually be decoded (the header may claim more), and why decoding stopped."""
        total = self.frames.total
        with suppress(RmpeError):
            while self.frames.taken < total:
                self.frames.take()
        count = self.frames.taken
        if count >= max(total - 1, 1):
            return count, ""
        if total <= 0:
            return count, f"{self.path}: the video has no frames"
        return count, (f"{self.path}: only {count} of {max(total, 0)} frames can be decoded; the video is truncated or "
                       "damaged")

    def frame(self, index: int) -> np.ndarray:
        """Decode a frame: (H, W, 3) uint8 BGR."""
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
    """One frame of a video; its name ends in the frame number, counted from 1."""

    video: Video
    index: int
    name: str

    def load(self) -> np.ndarray:
        try:
            pixels = self.video.frame(self.index)
        except RmpeError as error:  # Frames raises its own class for a truncated file
            raise FileError(str(error)) from None
        return _rgb(pixels)

    def digest(self) -> str:
        return self.video.digest and f"{self.video.digest}:{self.index}"


class CameraFrame:
    """The next frame of a camera, whenever it is loaded; so a resumed run does not repeat it."""

    def __init__(self, frames: Frames, name: str):
        self.frames, self.name = frames, name
        self._digest = f"{time.time_ns()}"

    def load(self) -> np.ndarray:
        try:
            return _rgb(self.frames.take())
        except RmpeError as error:
            raise FileError(str(error)) from None

    def digest(self) -> str:
        return self._digest


def find_images(inputs: Iterable[str | PathLike], recursive: bool = False,
                camera_frames: int = CAMERA_FRAMES) -> list[ImageSource]:
    """List the images of files, folders (sorted), patterns, videos and cameras, in the order given.

    Images are only opened later. The missing rest of a damaged video is one unreadable image.

    Args:
        inputs: Files; folders; patterns such as ``photos/*.jpg``; a camera's number, such as ``0``.
        recursive: Search subfolders too. Images of the same name get their folders in front of it: a_b.jpg for a/b.jpg.
        camera_frames: How many frames of a camera are taken.

    Raises:
        RmpeError: There is no image, two would have the same name in the results, an input is a URL, or a camera
            does not open.
    """
    sources = [source for path in inputs for source in _of(path, recursive, camera_frames)]
    if not sources:
        raise RmpeError("no images; give files, folders or videos")
    _check_names(sources)
    return sources


def _of(given: str | PathLike, recursive: bool, camera_frames: int) -> Iterator[ImageSource]:
    path, text = Path(given), str(given)
    refuse_url(given)
    if os.path.isdir(path):
        yield from _of_folder(path, recursive)
    elif os.path.exists(path):
        yield from _of_file(path)
    elif text.isdecimal() and text.isascii() and len(text) < 4:
        frames = _camera(int(text))
        yield from (CameraFrame(frames, f"camera{text}_{i + 1:06d}.jpg") for i in range(camera_frames))
    elif files := [Path(name) for name in sorted(glob.glob(text, recursive=True)) if glob.has_magic(text)]:
        for file in files:
            yield from _of_folder(file, recursive) if os.path.isdir(file) else _of_file(file)
    else:
        what = "matches no file" if glob.has_magic(text) else "no such file or folder"
        raise FileError(f"{path}: {what}")


def _camera(number: int) -> Frames:
    """Return the frames of a camera. Opens it once, so that a missing camera is one error and not one per frame."""
    frames = Frames(number)
    try:
        frames.total  # noqa: B018 - opens the camera
    except RmpeError:
        raise RmpeError(f"{number}: there is no such camera, or it is in use; give another camera's number, or "
                        "files") from None
    finally:
        frames.close()
    return frames


def _of_folder(folder: Path, recursive: bool) -> Iterator[ImageSource]:
    suffixes = IMAGE_SUFFIXES + VIDEO_SUFFIXES
    files = [p for p in sorted(folder.rglob("*") if recursive else folder.iterdir())
             if p.suffix.lower() in suffixes and not os.path.isdir(p)
             and not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if not files:
        raise RmpeError(f"{folder}: contains no images ({', '.join(IMAGE_SUFFIXES)}) and no videos "
                        f"({', '.join(VIDEO_SUFFIXES)})"
                        + ("" if recursive else "; subfolders are searched with --recursive"))
    names = Counter(file.name for file in files)
    for file in files:
        parts = file.relative_to(folder).parts
        yield from _of_file(file, "" if names[file.name] == 1 else "".join(f"{part}_" for part in parts[:-1]))


def _of_file(path: Path, prefix: str = "") -> Iterator[ImageSource]:
    if breaks_lines(path.name):
        yield UnreadableImage(path.name, f"{str(path)!r}: its name contains a line break, which index.txt cannot hold; "
                              "rename it")
        return
    try:
        refuse_pipe(path)
    except FileError as error:
        yield UnreadableImage(prefix + path.name, str(error))
        return
    if not _is_video(path):
        yield ImageFile(path, prefix + path.name)
        return
    try:
        video = Video(path)
    except FileError as error:
        yield UnreadableImage(path.name, str(error))
        return
    yield from (VideoFrame(video, i, prefix + _frame_name(path, i)) for i in range(video.count))
    if video.damage:
        yield UnreadableImage(prefix + _frame_name(path, video.count), video.damage)


def _is_video(path: Path) -> bool:
    """Decide by the file name; a GIF counts as a video if it is animated."""
    if path.suffix.lower() != GIF:
        return path.suffix.lower() in VIDEO_SUFFIXES
    frames = Frames(str(path))
    try:
        check_picture(read_bytes(path), str(path))  # a video decoder allocates what the header claims
        return frames.total > 1
    except RmpeError:  # reported when it is read as an image
        return False
    finally:
        frames.close()


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 BGR -> float32 RGB from 0 to 1."""
    return np.divide(pixels[:, :, ::-1], np.float32(255), dtype=np.float32, order="C")


def _frame_name(path: Path, index: int) -> str:
    return f"{path.stem}_{index + 1:06d}.jpg"


def _check_names(sources: Sequence[ImageSource]) -> None:
    drawn = Counter(drawn_name(source.name) for source in sources)
    twice = next((name for name, times in drawn.items() if times > 1), None)
    if twice:
        raise RmpeError(f"more than one image would be called {twice} in the results; give them in separate runs")


def drawn_name(name: str) -> str:
    """Return the file name of the annotated image, a JPEG."""
    return name if Path(name).suffix.lower() in (".jpg", ".jpeg") else f"{name}.jpg"


def refuse_pipe(path: str | PathLike) -> None:
    """Raise FileError for a pipe or device: what has a digest is read twice, and a device may have no end."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise FileError(f"{path}: is a device or a pipe; give a file")


def file_digest(path: str | PathLike) -> str:
    """Return the SHA-256 of a file; empty for what cannot be read, or only once (a pipe), or has no end (a device)."""
    if not os.path.isfile(path):
        return ""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()
