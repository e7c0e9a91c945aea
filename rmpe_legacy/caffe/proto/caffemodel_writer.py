"""Writes .caffemodel files of format V2, which Caffe and OpenCV 4 read: weights go from their arrays to the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.files import whole_file

from .blobs import StoredBlob, TrainedLayer
from .message import Message
from .schema import load_schema
from .wire import BYTES, encode, varint

MAX_SIZE = (1 << 31) - 1  # bytes that Caffe reads of one file (kProtoReadBytesLimit, io.cpp)

NAME, LAYER = 1, 100  # fields of a NetParameter

# dtype -> the fields of a BlobProto for values and for diffs
_FIELDS = {np.dtype("<f4"): ("data", "diff"), np.dtype("<f8"): ("double_data", "double_diff"),
           np.dtype("<f2"): ("raw_data", "")}


def write_caffemodel(path: str | os.PathLike, layers: Iterable[TrainedLayer], net: Message | None = None,
                     name: str = "") -> None:
    """Write a .caffemodel; the file appears whole or not at all.

    A blob's values keep their type and every bit: float32 as `data`, float64 as `double_data`, float16 as `raw_data`
    (which OpenCV reads, and Caffe does not).

    Args:
        path: The file.
        layers: Names, types and blobs.
        net: The whole network (a NetParameter of format V2), if the file is to contain the layers' definitions, as
            Caffe's own files do; each gets the blobs of the layer with its name. Without it, the file contains only
            `name`, and each layer's name, type and blobs.
        name: The network's name if `net` is None.

    Raises:
        NetError: A layer is not in the network, or lacks a blob that it shares with another layer.
        FileError: The file cannot be written, or would be larger than Caffe reads.
    """
    pieces = _Pieces(net.name if net is not None else name)
    for definition, blobs in _joined(layers, net):
        pieces.add_layer(definition, blobs)
    if pieces.size > MAX_SIZE:
        raise FileError(f"{path}: would be {pieces.size / 2**30:.1f} GiB; Caffe reads files of up to 2 GiB")
    with whole_file(path) as file:
        for piece in pieces.all:
            file.write(piece if isinstance(piece, bytes) else _bytes(piece))


def _joined(layers: Iterable[TrainedLayer], net: Message | None) -> Iterator[tuple[Message, Sequence[StoredBlob]]]:
    """Each layer's definition with its blobs."""
    if net is None:
        schema = load_schema()["LayerParameter"]
        for layer in layers:
            fields = {"name": layer.name, "type": layer.type} if layer.type else {"name": layer.name}
            yield Message(schema, fields), _complete(layer)
        return
    trained = {layer.name: layer for layer in layers if layer.blobs}
    if strangers := trained.keys() - {definition.name for definition in net.layer}:
        raise NetError(f"weights of {', '.join(sorted(strangers))}, which the network does not have")
    for definition in net.layer:
        own = trained.get(definition.name)
        yield definition, () if own is None else _complete(own)


def _complete(layer: TrainedLayer) -> Sequence[StoredBlob]:
    blobs = [blob for blob in layer.blobs if blob is not None]
    if len(blobs) < len(layer.blobs):
        raise NetError(f"{layer.name}: blob {layer.blobs.index(None)} is shared with another layer and missing; load "
                       "the network and save it from there")
    return blobs


class _Pieces:
    """The parts of the file in order: encoded messages as bytes, and the arrays themselves."""

    def __init__(self, name: str):
        self.all: list[bytes | np.ndarray] = []
        if name:
            self.all += _tagged(NAME, [name.encode("utf-8", "surrogateescape")])
        self.size = _size(self.all)

    def add_layer(self, definition: Message, blobs: Sequence[StoredBlob]) -> None:
        number = definition.descriptor.fields["blobs"].number
        pieces = _tagged(LAYER, [
            encode(_fields(definition, lambda n: n < number)),
            *(piece for blob in blobs for piece in _tagged(number, _blob(blob))),
            encode(_fields(definition, lambda n: n > number))])
        self.all += pieces
        self.size += _size(pieces)


def _fields(message: Message, wanted: Callable[[int], bool]) -> Message:
    """The fields of a message whose numbers are wanted."""
    fields = message.descriptor.fields
    return Message(message.descriptor, {k: v for k, v in message.fields.items() if wanted(fields[k].number)})


def _blob(blob: StoredBlob) -> list[bytes | np.ndarray]:
    """The body of a BlobProto, in the order of its fields' numbers; the values stay where they are."""
    kind = blob.data.dtype.newbyteorder("<")
    if kind not in _FIELDS:
        raise NetError(f"a blob of {blob.data.dtype}; expected floating-point values")
    schema = load_schema()
    descriptor, (data, diff) = schema["BlobProto"], _FIELDS[kind]
    if blob.legacy:
        fields: dict[str, Any] = dict(zip(("num", "channels", "height", "width"), blob.shape, strict=True))
    else:
        fields = {"shape": Message(schema["BlobShape"], {"dim": list(blob.shape)})}
    if kind.itemsize == 2:
        fields["raw_data_type"] = "FLOAT16"
    arrays = {data: blob.data} | ({diff: blob.diff} if blob.diff is not None and diff else {})
    numbered = sorted((descriptor.fields[name].number, name) for name in (*fields, *arrays))
    return [piece for number, name in numbered
            for piece in (_tagged(number, [arrays[name]]) if name in arrays
                          else [encode(Message(descriptor, {name: fields[name]}))])]


def _tagged(number: int, pieces: Sequence[bytes | np.ndarray]) -> list[bytes | np.ndarray]:
    """Pieces as one length-delimited field."""
    return [varint(number << 3 | BYTES) + varint(_size(pieces)), *pieces]


def _size(pieces: Sequence[bytes | np.ndarray]) -> int:
    return sum(len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in pieces)


def _bytes(values: np.ndarray) -> memoryview:
    """The array's memory, in little-endian order; copied only where it lies otherwise."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
