"""Image files from a list. Source: image_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.opencv_image import (
    c_integer,
    check_opencv,
    read_image,
    read_lines,
)
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import FileError, RmpeError

from .base import Layer
from .base_data import SourceLayer
from .fed import COLORS, ImagesAlone, ImagesWithPlaces
from .registry import register


@register("ImageData")
class ImageData(SourceLayer):
    """The next images of a list, (batch, C, H, W), and their labels, (batch,). A line is ``file label``."""

    params = ("image_data_param", "transform_param")
    exact = True
    tops = 2
    unread = ("scale", "mean_file", "crop_size", "mirror")
    _lines: list[tuple[str, int]] | None = None

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        """With use_gps, or without labels, a layer that is fed."""
        fields = spec.get("image_data_param").fields
        if fields.get("label") is False:
            return ImagesAlone
        return ImagesWithPlaces if fields.get("use_gps") else cls

    def check(self) -> None:
        param = self.spec.get("image_data_param")
        if bool(param.new_height) != bool(param.new_width):
            raise self.spec.error("new_height and new_width belong together; give both, or neither")

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
            lines = [_file_and_label(line) for line in read_lines(self.source, "a list of images")]
            if not lines:
                raise FileError(f"{self.source}: the list is empty")
            if self._skip >= len(lines):
                raise FileError(f"{self.source}: rand_skip skips {self._skip} of {len(lines)} images; make it smaller")
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
        """The line at hand, and its image's path."""
        lines = self.lines  # which sets the place in it
        line = lines[self._epoch[self._at]]
        return line, self.spec.get("image_data_param").root_folder + line[0]

    def _take(self) -> tuple[tuple[str, int], str]:
        """The next line of this process's share, and its image's path."""
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
            raise RmpeError(f"{self.source}: lists {len(self.lines)} images, but {position['lines']} when the run "
                            "stopped")
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
        blobs: list[np.ndarray] = []  # made when the first image tells its size

        def use(i: int, line: tuple[str, int], path: str) -> None:
            image = self._read(path)
            if not blobs:
                blobs.extend(self.new_blobs(self.transformer.shape_of(image)))
            self.transformer.apply(image, blobs[0][i])
            blobs[1][i] = line[1]

        self.each_record(self._take, use)
        return blobs


def _file_and_label(line: str) -> tuple[str, int]:
    """Split a line at its last space; without a space, the whole line is both file and label."""
    name, space, label = line.rpartition(" ")
    return (name, c_integer(label)) if space else (line, c_integer(line))
