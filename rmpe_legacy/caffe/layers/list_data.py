"""ImageData, WindowData and VideoData: picture files from a list, regions of them, frames.

Sources: image_data_layer.cpp, window_data_layer.cpp, video_data_layer.cpp of RMPE@5188c23; video_data_layer.cpp of
weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.opencv_image import (
    c_integer,
    check_opencv,
    decode_image,
    read_bytes,
    read_image,
    read_lines,
)
from rmpe_legacy.caffe.data.video import Frames
from rmpe_legacy.caffe.data.windows import Placed, Window, WindowFile, cut_window, read_windows
from rmpe_legacy.errors import FileError, RmpeError

from .registry import register
from .source import COLORS, SourceLayer


@register("ImageData")
class ImageData(SourceLayer):
    """The next pictures of a list, (batch, C, H, W), and their labels, (batch,). A line: ``file label``."""

    tops = 2
    own_param = "image_data_param"
    unread = ("scale", "mean_file", "crop_size", "mirror")
    _lines: list[tuple[str, int]] | None = None

    def check(self) -> None:
        param = self.spec.get("image_data_param")
        if bool(param.new_height) != bool(param.new_width):
            raise self.spec.error("new_height and new_width belong together; give both, or none")

    @property
    def batch_size(self) -> int:
        return self.spec.get("image_data_param").batch_size

    @property
    def source(self) -> str:
        return self.spec.get("image_data_param").source

    @property
    def is_random(self) -> bool:
        param = self.spec.get("image_data_param")
        return super().is_random or param.shuffle or param.rand_skip > 1

    def rewind(self, main: CaffeRandom) -> None:
        param = self.spec.get("image_data_param")
        self._lines = None
        self._order = CaffeRandom(main.raw()) if param.shuffle else None
        self._skip = main.raw() % param.rand_skip if param.rand_skip else 0

    @property
    def lines(self) -> list[tuple[str, int]]:
        """(file, label) in the order of the file; `_epoch` has their numbers in the order of this epoch."""
        if self._lines is None:
            lines = [_file_and_label(line) for line in read_lines(self.source, "a list of pictures")]
            if not lines:
                raise FileError(f"{self.source}: the list is empty")
            if self._skip >= len(lines):
                raise FileError(f"{self.source}: rand_skip leaves out {self._skip} of {len(lines)} pictures; make it "
                                "smaller")
            self._lines, self._epoch, self._at = lines, list(range(len(lines))), self._skip
            self._shuffle()
            for _ in range(self.rank):
                self._advance()
        return self._lines

    def _shuffle(self) -> None:
        if self._order:
            self._epoch = list(self._epoch)  # a position may refer to the old one
            self._order.shuffle(self._epoch)

    def _advance(self) -> None:
        self._at += 1
        if self._at == len(self._epoch):
            self._at = 0
            self._shuffle()

    def _current(self) -> tuple[tuple[str, int], str]:
        """The line at hand, and its picture's path."""
        lines = self.lines  # which sets the place in it
        line = lines[self._epoch[self._at]]
        return line, self.spec.get("image_data_param").root_folder + line[0]

    def _take(self) -> tuple[tuple[str, int], str]:
        """The next line of this process's share, and its picture's path."""
        current = self._current()
        for _ in range(self.processes):
            self._advance()
        return current

    def _read(self, path: str) -> np.ndarray:
        param = self.spec.get("image_data_param")
        return check_opencv(read_image, path, param.is_color, param.new_height, param.new_width)

    def place_in_source(self) -> dict[str, Any]:
        if self._lines is None:
            return {"at": None}
        order = {"epoch": self._epoch, "order": self._order.state()} if self._order else {}
        return {"at": self._at, "lines": len(self._lines), **order}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self._lines = None
        if position["at"] is None:
            return
        if position["lines"] != len(self.lines):
            raise RmpeError(f"{self.source}: lists {len(self.lines)} pictures, and listed {position['lines']} where "
                            "the run stopped")
        if self._order:
            epoch = [int(i) for i in position["epoch"]]
            if sorted(epoch) != list(range(len(self.lines))):
                raise ValueError("not an order of the lines")
            self._epoch = epoch
            self._order.restore(position["order"])
        self._at = range(len(self.lines))[position["at"]]

    def first_shape(self) -> tuple[int, int, int]:
        return self.transformer.shape_of(self._read(self._current()[1]))

    def assumed_shape(self) -> tuple[int, int, int]:
        param = self.spec.get("image_data_param")
        return super().assumed_shape(param.new_height, param.new_width, COLORS if param.is_color else 1)

    def batch(self) -> Sequence[np.ndarray]:
        blob = labels = None

        def use(i: int, line: tuple[str, int], path: str) -> None:
            nonlocal blob, labels
            picture = self._read(path)
            if blob is None:
                blob, labels = self.new_blobs(self.transformer.shape_of(picture))
            self.transformer.apply(picture, blob[i])
            labels[i] = line[1]

        self.each_record(self._take, use)
        return blob, labels


def _file_and_label(line: str) -> tuple[str, int]:
    """What stands before and after the last space; without one, all of it is both."""
    name, space, label = line.rpartition(" ")
    return (name, c_integer(label)) if space else (line, c_integer(line))


@register("WindowData")
class WindowData(SourceLayer):
    """Regions of pictures, drawn at random: (batch, C, crop_size, crop_size), and their classes, (batch,).

    The first part of a batch is background, class 0. Outside a picture, and where rounding leaves a rest, a region
    is 0.
    """

    tops = 2
    own_param = "window_data_param"
    unread = ("mean_file", "crop_size", "mirror")
    _file: WindowFile | None = None

    def check(self) -> None:
        self.param = self.spec.get("window_data_param")
        self.size = self.spec.get("transform_param").crop_size
        if not self.size:
            raise self.spec.error("needs a crop_size in transform_param")
        self._encoded: dict[str, bytes] = {}

    @property
    def batch_size(self) -> int:
        return self.param.batch_size

    @property
    def source(self) -> str:
        return self.param.source

    @property
    def is_random(self) -> bool:
        return True

    def rewind(self, main: CaffeRandom) -> None:
        self._choice = CaffeRandom(main.raw() + self.rank)  # each process draws windows of its own

    def place_in_source(self) -> dict[str, Any]:
        return {"choice": self._choice.state()}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self._choice.restore(position["choice"])

    @property
    def file(self) -> WindowFile:
        if self._file is None:
            param = self.param
            self._file = read_windows(self.source, param.fg_threshold, param.bg_threshold, param.root_folder)
        return self._file

    def first_shape(self) -> tuple[int, int, int]:
        if self.file.channels != COLORS:
            raise RmpeError(f"{self.source}: pictures of {self.file.channels} channels; Caffe reads them as "
                            f"{COLORS}, so the file must say {COLORS}")
        return COLORS, self.size, self.size

    def assumed_shape(self) -> tuple[int, int, int]:
        return COLORS, self.size, self.size

    def batch(self) -> Sequence[np.ndarray]:
        blob, labels = self.new_blobs(self.first_shape())
        blob.fill(0)
        foreground = int(np.float32(self.batch_size) * np.float32(self.param.fg_fraction))
        for i in range(self.batch_size):
            windows = self.file.background if i < self.batch_size - foreground else self.file.foreground
            window = windows[self._choice.below(len(windows))]
            mirrored = self.transformer.param.mirror and self._choice.below(2) == 1
            labels[i] = window.label
            self._write(check_opencv(self._cut, window, mirrored), blob[i])
        return blob, labels

    def _cut(self, window: Window, mirrored: bool) -> Placed:
        path = self.file.paths[window.image]
        if self.param.cache_images:
            if path not in self._encoded:
                self._encoded[path] = read_bytes(path)
            image = decode_image(self._encoded[path], "color", path)
        else:
            image = read_image(path)
        try:
            return cut_window(image, window.corners, self.size, self.param.context_pad,
                              self.param.crop_mode == "square", mirrored)
        except RmpeError as error:
            raise RmpeError(f"{path}: {error}") from None

    def _write(self, placed: Placed, blob: np.ndarray) -> None:
        """(pixel - mean) * scale, where the window lies in its blob; window_data_param's scale."""
        values = placed.image.transpose(2, 0, 1)
        _, height, width = values.shape
        inside = np.s_[:, placed.row : placed.row + height, placed.column : placed.column + width]
        out = blob[inside]
        param = self.transformer.param
        if param.has("mean_file"):
            np.subtract(values, self._mean(len(values))[inside], out=out)
        elif param.mean_value:
            if len(param.mean_value) not in (1, len(values)):
                raise RmpeError(f"mean_value is given {len(param.mean_value)} times for {len(values)} channels; give "
                                "it once, or per channel")
            np.subtract(values, np.asarray(param.mean_value, np.float32).reshape(-1, 1, 1), out=out)
        else:
            np.copyto(out, values)
        out *= np.float32(self.param.scale)

    def _mean(self, channels: int) -> np.ndarray:
        """The middle of the mean picture, (C, crop_size, crop_size); its width tells where that is, for rows too."""
        mean = self.transformer.mean
        offset = (mean.shape[2] - self.size) // 2
        part = mean[:, offset : offset + self.size, offset : offset + self.size]
        if offset < 0 or part.shape != (channels, self.size, self.size):
            raise RmpeError(f"the mean_file has {' x '.join(map(str, mean.shape))} values, of which a crop_size of "
                            f"{self.size} in {channels} channels does not lie in the middle")
        return part


@register("VideoData", dialects=("rmpe", "ssd"))
class VideoData(SourceLayer):
    """The next frames of a video, (batch, C, H, W), and labels of 0, (batch,).

    video_file may be a pattern for numbered pictures. Where Caffe ends the program after the last frame, this is an
    error; Caffe also reads three batches ahead, and so ends earlier.
    Differs: with skip_frames, weiliu89's branch aborts at the first frame that it skips; here frames are skipped.
    """

    own_param = "video_data_param"

    def check(self) -> None:
        param = self.spec.get("video_data_param")
        if param.video_type == "VIDEO" and not param.has("video_file"):
            raise self.spec.error("video_type VIDEO needs a video_file")
        self.skip = param.skip_frames if self.spec.dialect == "ssd" else 0
        self.frames = self._begin()

    def _begin(self) -> Frames:
        param = self.spec.get("video_data_param")
        return Frames(param.device_id if param.video_type == "WEBCAM" else param.video_file)

    @property
    def batch_size(self) -> int:
        return self.spec.get("data_param").batch_size

    @property
    def source(self) -> str:
        return str(self.frames.source)

    def source_exists(self) -> bool:
        return self.frames.may_exist

    def rewind(self, main: CaffeRandom) -> None:
        self.frames.close()
        self.frames = self._begin()
        self._pass_over(self.rank)

    def _pass_over(self, count: int) -> None:
        for _ in range(count):
            self.frames.take()

    def place_in_source(self) -> dict[str, Any]:
        return {"taken": self.frames.taken}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self.frames.close()
        self.frames = self._begin()
        if not isinstance(self.frames.source, int):  # a camera has moved on
            self._pass_over(int(position["taken"]))

    def missing(self) -> str:
        return f"there is no camera {self.source}" if isinstance(self.frames.source, int) else super().missing()

    def first_shape(self) -> tuple[int, int, int]:
        try:
            frame = self.frames.peek()
        except RmpeError:
            if self.frames.opened:
                raise
            return self.assumed_shape()  # no such camera or pictures; the prototxt may tell all the same
        return self.transformer.shape_of(frame)

    def batch(self) -> Sequence[np.ndarray]:
        blob, labels = self.new_blobs(self.transformer.shape_of(self.frames.peek()))
        for i in range(self.batch_size):
            for _ in range(self.skip):
                self.frames.take()
            frame = self.frames.take()
            self._pass_over(self.processes - 1)
            if self.spec.dialect == "ssd" and self.transformer.is_random:
                self.transformer.apply(frame, blob[i])  # weiliu89's branch transforms each frame twice
            self.transformer.apply(frame, blob[i])
        return (blob, labels)[: self.top_count]
