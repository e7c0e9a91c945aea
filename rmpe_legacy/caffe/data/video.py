"""Frames of a video file, of a numbered sequence of images, or of a camera.

Source: video_data_layer.cpp of RMPE@5188c23.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.silence import silent_stderr


class Frames:
    """Consecutive frames, each (H, W, 3) uint8 BGR. At the end of a video Caffe stops the program."""

    def __init__(self, source: str | int):
        """source: a file, a pattern such as frames/%06d.png, or a camera's number. Opens nothing yet."""
        self.source = source
        self.taken = 0
        self._capture: cv2.VideoCapture | None = None
        self._first: np.ndarray | None = None  # read to know its size

    @property
    def may_exist(self) -> bool:
        """Whether opening is worth trying: cameras, patterns and addresses can only be checked by opening them."""
        return isinstance(self.source, int) or os.path.exists(self.source) or "%" in self.source or "://" in self.source

    def _open(self) -> cv2.VideoCapture:
        if self._capture is None:
            with silent_stderr():
                capture = cv2.VideoCapture(self.source)
            if not capture.isOpened():
                raise self._refusal()
            self._capture = capture
            self._total = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return self._capture

    def _refusal(self) -> RmpeError:
        if isinstance(self.source, int):
            return RmpeError(f"there is no camera {self.source}, or it is in use; choose another device_id, or a "
                             "video_file with video_type: VIDEO")
        if not self.may_exist:
            return FileError(f"{self.source}: No such file or directory")
        return FileError(f"{self.source}: not a video or sequence of images that OpenCV opens")

    @property
    def opened(self) -> bool:
        return self._capture is not None

    @property
    def total(self) -> int:
        """The number of frames in the header, which can be one too high."""
        self._open()
        return int(self._total)

    @property
    def fps(self) -> float:
        """Frames per second according to the file; 0 if it does not say."""
        rate = self._open().get(cv2.CAP_PROP_FPS)
        return rate if 0 < rate < 1000 else 0.0

    def peek(self) -> np.ndarray:
        """Return the next frame, (H, W, 3) uint8 BGR, without consuming it."""
        if self._first is None:
            self._first = self._read()
        return self._first

    def take(self) -> np.ndarray:
        """Return the next frame, (H, W, 3) uint8 BGR.

        Raises:
            RmpeError: There are no more frames.
        """
        frame, self._first = self.peek(), None
        self.taken += 1
        return frame

    def _read(self) -> np.ndarray:
        capture = self._open()
        if not isinstance(self.source, int) and self.taken >= self._total:
            raise RmpeError(f"{self.source}: all {self.taken} frames are read; the video has no more")
        with silent_stderr():
            good, frame = capture.read()
        if not good:
            raise RmpeError(f"{self.source}: frame {self.taken} cannot be read; the video is truncated or damaged")
        return frame

    def close(self) -> None:
        """Release the file or camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def __getstate__(self) -> dict:
        return {"source": self.source, "taken": self.taken}

    def __setstate__(self, state: dict) -> None:
        Frames.__init__(self, state["source"])
        while not isinstance(self.source, int) and self.taken < state["taken"]:
            self.take()
