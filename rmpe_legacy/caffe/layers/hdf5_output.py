"""Writes blobs to an HDF5 file. Source: hdf5_output_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its two bottoms, as (N, C, H, W), to the datasets "data" and "label" of an HDF5 file.

    A network can run forward once: in Caffe, a second forward would write the same datasets again, and aborts.
    Differs: the file is created by the forward, not when the network is loaded.
    """

    params = ("hdf5_output_param",)
    bottoms = 2
    tops = 0
    not_exportable = "writes a file"

    def setup(self, *bottom: Shape) -> None:
        self.file_name = self.spec.get("hdf5_output_param").file_name
        self.written = False
        if not self.file_name:
            raise self.spec.error("hdf5_output_param.file_name must be given")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.shapes = [self.nchw(shape) for shape in bottom]
        if self.shapes[0][0] != self.shapes[1][0]:
            raise self.spec.error("data and label must have the same number of samples, but are "
                                  + " and ".join(map(shape_text, bottom)))
        return []

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        import h5py  # imported here, because most networks do not need it

        if self.written:
            raise self.spec.error(f"has written {self.file_name} already, and Caffe writes one batch per file; load "
                                  "the network again for another")
        try:
            with h5py.File(self.file_name, "w") as file:
                for name, blob, shape in zip(("data", "label"), bottoms, self.shapes, strict=True):
                    file.create_dataset(name, data=blob.detach().reshape(shape).cpu().numpy())
        except OSError as error:
            raise self.spec.error(f"cannot write {self.file_name}: {error}") from None
        self.written = True
        return ()
