"""Arrays as Caffe's BlobProto and Datum messages, and back: caffe.io's helpers.

Source: caffe/io.py:17-95 of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode, encode
from rmpe_legacy.errors import InputError
from rmpe_legacy.reading import item_count

_LEGACY = ("num", "channels", "height", "width")


def blobproto_to_array(blob: Message, return_diff: bool = False) -> np.ndarray:
    """Return the values of a BlobProto, or its diff: float64, in the blob's shape.

    As published, double_data is ignored; ``rmpe_legacy.caffe.proto.caffemodel.blob_from_proto`` reads it.
    """
    legacy = any(blob.has(name) for name in _LEGACY)
    shape = tuple(getattr(blob, name) for name in _LEGACY) if legacy else tuple(blob.shape.dim)
    return _shaped(np.array(blob.diff if return_diff else blob.data, np.float64), shape, "BlobProto")


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Message:
    """Make a BlobProto from an array of any shape, rounded to float32. The diff's shape is not checked."""
    schema = load_schema()
    fields = {"data": _single(arr), "shape": Message(schema["BlobShape"], _set({"dim": list(np.shape(arr))}))}
    if diff is not None:
        fields["diff"] = _single(diff)
    return Message(schema["BlobProto"], _set(fields))


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Serialise arrays of any shape as a BlobProtoVector."""
    blobs = [array_to_blobproto(arr) for arr in arraylist]
    return encode(Message(load_schema()["BlobProtoVector"], _set({"blobs": blobs})))


def blobprotovector_str_to_arraylist(string: bytes) -> list[np.ndarray]:
    """Parse a serialised BlobProtoVector into float64 arrays of the blobs' shapes."""
    return [blobproto_to_array(blob) for blob in decode(string, load_schema()["BlobProtoVector"]).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Message:
    """Make a Datum from an array (K, H, W): bytes if it is uint8, otherwise float32 values.

    Raises:
        InputError: The array does not have three axes.
    """
    if arr.ndim != 3:
        raise InputError(f"a Datum holds three axes; the array has shape {arr.shape}")
    fields: dict[str, Any] = dict(zip(("channels", "height", "width"), map(int, arr.shape), strict=True))
    if arr.dtype == np.uint8:
        fields["data"] = arr.tobytes()
    else:
        fields["float_data"] = _single(arr)
    if label is not None:
        fields["label"] = int(label)
    return Message(load_schema()["Datum"], _set(fields))


def datum_to_array(datum: Message) -> np.ndarray:
    """Return the values of a Datum (K, H, W): uint8 if it contains bytes, otherwise float64. An encoded image is not
    decoded.
    """
    values = np.frombuffer(datum.data, np.uint8).copy() if len(datum.data) else np.array(datum.float_data, np.float64)
    return _shaped(values, (datum.channels, datum.height, datum.width), "Datum")


def _single(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(-1)


def _set(fields: dict) -> dict:
    """Drop empty repeated fields, which protobuf does not write."""
    return {name: value for name, value in fields.items()
            if not (isinstance(value, list | np.ndarray) and len(value) == 0)}


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    if item_count(shape) != values.size:
        raise InputError(f"a {what} of shape {' x '.join(map(str, shape)) or '()'} has {values.size} values; it is "
                         "damaged, or stores them in an unsupported field")
    return values.reshape(shape)
