"""HDF5Data: rows of HDF5 files, as they are. Source: hdf5_data_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from rmpe_legacy.caffe.data.hdf5_rows import RowReader

from .base import Shape
from .base_data import BlobLayer
from .registry import register


@register("HDF5Data")
class HDF5Data(BlobLayer):
    """The next rows of the dataset that each top is named after: (batch, ...).

    shuffle mixes the files and the rows of each, always in the same way: in Caffe too, since nobody seeds the random
    numbers that it takes.
    """

    params = ("hdf5_data_param",)
    exact = True
    tops = (1, None)
    _rows: RowReader | None = None

    def setup(self) -> None:
        super().setup()
        if self.spec.message.has("transform_param"):
            raise self.spec.error("does not transform its values; remove transform_param")
        if not self.spec.get("hdf5_data_param").batch_size:
            raise self.spec.error("needs a batch_size above 0")

    def reshape(self) -> Sequence[Shape]:
        with self.named():
            return [(self.spec.get("hdf5_data_param").batch_size, *shape) for shape in self.rows.shapes]

    @property
    def rows(self) -> RowReader:
        """The place in the files; the first is read when it is first asked for."""
        if self._rows is None:
            param = self.spec.get("hdf5_data_param")
            if not os.path.exists(param.source):
                raise self.spec.error(f"its source {param.source!r} is not there, and nothing else tells the shapes of "
                                      "its tops; make it, or give the network Input layers")
            self._rows = RowReader(param.source, self.spec.top, param.shuffle)
        return self._rows

    def batch(self) -> Sequence[np.ndarray]:
        return self.rows.take(self.spec.get("hdf5_data_param").batch_size)
