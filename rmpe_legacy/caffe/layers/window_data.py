"""Regions of image files. Source: window_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.opencv_image import (
    check_opencv,
    decode_image,
    read_bytes,
    read_image,
)
from rmpe_legacy.caffe.data.windows import Placed, Window, WindowFile, cut_window, read_windows
from rmpe_legacy.errors import RmpeError

from .base_data import SourceLayer
from .fed import COLORS
from .registry import register


@register("WindowData")
class WindowData(SourceLayer):
    """Random regions of images, (batch, C, crop_size, crop_size), and their classes, (batch,).

    The first part of a batch is background, class 0. A region is 0 outside the image, and where rounding leaves
    pixels uncovered.
    """

    params = ("window_data_param", "transform_param")
    tops = 2
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
            raise RmpeError(f"{self.source}: images of {self.file.channels} channels; Caffe reads them as "
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
        """Write (pixel - mean) * scale to the window's part of the blob; scale is window_data_param's."""
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
        """Return the mean image's centre, (C, crop_size, crop_size); its width gives the offset of rows too."""
        mean = self.transformer.mean
        offset = (mean.shape[2] - self.size) // 2
        part = mean[:, offset : offset + self.size, offset : offset + self.size]
        if offset < 0 or part.shape != (channels, self.size, self.size):
            raise RmpeError(f"the mean_file is {' x '.join(map(str, mean.shape))}; it has no centred {self.size} x "
                            f"{self.size} crop with {channels} channels")
        return part
