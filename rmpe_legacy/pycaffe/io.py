"""``caffe.io``: images to inputs and back, arrays to Caffe's messages and back.

Source: python/caffe/io.py of RMPE@5188c23; set_mean of BVLC/caffe@9b89154.
"""

from __future__ import annotations

from os import PathLike
from typing import IO, Any

import numpy as np

from rmpe_legacy.caffe.data import blobproto, image, transformer
from rmpe_legacy.caffe.data.blobproto import arraylist_to_blobprotovector_str, blobprotovector_str_to_arraylist
from rmpe_legacy.caffe.data.image import oversample
from rmpe_legacy.caffe.data.skimage_resize import resize_image
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode, encode
from rmpe_legacy.errors import FileError

from .errors import NoFileError
from .proto import caffe_pb2

__all__ = ["Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovector_str",
           "blobproto_to_array", "blobprotovector_str_to_arraylist", "datum_to_array", "load_image", "oversample",
           "resize_image"]


class Transformer(transformer.Transformer):
    """Converts images (H, W, K) to inputs (K, h, w) and back; see the base class."""

    def set_mean(self, in_: str, mean: np.ndarray) -> None:
        """Set the mean to subtract: one value per channel (K,), or (K, h, w), which is resized to the input's size.

        Differs: RMPE's Caffe refuses a mean of another size; BVLC's resizes it, as here.

        Raises:
            InputError: The mean has another number of channels.
        """
        mean = np.asarray(mean)
        shape = tuple(self.inputs.get(in_, ()))[1:]
        if mean.ndim == 3 and len(shape) == 3 and mean.shape != shape and mean.shape[0] == shape[0]:
            low, high = mean.min(), mean.max()
            unit = (mean - low) / (high - low) if high > low else np.zeros_like(mean)
            mean = resize_image(unit.transpose(1, 2, 0), shape[1:]).transpose(2, 0, 1) * (high - low) + low
        super().set_mean(in_, mean)


def load_image(filename: str | PathLike | IO[bytes], color: bool = True) -> np.ndarray:
    """Read an image: float32 from 0 to 1, (H, W, 3) in RGB, or (H, W, 1) if color is False.

    Args:
        filename: A path, or a file that is open for reading bytes.
        color: Whether to return three channels.

    Raises:
        NoFileError: It cannot be read; also an OSError, as scikit-image raises for pycaffe.
    """
    try:
        if isinstance(filename, str | PathLike):
            return image.load_image(filename, color)
        return image.load_image_bytes(filename.read(), str(getattr(filename, "name", "an image in memory")), color)
    except FileError as error:
        raise NoFileError(str(error)) from None


def blobproto_to_array(blob: Any, return_diff: bool = False) -> np.ndarray:
    """Return the values of a BlobProto, or its diff: float64, in the blob's shape."""
    return blobproto.blobproto_to_array(_ours(blob), return_diff)


def array_to_blobproto(arr: np.ndarray, diff: np.ndarray | None = None) -> Any:
    """Make a BlobProto from an array of any shape; values are rounded to float32."""
    return _theirs(blobproto.array_to_blobproto(arr, diff))


def array_to_datum(arr: np.ndarray, label: int | None = None) -> Any:
    """Make a Datum from an array (K, H, W): bytes if it is uint8, otherwise float32 values."""
    return _theirs(blobproto.array_to_datum(arr, label))


def datum_to_array(datum: Any) -> np.ndarray:
    """Return the values of a Datum (K, H, W): uint8 if it contains bytes, otherwise float64."""
    return blobproto.datum_to_array(_ours(datum))


def _ours(message: Any) -> Message:
    return decode(message.SerializeToString(), load_schema()[message.DESCRIPTOR.name])


def _theirs(message: Message) -> Any:
    return getattr(caffe_pb2, message.descriptor.name).FromString(encode(message))
