"""Picture files from a list. Source: image_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.opencv_image import (
    c_integer,
    check_opencv,
    read_image,
    read_lines,
)
from rmpe_legacy.errors import FileError

from .base_data import COLORS, SourceLayer
from .registry import register


@register("ImageData")
class ImageData(SourceLayer):
    """The next pictures of a list, (batch, C, H, W), and their labels, (batch,). A line: ``file label``."""

    params = ("image_data_param", "transform_param")
    exact = True
    tops = 2
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
        """(file, label) in the order of this epoch."""
        if self._lines is None:
            lines = [_file_and_label(line) for line in read_lines(self.source, "a list of pictures")]
            if not lines:
                raise FileError(f"{self.source}: the list is empty")
            if self._order:
                self._order.shuffle(lines)
            if self._skip >= len(lines):
                raise FileError(f"{self.source}: rand_skip leaves out {self._skip} of {len(lines)} pictures; make it "
                                "smaller")
            self._lines, self._at = lines, self._skip
        return self._lines

    def _read(self) -> np.ndarray:
        param = self.spec.get("image_data_param")
        lines = self.lines  # which sets the place in it
        path = param.root_folder + lines[self._at][0]
        return check_opencv(read_image, path, param.is_color, param.new_height, param.new_width)

    def first_shape(self) -> tuple[int, int, int]:
        return self.transformer.shape_of(self._read())

    def assumed_shape(self) -> tuple[int, int, int]:
        param = self.spec.get("image_data_param")
        return super().assumed_shape(param.new_height, param.new_width, COLORS if param.is_color else 1)

    def batch(self) -> Sequence[np.ndarray]:
        blob, lines = None, self.lines
        for i in range(self.batch_size):
            picture = self._read()
            if blob is None:
                blob, labels = self.new_blobs(self.transformer.shape_of(picture))
            self.transformer.apply(picture, blob[i])
            labels[i] = lines[self._at][1]
            self._at += 1
            if self._at == len(lines):
                self._at = 0
                if self._order:
                    self._order.shuffle(lines)
        return blob, labels


def _file_and_label(line: str) -> tuple[str, int]:
    """What stands before and after the last space; without one, all of it is both."""
    name, space, label = line.rpartition(" ")
    return (name, c_integer(label)) if space else (line, c_integer(line))
