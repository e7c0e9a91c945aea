"""Records of an LMDB or a LevelDB. Sources: data_layer.cpp and data_reader.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.caffe_random import CaffeRandom
from rmpe_legacy.caffe.data.datum import Cursor, parse_datum

from .base_data import SourceLayer
from .registry import register


class StoreLayer(SourceLayer):
    """A layer that reads the records of one store, in the order of their keys, again and again."""

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
        """The place in the store, which is opened when it is first asked for."""
        if self._cursor is None:
            self._cursor = Cursor(self.spec.get("data_param").backend, self.source)
        return self._cursor


@register("Data")
class Data(StoreLayer):
    """The next pictures of a store, (batch, C, H, W), and their labels, (batch,)."""

    params = ("data_param", "transform_param")
    exact = True

    def first_shape(self) -> tuple[int, int, int]:
        return self.transformer.shape_of(self.transformer.picture(parse_datum(*self.cursor.peek())))

    def batch(self) -> Sequence[np.ndarray]:
        blob = labels = None
        for i in range(self.batch_size):
            datum = parse_datum(*self.cursor.take())
            picture = self.transformer.picture(datum)
            if blob is None:
                blob, labels = self.new_blobs(self.transformer.shape_of(picture))
            self.transformer.apply(picture, blob[i])
            labels[i] = datum.label
        return (blob, labels)[: self.top_count]
