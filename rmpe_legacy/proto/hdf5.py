"""Weights that Caffe saved as HDF5: /data/<layer>/<blob index>."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from rmpe_legacy.errors import FileError

from .caffemodel import StoredBlob, TrainedLayer

MAX_RATIO = 1100  # deflate cannot shrink more; a dataset that claims so was made to exhaust memory


def read_hdf5_weights(path: str | Path) -> list[TrainedLayer]:
    """The layers of a .caffemodel.h5, in name order. Links that lead out of the file are refused."""
    try:
        with h5py.File(path, "r") as file:
            data = member(path, file, "data")
            if not isinstance(data, h5py.Group):
                raise FileError(f"{path}: an HDF5 file without the group 'data'; is this a caffemodel.h5?")
            return list(_layers(path, data, ""))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise FileError(f"{path}: not a readable HDF5 file: {error}") from None


def member(path, group: h5py.Group, name: str):
    """A member of the group itself; None where there is none. Never follows a link to elsewhere."""
    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise FileError(f"{path}: {group.name}/{name} is a link to elsewhere; such a file is not read")
    return None if link is None else group[name]


def _layers(path, group: h5py.Group, prefix: str):
    """The layers below a group. A layer's name may hold slashes, which HDF5 takes for groups in groups.

    So the group of `c1/3x3` can hold, beside its blobs, the group of `c1/3x3/bn`.
    """
    for name in group:
        child = member(path, group, name)
        if not isinstance(child, h5py.Group):
            continue
        blobs = [key for key in child if isinstance(member(path, child, key), h5py.Dataset)]
        if blobs:
            if not all(key.isdigit() and int(key) < 1000 for key in blobs):
                raise FileError(f"{path}: {child.name}: blobs are named {', '.join(blobs)}; numbers are expected")
            count = 1 + max(map(int, blobs))  # a blob shared with another layer is left out
            yield TrainedLayer(prefix + name, "", tuple(
                _blob(path, child[str(i)]) if str(i) in blobs else None for i in range(count)))
        elif len(child) == 0:
            yield TrainedLayer(prefix + name, "", ())
        yield from _layers(path, child, f"{prefix}{name}/")


def _blob(path, dataset: h5py.Dataset) -> StoredBlob:
    return StoredBlob(dataset.shape, read_values(path, dataset).reshape(-1))


def read_values(path, dataset: h5py.Dataset, kinds: str = "f") -> np.ndarray:
    """A dataset's values, whose dtype is of one of `kinds`. FileError where they lie elsewhere, or claim too much."""
    size = dataset.size * dataset.dtype.itemsize
    if dataset.external or dataset.is_virtual:
        raise FileError(f"{path}: {dataset.name}: its values lie in another file; such a file is not read")
    if dataset.dtype.kind not in kinds:
        raise FileError(f"{path}: {dataset.name}: holds {dataset.dtype}, not "
                        + ("floating-point values" if kinds == "f" else "numbers"))
    if size > MAX_RATIO * max(dataset.id.get_storage_size(), 1):
        raise FileError(f"{path}: {dataset.name}: claims {size} bytes and stores "
                        f"{dataset.id.get_storage_size()}; the file is damaged")
    return np.asarray(dataset[()])
