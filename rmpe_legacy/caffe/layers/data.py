"""Records of an LMDB or a LevelDB. Sources: data_layer.cpp and data_reader.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.datum import Cursor, parse_datum
from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .base_data import SourceLayer
from .example_data import example_shape
from .fed import channels_beside
from .registry import register


class StoreLayer(SourceLayer):
    """A layer that cycles through the records of a database, in key order."""

    unread = ("scale", "mean_file", "crop_size", "mirror", "rand_skip", "force_encoded_color")
    _cursor: Cursor | None = None

    def check(self) -> None:
        self.reader_draws = self.spec.dialect != "bvlc"

    @property
    def batch_size(self) -> int:
        return self.spec.get("data_param").batch_size

    @property
    def source(self) -> str:
        return self.spec.get("data_param").source

    def rewind(self, main: CaffeRandom) -> None:
        self._cursor = None

    @property
    def cursor(self) -> Cursor:
        """The position in the database, which is opened on first use."""
        if self._cursor is None:
            self._cursor = Cursor(self.spec.get("data_param").backend, self.source)
            self._pass_over(self.rank)
        return self._cursor

    def take(self) -> tuple[memoryview, str]:
        """The next record of this process's share: the records go round among the processes one by one.

        Source: DataReader::Body::InternalThreadEntry (data_reader.cpp:77-102) of RMPE@5188c23.
        """
        record = self.cursor.take()
        self._pass_over(self.processes - 1)
        return record

    def _pass_over(self, count: int) -> None:
        for _ in range(count):
            self.cursor.take()

    def place_in_source(self) -> dict[str, Any]:
        return {"record": None if self._cursor is None else self._cursor.position()}

    def go_to(self, position: Mapping[str, Any]) -> None:
        self._cursor = None
        if position["record"] is not None:
            self.cursor.seek(position["record"])


@register("Data")
class Data(StoreLayer):
    """The next images of a database, (batch, C, H, W), and their labels, (batch,)."""

    params = ("data_param", "transform_param", "input_param")
    exact = True
    guided = 0  # the channels of a GuidedDropout whose guidance these are, not images

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        copies = {top for spec in specs if spec.type == "Split" and self.spec.top[0] in spec.bottom for top in spec.top}
        if any(spec.type == "GuidedDropout" and {*spec.bottom[1:]} & {self.spec.top[0], *copies} for spec in specs):
            self.guided = channels_beside(self.spec.top[0], specs)

    def shapes(self) -> list[Shape]:
        """Beside Caffe's: without a source, the shape that Netscope's users give in input_param."""
        given = self.spec.get("input_param").shape
        if given and not self.source and all(size > 0 for size in given[0].dim):
            image = tuple(given[0].dim)
            return [image, image[:1] or (1,)]
        return super().shapes()

    def first_shape(self) -> tuple[int, int, int]:
        return self.transformer.shape_of(self.transformer.image(parse_datum(*self.cursor.peek())))

    def assumed_shape(self, height: int = 0, width: int = 0, channels: int = 0) -> tuple[int, int, int]:
        if self.guided:
            return self.guided, 1, 1
        example, shape = example_shape(self.source)
        if example:
            self.warn(f"{self.missing()}; its name suggests {example}, whose images are {shape_text(shape)}")
            channels, height, width = shape
        return super().assumed_shape(height, width, channels)

    def batch(self) -> Sequence[np.ndarray]:
        blobs: list[np.ndarray] = []  # made when the first image tells its size

        def use(i: int, value: memoryview, where: str) -> None:
            datum = parse_datum(value, where)
            image = self.transformer.image(datum)
            if not blobs:
                blobs.extend(self.new_blobs(self.transformer.shape_of(image)))
            self.transformer.apply(image, blobs[0][i])
            blobs[1][i] = datum.label

        self.each_record(self.take, use)
        return blobs[: self.top_count]
