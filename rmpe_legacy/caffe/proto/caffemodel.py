"""Trained weights as a file holds them: .caffemodel (formats V0, V1, V2), mapped and without a copy, or HDF5."""

from __future__ import annotations

import mmap
from os import PathLike

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import is_binary
from rmpe_legacy.reading import MAX_DIMS, cannot_open, item_count, other_kind

from .blobs import StoredBlob, TrainedLayer
from .message import Message, Source
from .schema import load_schema
from .upgrade import upgrade_net
from .wire import decode

# What weights need of a NetParameter; everything else in the file is skipped unread.
_WANTED = {
    "NetParameter": ("layer", "layers"),
    "LayerParameter": ("name", "type", "blobs"),
    "V1LayerParameter": ("name", "type", "blobs", "layer"),
    "V0LayerParameter": ("name", "type", "blobs"),
    "BlobProto": ("num", "channels", "height", "width", "shape", "data", "double_data", "raw_data_type", "raw_data"),
}
_RAW_TYPES = {"DOUBLE": "<f8", "FLOAT": "<f4", "FLOAT16": "<f2"}
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_weights(path: str | PathLike) -> list[TrainedLayer]:
    """Return the layers of a .caffemodel or .caffemodel.h5, in file order.

    Raises:
        FileError: The file cannot be read, is damaged, or is of another kind.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(b"version https://git-lfs"))
            if start.startswith(HDF5_SIGNATURE):
                from .hdf5 import read_hdf5_weights

                return read_hdf5_weights(path)
            if not start:
                raise FileError(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise cannot_open(path, error) from None
    if what := other_kind(start):
        raise FileError(f"{path}: this is {what}; a caffemodel is expected")
    if not is_binary(mapped[:4096]) and mapped[:4096].isascii():
        raise FileError(f"{path}: this is text (a prototxt?); a caffemodel is expected")
    return parse_weights(mapped, str(path))


def parse_weights(buffer, path: str = "<caffemodel>") -> list[TrainedLayer]:
    """Return the layers of a .caffemodel from bytes or a memory map.

    Raises:
        FileError: The content is damaged, or has no layers.
    """
    net = decode(buffer, load_schema()["NetParameter"], Source(path), _WANTED)
    if not net.layer and not net.layers:
        raise FileError(f"{path}: contains no layers; is this a caffemodel?")
    layers = upgrade_net(net).layer
    return [TrainedLayer(layer.name, layer.fields.get("type", ""), tuple(_blob(path, layer, b) for b in layer.blobs))
            for layer in layers]


def blob_from_proto(blob: Message) -> StoredBlob:
    """Return a BlobProto as a flat array and a shape.

    Raises:
        FileError: The number of values does not match the shape, or raw_data has an unknown type.
    """
    legacy = any(blob.has(key) for key in ("num", "channels", "height", "width"))
    dims = (blob.num, blob.channels, blob.height, blob.width) if legacy else tuple(blob.shape.dim)
    if blob.has("raw_data"):
        kind = _RAW_TYPES.get(blob.raw_data_type if blob.has("raw_data_type") else "FLOAT")
        if kind is None or len(blob.raw_data) % np.dtype(kind).itemsize:
            raise FileError(f"raw_data of {len(blob.raw_data)} bytes and type {blob.raw_data_type} is not readable")
        data = np.frombuffer(blob.raw_data, kind)
    else:
        double = blob.has("double_data")  # as Caffe: double_data wins where both stand
        data = np.asarray(blob.double_data if double else blob.data, np.float64 if double else np.float32)
    if len(dims) > MAX_DIMS:
        raise FileError(f"shape with {len(dims)} dimensions, more than {MAX_DIMS}")
    if item_count(dims) != data.size:
        raise FileError(f"shape {' x '.join(map(str, dims)) or '()'} with {data.size} values")
    return StoredBlob(dims, data, legacy)


def _blob(path: str, layer: Message, blob: Message) -> StoredBlob:
    try:
        return blob_from_proto(blob)
    except FileError as error:
        name = f"{layer.name} ({layer.fields.get('type')})"
        raise FileError(f"{path}: {name}: a blob's {error}; the file is damaged") from None
