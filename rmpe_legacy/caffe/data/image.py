"""Reads and preprocesses images like caffe.io and RMPE's demo: resizing, ten crops, network inputs.

Images are (height, width, channels), float32 RGB from 0 to 1; inputs of networks are (channels, height, width).

Source: caffe/io.py and examples/rmpe/demo.py:23-36 of RMPE@5188c23; the behaviour of skimage 0.12 and Pillow was
measured.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from os import PathLike

import cv2
import numpy as np

from rmpe_legacy.errors import FileError, InputError
from rmpe_legacy.reading import read_bytes

from .image_file import MAX_PIXELS, PNG, decode_picture, is_stored_turned
from .skimage_resize import resize_image

__all__ = ["DETECTOR_MEAN", "MAX_PIXELS", "as_image", "detector_input", "load_image", "load_image_bytes", "oversample",
           "pose_input", "resize_image"]

LUMINANCE = (0.2125, 0.7154, 0.0721)  # of R, G, B: skimage's rgb2gray
_TURNED = ("a photo has an EXIF orientation, which is ignored, as in Caffe: people in it may lie on their side; turn "
           "the pixels first, for example with `mogrify -auto-orient` (ImageMagick)")
DETECTOR_MEAN = (104, 117, 123)  # of B, G, R from 0 to 255: demo.py:25


def load_image(filename: str | PathLike, color: bool = True) -> np.ndarray:
    """Read an image: float32 RGB (H, W, 3) from 0 to 1, or intensity (H, W, 1) with color False.

    As in the original, grey images give three equal channels, transparency is dropped, and the EXIF orientation is
    ignored (a warning says so). 16-bit grey images keep all bits; of 16-bit colours in a PNG only the upper eight are
    used.

    Differs: only the first frame or page of a file is read (the original stacks them into an array that no function
    accepts); OpenCV converts CMYK to RGB, with differences of up to 2 of 255.

    Raises:
        FileError: The file is not an image, is damaged, has more than MAX_PIXELS, or does not fit in memory.
    """
    return load_image_bytes(read_bytes(filename), str(filename), color)


def load_image_bytes(data: bytes, where: str, color: bool = True) -> np.ndarray:
    """Decode the content of an image file as ``load_image`` does; `where` names it in errors.

    Raises:
        FileError: The content is not an image, is damaged, or does not fit in memory.
    """
    if is_stored_turned(data):
        warnings.warn(_TURNED, stacklevel=2)
    try:
        return _decode(data, where, color)
    except MemoryError:
        raise FileError(f"{where}: needs more memory than there is; scale it down") from None


def _decode(data: bytes, where: str, color: bool) -> np.ndarray:
    pixels = _pixels_of(data, where)
    scale = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(pixels.dtype, 1)
    if pixels.ndim == 3 and not color:
        red, green, blue = np.moveaxis(pixels.astype(np.float64) / scale, 2, 0)
        return (red * LUMINANCE[0] + green * LUMINANCE[1] + blue * LUMINANCE[2]).astype(np.float32)[:, :, None]
    image = np.divide(pixels, np.float32(scale), dtype=np.float32)  # for whole numbers the same as by way of float64
    if image.ndim == 3:
        return image
    return np.repeat(image[:, :, None], 3 if color else 1, axis=2)


def as_image(image: object) -> np.ndarray:
    """Convert a path, a PIL image or an array to an image as ``load_image`` returns it, (H, W, 3) RGB from 0 to 1.

    Raises:
        FileError: The file cannot be read as an image.
        InputError: The argument is none of these.
    """
    if isinstance(image, str | PathLike):
        return load_image(image)
    pil = sys.modules.get("PIL.Image")  # a caller with a PIL image has imported PIL
    if pil is not None and isinstance(image, pil.Image):
        try:
            return np.divide(np.asarray(image.convert("RGB")), np.float32(255), dtype=np.float32)
        except (OSError, ValueError) as error:  # PIL reads the file lazily
            raise FileError(f"{getattr(image, 'filename', '') or 'the PIL image'}: cannot be read: {error}") from error
    if not isinstance(image, np.ndarray):
        raise InputError(f"'{type(image).__name__}' object is not an image; give a path, a PIL image, or an array as "
                         "load_image returns it")
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(f"an array of {image.dtype} values and shape {image.shape} is not what load_image returns; "
                         "give (height, width, 3), RGB from 0 to 1")
    if not image.max() <= 2:  # resizing may overshoot 1, but not that far; a NaN is no value of an image either
        raise InputError(f"the image's values run to {image.max():g}; they must lie between 0 and 1")
    return image


def _pixels_of(data: bytes, where: str) -> np.ndarray:
    """(H, W) grey or (H, W, 3) RGB, as the file has them: uint8, uint16, or floats from -1 to 1."""
    pixels = decode_picture(data, cv2.IMREAD_UNCHANGED, where)
    if pixels.ndim == 3:
        pixels = _reversed(pixels)
        if pixels.dtype == np.uint16 and data.startswith(PNG):
            pixels = (pixels >> 8).astype(np.uint8)
    return _checked_values(where, pixels)


def _reversed(pixels: np.ndarray) -> np.ndarray:
    """BGR or BGRA -> RGB. Slicing would take many times as long, and cvtColor does not take every type."""
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(pixels.shape[2])
    if code is None or pixels.dtype not in (np.uint8, np.uint16, np.float32):
        return cv2.merge(cv2.split(pixels)[2::-1])
    return cv2.cvtColor(pixels, code)


def _checked_values(where: str, pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels
    if pixels.dtype not in (np.float32, np.float64):
        raise FileError(f"{where}: its pixels are {pixels.dtype}; save it with 8 or 16 bits a channel")
    if not (np.abs(pixels) <= 1).all():
        raise FileError(f"{where}: its pixels run from {pixels.min():g} to {pixels.max():g}; those of a floating-"
                        "point image must lie between -1 and 1")
    return pixels


def oversample(images: Sequence[np.ndarray], crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Take ten crops from each of N images (H, W, K): float32 (10 N, h, w, K).

    The four corners and the centre, then the same mirrored, image by image. The positions are those for the first
    image.

    Raises:
        InputError: A crop does not fit.
    """
    h, w = (int(size) for size in crop_dims)
    first = np.shape(images[0]) if len(images) else ()
    if len(first) != 3 or min(h, w) < 1:
        raise InputError(f"{len(images)} images, the first of shape {first}, cannot be cut into {h} x {w} pieces; give "
                         "at least one image (height, width, channels), and crop_dims (height, width) of at least 1")
    height, width, channels = first
    corners = [(y, x) for y in (0, height - h) for x in (0, width - w)]
    corners.append((int(height / 2 - h / 2), int(width / 2 - w / 2)))
    crops = np.empty((len(images), 10, h, w, channels), np.float32)
    for image, pieces in zip(images, crops, strict=True):
        if h > min(height, image.shape[0]) or w > min(width, image.shape[1]) or image.shape[2:] != (channels,):
            raise InputError(f"cannot cut {h} x {w} pieces from an image of shape {image.shape}; give smaller "
                             f"crop_dims, and images of the shape of the first, {first}")
        for piece, (y, x) in zip(pieces[:5], corners, strict=True):
            piece[...] = image[y : y + h, x : x + w]
        pieces[5:] = pieces[:5, :, ::-1]
    return crops.reshape(-1, h, w, channels)


def detector_input(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """Preprocess an image (H, W, 3) for RMPE's detector: float32 (3, h, w), BGR from 0 to 255 minus the mean."""
    resized = _resized(image, h, w)
    out = np.multiply(resized.transpose(2, 0, 1)[::-1], np.float32(255), order="C")
    out -= np.array(DETECTOR_MEAN, np.float32)[:, None, None]
    return out


def pose_input(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """Preprocess a square crop (H, W, 3) for RMPE's pose network: float32 (3, h, w), RGB from 0 to 1."""
    return _resized(image, h, w).transpose(2, 0, 1).copy()


def _resized(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """Resize an image; returns the argument if it has the size already, so the caller must not modify the result."""
    if image.dtype.kind != "f" or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an image of {image.dtype} values and shape {image.shape} is not what load_image returns; "
                         "give (height, width, 3), RGB from 0 to 1")
    single = image.astype(np.float32, copy=False)
    return single if single.shape[:2] == (h, w) else resize_image(single, (h, w))
