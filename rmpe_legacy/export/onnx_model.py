"""An ONNX model beside its weights, which are neither written nor read by way of a copy in memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError
from rmpe_legacy.optional import optional
from rmpe_legacy.wording import utf8

MAX_BYTES = (1 << 31) - 1  # of one protobuf message
IN_FILE = 1 << 16  # bytes of a tensor that ``read_light`` leaves in its file

# Tags of fields with a length: of ModelProto, GraphProto and TensorProto.
_GRAPH, _INITIALIZER, _RAW_DATA = (number << 3 | 2 for number in (7, 5, 9))


@dataclass(frozen=True)
class OnnxModel:
    """A model, and the values of its initializers.

    Attributes:
        light: The onnx.ModelProto without its initializers.
        weights: Name -> values, in any shape. They are not copied, so they must not change before the model is written.
    """

    light: Any
    weights: Mapping[str, np.ndarray]

    def whole(self) -> Any:
        """Return the onnx.ModelProto, with a copy of the weights."""
        model = type(self.light)()
        model.CopyFrom(self.light)
        for name, values in self.weights.items():
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(_header(name, values))
            tensor.raw_data = values.tobytes()
        return model

    def check_size(self, path: str | PathLike) -> None:
        """Raise FileError, which names the file, if the model exceeds the size limit of ONNX files."""
        check_size(path, sum(map(len, self._pieces())))

    def write(self, path: str | PathLike) -> None:
        """Write the file.

        Raises:
            FileError: The model exceeds the size limit of ONNX files, or the file cannot be written.
        """
        self.check_size(path)
        with open(path, "wb") as file:
            file.writelines(self._pieces())

    def _pieces(self) -> list[bytes | memoryview]:
        """Return what the file consists of, the weights as views of their values."""
        tensors: list[bytes | memoryview] = []
        for name, values in self.weights.items():
            head = _header(name, values).SerializeToString() + _begin(_RAW_DATA, values.nbytes)
            tensors += [_begin(_INITIALIZER, len(head) + values.nbytes) + head,
                        values.reshape(-1).view(np.uint8).data]
        rest = type(self.light)()
        rest.CopyFrom(self.light)
        graph = rest.graph.SerializeToString()
        rest.ClearField("graph")
        size = len(graph) + sum(map(len, tensors))
        return [rest.SerializeToString(), _begin(_GRAPH, size), graph, *tensors]


def check_size(path: str | PathLike, size: int) -> None:
    """Raise FileError if a model of so many bytes exceeds the size limit of ONNX files."""
    if size > MAX_BYTES:
        raise FileError(f"{path}: would be {size / 2**30:.1f} GiB; an ONNX file can hold at most 2 GiB. Convert a part "
                        "of the network, with --until BLOB")


def _header(name: str, values: np.ndarray) -> Any:
    """Return a TensorProto without its values."""
    from onnx import TensorProto, helper

    return TensorProto(name=name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype))


def _begin(tag: int, size: int) -> bytes:
    """Return what stands before a field of `size` bytes."""
    out = bytearray([tag])
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


# --- reading ------------------------------------------------------------------------------------------------------


def read_light(path: Path) -> Any:
    """Read an ONNX file without the values of its large tensors, which refer to the file as external data.

    A runtime that opens the model then needs the folder of the file, and reads the values from there. A model cannot
    refer to a file whose name is not UTF-8; that is read as a whole.

    Args:
        path: The file; not a link to it.

    Returns:
        The onnx.ModelProto.

    Raises:
        Exception: Whatever the parser raises for a damaged file.
    """
    onnx = optional("onnx", "reading an ONNX file")
    if not is_utf8(path):
        return onnx.load(path)
    model = onnx.ModelProto()
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return model
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            rest = []
            for tag, start, begin, end in _fields(data, 0, len(data)):
                if tag == _GRAPH:
                    _add_graph(model.graph, data, begin, end, path.name)
                else:
                    rest.append(data[start:end])
            model.MergeFromString(b"".join(rest))
    return model


def is_utf8(path: Path) -> bool:
    """Return whether a path can be a string of ONNX and of its runtimes."""
    return utf8(str(path)) == str(path)


def _add_graph(graph: Any, data: mmap.mmap, at: int, end: int, location: str) -> None:
    rest = []
    for tag, start, begin, stop in _fields(data, at, end):
        if tag == _INITIALIZER and stop - begin >= IN_FILE:
            _add_tensor(graph.initializer.add(), data, begin, stop, location)
        else:
            rest.append(data[start:stop])
    graph.MergeFromString(b"".join(rest))


def _add_tensor(tensor: Any, data: mmap.mmap, at: int, end: int, location: str) -> None:
    rest, place = [], None
    for tag, start, begin, stop in _fields(data, at, end):
        if tag == _RAW_DATA:
            place = begin, stop - begin
        else:
            rest.append(data[start:stop])
    tensor.MergeFromString(b"".join(rest))
    if place is not None:
        tensor.data_location = tensor.EXTERNAL
        for key, value in (("location", location), ("offset", place[0]), ("length", place[1])):
            tensor.external_data.add(key=key, value=str(value))


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message: tag, start, start of the value, end."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        if tag & 7 == 2:
            size, at = _varint(data, at, end)
            stop = at + size
        elif tag & 7 == 0:
            stop = _varint(data, at, end)[1]
        else:
            stop = at + {1: 8, 5: 4}[tag & 7]
        if stop > end:
            raise ValueError(f"the field at byte {start} is longer than the message that holds it")
        yield tag, start, at, stop
        at = stop


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return a number and the position after it."""
    value = 0
    for i in range(min(10, end - at)):
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    raise ValueError(f"the number at byte {at} does not end")
