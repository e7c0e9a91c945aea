"""Weights as HDF5, in Caffe's layout: /data/<layer>/<blob index>. Source: Net::ToHDF5 (net.cpp) of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import h5py
import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import as_os_errors
from rmpe_legacy.wording import utf8

from .blobs import TrainedLayer


def write_hdf5_weights(path: str | PathLike, layers: Sequence[TrainedLayer]) -> None:
    """Write a .caffemodel.h5; blobs keep their dtype. A blob that is None, because another layer owns it, is left out.

    A slash in a layer's name makes nested groups, as in HDF5; Caffe reads them.

    Raises:
        FileError: HDF5 cannot hold a layer's name, two names clash, or the file cannot be written.
    """
    with as_os_errors(), h5py.File(path, "w") as file:
        data = file.create_group("data")
        for layer in layers:
            if ({"", ".", ".."} & set(layer.name.split("/")) or "\0" in layer.name
                    or utf8(layer.name) != layer.name):
                raise FileError(f"layer {layer.name!r} has a name that HDF5 cannot hold; write another format, or "
                                "rename the layer")
            try:
                group = data.require_group(layer.name)
                for index, blob in enumerate(layer.blobs):
                    if blob is not None:
                        group.create_dataset(str(index), data=np.reshape(blob.data, blob.shape))
            except (ValueError, TypeError):  # a group and a dataset of one name
                raise FileError(f"layer {layer.name!r} has a name that clashes with another layer's in HDF5; write "
                                "another format, or rename the layer") from None
