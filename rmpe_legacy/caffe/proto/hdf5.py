"""Weights that Caffe saved as HDF5: /data/<layer>/<blob index>."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from os import PathLike

from rmpe_legacy.errors import FileError
from rmpe_legacy.readers.hdf5 import Dataset, Group, open_hdf5
from rmpe_legacy.reading import MAX_DIMS

from .blobs import StoredBlob, TrainedLayer

MAX_BLOBS = 1000  # of one layer
Members = Mapping[str, Group | Dataset | None]


def read_hdf5_weights(path: str | PathLike) -> list[TrainedLayer]:
    """Return the layers of a .caffemodel.h5, in name order. Links that lead out of the file are refused.

    Raises:
        FileError: The file cannot be read, or is not a .caffemodel.h5.
    """
    data = open_hdf5(path).get("data")
    if not isinstance(data, Group):
        raise FileError(f"{path}: an HDF5 file without the group 'data'; is this a caffemodel.h5?")
    seen = {id(data)}
    return list(_layers(_members(data, seen), "", seen))


def _members(group: Group, seen: set[int]) -> Members:
    """What a group holds, nothing of it seen before: two links to one group could make a layer of every path."""
    members = {name: group.get(name) for name in group}
    for name, member in members.items():
        if member is not None and id(member) in seen:
            raise FileError(f"{group.path}: {group.name}/{name} is a second link to {member.name}; such files are not "
                            "supported")
        seen.add(id(member))
    return members


def _layers(members: Members, prefix: str, seen: set[int]) -> Iterator[TrainedLayer]:
    """The layers below a group. A layer's name may hold slashes, which HDF5 takes for groups in groups.

    So the group of `c1/3x3` can hold, beside its blobs, the group of `c1/3x3/bn`.
    """
    for name, child in members.items():
        if not isinstance(child, Group):
            continue
        if child.name.count("/") > MAX_DIMS:
            raise FileError(f"{child.path}: {child.name}: more than {MAX_DIMS} nested groups")
        inside = _members(child, seen)
        blobs = {key: member for key, member in inside.items() if isinstance(member, Dataset)}
        if blobs or not inside:
            yield TrainedLayer(prefix + name, "", _blobs(child, blobs))
        yield from _layers(inside, f"{prefix}{name}/", seen)


def _blobs(layer: Group, found: Mapping[str, Dataset]) -> tuple[StoredBlob | None, ...]:
    """The blobs by their numbers; one that is shared with another layer is left out."""
    if not all(key.isdecimal() and len(key) < 5 and int(key) < MAX_BLOBS for key in found):
        raise FileError(f"{layer.path}: {layer.name}: blobs are named {', '.join(found)}; numbers are expected")
    count = 1 + max(map(int, found), default=-1)
    return tuple(_blob(found[str(i)]) if str(i) in found else None for i in range(count))


def _blob(dataset: Dataset) -> StoredBlob:
    values = dataset.read("f")
    return StoredBlob(values.shape, values.reshape(-1))
