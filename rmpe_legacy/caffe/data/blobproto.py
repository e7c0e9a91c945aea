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
    """The values of a BlobProto, or its diff: float64, in the blob's shape.

    As published, double_data is not looked at; ``rmpe_legacy.caffe.proto.caffemodel.blob_from_proto`` reads it.
    """
    legacy = any(blob.has(name) for name in _LEGACY)
    shape = tuple(getattr(blob, name) for name in _LEGACY) if legacy else tuple(blob.shape.dim)
    return _shaped(np.array(blob.diff if return_diff else blob.data, np.float64), shape, "BlobProto")


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Message:
    """A BlobProto of an array of any shape; values are rounded to float32. The diff's shape is not looked at."""
    schema = load_schema()
    fields = {"data": _single(arr), "shape": Message(schema["BlobShape"], _set({"dim": list(np.shape(arr))}))}
    if diff is not None:
        fields["diff"] = _single(diff)
    return Message(schema["BlobProto"], _set(fields))


def arraylist_to_blobprotovector_str(arraylist: Iterable[np.ndarray]) -> bytes:
    """Arrays as a serialised BlobProtoVector."""
    blobs = [array_to_blobproto(arr) for arr in arraylist]
    return encode(Message(load_schema()["BlobProtoVector"], _set({"blobs": blobs})))


def blobprotovector_str_to_arraylist(string: bytes) -> list[np.ndarray]:
    """The arrays of a serialised BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in decode(string, load_schema()["BlobProtoVector"]).blobs]


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Message:
    """A Datum of an array (K, H, W): bytes if it is uint8, else float32 values."""
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
    """The values of a Datum (K, H, W): uint8 where it holds bytes, else float64. An encoded picture is not decoded."""
    values = np.frombuffer(datum.data, np.uint8).copy() if len(datum.data) else np.array(datum.float_data, np.float64)
    return _shaped(values, (datum.channels, datum.height, datum.width), "Datum")


def _single(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).reshape(-1)


def _set(fields: dict) -> dict:
    """Without repeated fields that hold nothing: protobuf does not write them."""
    return {name: value for name, value in fields.items()
            if not (isinstance(value, list | np.ndarray) and len(value) == 0)}


def _shaped(values: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    if item_count(shape) != values.size:
        raise InputError(f"a {what} of shape {' x '.join(map(str, shape)) or '()'} has {values.size} values; it is "
                         "damaged, or holds them in a field that is not read here")
    return values.reshape(shape)
