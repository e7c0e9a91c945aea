"""Rows of HDF5 files, untransformed. Source: hdf5_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.hdf5_rows import RowReader
from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .base_data import BlobLayer
from .by_use import sample_by_use
from .example_data import example_shape
from .read_ahead import Position
from .registry import register


@register("HDF5Data")
class HDF5Data(BlobLayer):
    """The next rows of the datasets named like the tops: (batch, ...).

    shuffle mixes the files and the rows of each file in the same way in every run, as in Caffe, which never seeds the
    generator it uses here.
    """

    params = ("hdf5_data_param",)
    exact = True
    tops = (1, None)
    _rows: RowReader | None = None
    _assumed: Sequence[Shape | None] = ()

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.assumes = not os.path.exists(self.spec.get("hdf5_data_param").source)
        if self.assumes:
            self._assumed = [sample_by_use(top, specs) for top in self.spec.top]

    def setup(self) -> None:
        super().setup()
        if self.spec.message.has("transform_param"):
            raise self.spec.error("does not transform its values; remove transform_param")
        if not self.spec.get("hdf5_data_param").batch_size:
            raise self.spec.error("needs a batch_size above 0")

    def reshape(self) -> Sequence[Shape]:
        param = self.spec.get("hdf5_data_param")
        example = ""
        if not os.path.exists(param.source) and self.top_count == 2:
            example, features = example_shape(param.source)
        if example:
            warnings.warn(str(self.spec.error(f"its source {param.source!r} does not exist; its name suggests "
                                              f"{example}, with {features[0]} features and a label")), stacklevel=2)
            return [(param.batch_size, *features), (param.batch_size,)]
        if not os.path.exists(param.source) and any(sample is not None for sample in self._assumed):
            self.guesses = True
            shapes = [(param.batch_size, *(sample or ())) for sample in self._assumed]
            told = ", ".join(f"{top} {shape_text(shape)}" for top, shape in zip(self.spec.top, shapes, strict=True))
            warnings.warn(str(self.spec.error(f"its source {param.source!r} does not exist; from the layers that use "
                                              f"them, its tops are assumed to be {told}")), stacklevel=2)
            return shapes
        with self.named():
            return [(param.batch_size, *shape) for shape in self.rows.shapes]

    @property
    def rows(self) -> RowReader:
        """The position in the files; the first file is read on first use."""
        if self._rows is None:
            param = self.spec.get("hdf5_data_param")
            if not os.path.exists(param.source):
                raise self.spec.error(f"its source {param.source!r} does not exist, and nothing else determines the "
                                      "shapes of its tops; create it, or give the network Input layers")
            self._rows = RowReader(param.source, self.spec.top, param.shuffle)
        return self._rows

    def batch(self) -> Sequence[np.ndarray]:
        count = self.spec.get("hdf5_data_param").batch_size
        if self.processes == 1:
            return self.rows.take(count)
        return [np.ascontiguousarray(rows[self.rank :: self.processes])
                for rows in self.rows.take(count * self.processes)]

    def read_position(self) -> Position:
        return self.rows.position()

    def read_from(self, position: Position) -> None:
        self.rows.seek(position)

    def shard(self, rank: int, processes: int) -> None:
        super().shard(rank, processes)
        self.end_prefetch()
        self._rows = None
