"""Annotated videos: the annotated frames of each input video, joined again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import all_or_none, make_folder
from rmpe_legacy.silence import silent_stderr

from .inputs import ImageSource, Video, VideoFrame, drawn_name

FOLDER = "videos"
_CODEC = "mp4v"  # MPEG-4 part 2, which OpenCV's own FFmpeg can write on every platform
_FPS = 25.0  # where the file does not say


def write_videos(output: Path, sources: Sequence[ImageSource], drawn: Path) -> list[Path]:
    """Join the annotated frames of each video to OUTPUT/videos/NAME.mp4, at the frame rate of the input, without sound.

    Frames that could not be read are missing in it. Memory does not depend on the length of a video.

    Args:
        output: The output folder of the run.
        sources: The images of the run, in order.
        drawn: The folder of annotated images.

    Returns:
        The videos.

    Raises:
        RmpeError: OpenCV cannot write a video here.
    """
    videos: dict[Video, list[VideoFrame]] = {}
    for source in sources:
        if isinstance(source, VideoFrame):
            videos.setdefault(source.video, []).append(source)
    written = []
    for video, frames in videos.items():
        there = [path for frame in frames if os.path.isfile(path := drawn / drawn_name(frame.name))]
        if there:
            path = output / FOLDER / f"{video.path.stem}.mp4"
            make_folder(path.parent)
            _write(path, there, video.fps or _FPS)
            written.append(path)
    return written


def _write(path: Path, frames: Sequence[Path], fps: float) -> None:
    height, width = _frame(frames[0]).shape[:2]
    with all_or_none(path) as [place]:
        with silent_stderr():
            writer = cv2.VideoWriter(str(place), cv2.VideoWriter.fourcc(*_CODEC), fps, (width, height))
        if not writer.isOpened():
            raise RmpeError(f"{path}: this OpenCV cannot write an .mp4; the annotated frames are in {frames[0].parent}")
        try:
            for frame in frames:
                image = _frame(frame)
                writer.write(image if image.shape[:2] == (height, width) else cv2.resize(image, (width, height)))
        finally:
            writer.release()


def _frame(path: Path):
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileError(f"{path}: cannot be read; remove it and run again, which draws it again")
    return image
