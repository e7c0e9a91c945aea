"""``resize_image``: caffe.io's resize, number for number, without skimage and scipy.

An image of one or three channels goes through skimage 0.12's ``resize``: pixels have their centres at .5, there is no
anti-aliasing, and what lies outside the image counts as the image's smallest value, so that the outermost half
pixel fades to it where an image is enlarged. Any other number of channels goes through ``scipy.ndimage.zoom``, which
aligns the first and the last pixels of both images. Both are separable; here each axis is a table of positions and
weights, and one loop (``_host.resample``) computes the sums in double precision.

Source: caffe/io.py:305-337 of RMPE@5188c23; skimage/transform/_warps.py and _shared/interpolation.pxd of 0.12.3;
scipy/ndimage/interpolation.py and src/ni_interpolation.c of 0.18.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, factorial, sqrt
from typing import Any

import numpy as np

from rmpe_legacy import _host
from rmpe_legacy.errors import InputError

ORDERS = range(6)
# The poles of the filters that turn samples into the coefficients of a spline through them, per order.
_POLES = {
    2: (sqrt(8) - 3,),
    3: (sqrt(3) - 2,),
    4: (sqrt(664 - sqrt(438976)) + sqrt(304) - 19, sqrt(664 + sqrt(438976)) - sqrt(304) - 19),
    5: (sqrt(67.5 - sqrt(4436.25)) + sqrt(26.25) - 6.5, sqrt(67.5 + sqrt(4436.25)) - sqrt(26.25) - 6.5),
}


def resize_image(im: np.ndarray, new_dims: Sequence[int], interp_order: int = 1,
                 python2_division: bool = False) -> np.ndarray:
    """Resize an image (H, W, K) to new_dims (h, w): float32 (h, w, K).

    A constant image stays constant. Integers are taken as they are, not scaled to [0, 1]; if K is neither 1 nor 3 they
    are rounded, as in the original.

    Args:
        im: The image.
        new_dims: Height and width of the result.
        interp_order: 0 nearest, 1 bilinear, 3 bicubic; 2, 4 and 5 splines.
        python2_division: Compute what Python 2 gave for an unsigned image of 1 or 3 channels: its integer division by
            the range left only 0 and 1. Differs: off by default, because the result shows nothing of the image.

    Raises:
        InputError: The image has no pixels, or another shape or dtype, or a size is below 1.
    """
    image = _checked(im)
    h, w = _checked_size(new_dims)
    if interp_order not in ORDERS:
        raise InputError(f"interpolation order {interp_order!r} is not one of 0 to 5")
    if image.shape[-1] not in (1, 3):
        return _zoom(image, h, w, interp_order)
    low, high = image.min(), image.max()
    if not high > low:
        return np.full((h, w, image.shape[-1]), low, np.float32)  # 2-D ones come out as 3-D, as published
    stacked = image.reshape(*image.shape[:2], -1)
    if python2_division and image.dtype.kind == "u":
        out = _resize_by_whole_numbers(stacked, h, w, interp_order)
    else:
        out = _resize_between(_as_float(stacked), _as_float(low), _as_float(high), h, w, interp_order)
    return out if image.ndim == 3 else out[:, :, 0]


def _checked(im: np.ndarray) -> np.ndarray:
    image = np.asarray(im)
    if image.dtype.kind not in "fiub":
        raise InputError(f"an image of {image.dtype} values cannot be resized; give floats or integers")
    if not (image.ndim == 3 or (image.ndim == 2 and image.shape[1] in (1, 3))):
        raise InputError(f"an image of shape {image.shape} cannot be resized; give (height, width, channels)")
    if image.size == 0:
        raise InputError(f"an image of shape {image.shape} has no pixels to resize")
    return image


def _checked_size(new_dims: Sequence[int]) -> tuple[int, int]:
    if len(new_dims) != 2 or not all(size >= 1 and int(size) == size for size in new_dims):
        raise InputError(f"cannot resize to {tuple(new_dims)}; give (height, width) as positive whole numbers")
    return int(new_dims[0]), int(new_dims[1])


# --- one or three channels: skimage's resize --------------------------------------------------------------------


def _resize_between(image: np.ndarray, low: np.floating, high: np.floating, h: int, w: int, order: int) -> np.ndarray:
    """Bring the image from [low, high] to [0, 1] in its own precision, resize it, bring it back."""
    span = high - low
    if order in _FAST:
        return _resample(image, _centred_taps(image.shape[0], h, order), _centred_taps(image.shape[1], w, order),
                         low, span, clip=order > 0).astype(np.float32, copy=False)
    normalised = ((image - low) / span).astype(np.float64)
    return (_resize_normalised(normalised, h, w, order) * span + low).astype(np.float32)


def _resize_by_whole_numbers(image: np.ndarray, h: int, w: int, order: int) -> np.ndarray:
    """As ``_resize_between`` where Python 2 divides integers: to 0 or 1, which skimage takes as of their full range."""
    low, high = image.min(), image.max()
    normalised = ((image - low) // (high - low)).astype(np.float64)
    out = _resize_normalised(normalised, h, w, order) / np.iinfo(image.dtype).max
    return (out * float(high - low) + float(low)).astype(np.float32)


def _resize_normalised(image: np.ndarray, h: int, w: int, order: int) -> np.ndarray:
    """float64 values from 0 to 1, resized and clipped to the same."""
    if order not in _FAST:
        image = _spline_coefficients(_spline_coefficients(image, 0, order), 1, order)
    return _resample(image, _centred_taps(image.shape[0], h, order), _centred_taps(image.shape[1], w, order),
                     clip=order > 0)


def _as_float(image: Any) -> Any:
    """float32 stays, everything else becomes float64."""
    return image if image.dtype == np.float32 else image.astype(np.float64, copy=False)


@dataclass(frozen=True)
class Taps:
    """For each position along one axis of the result, where in the source it comes from and in what parts."""

    index: np.ndarray  # (n, k) int32
    weight: np.ndarray  # (n, k) float64; 0 for what lies outside


@lru_cache(64)
def _centred_taps(size: int, new_size: int, order: int) -> Taps:
    """Pixels have their centres at .5; what is outside the image is 0. Rows and columns of a square have the same."""
    at = size / new_size * (np.arange(new_size) + 0.5) - 0.5
    if order in _FAST:
        first, weight = _FAST[order](at)
        index = first[:, None] + np.arange(weight.shape[1])
        inside = (index >= 0) & (index < size)
        return _taps(np.where(inside, index, 0), np.where(inside, weight, 0.0))
    return _spline_taps(at, size, order)


def _nearest(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half rounds up: no position is below -0.5, so that C's rounding away from zero is the same.

    Differs: at exactly .5 skimage 0.12 takes one or the other neighbour by the last bit of a matrix it estimates.
    """
    return np.floor(at + 0.5).astype(np.int64), np.ones((len(at), 1))


def _linear(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.floor(at)
    part = at - first
    return first.astype(np.int64), np.stack([1 - part, part], axis=1)


def _cubic(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cubic through four pixels with Catmull and Rom's slopes."""
    first = np.floor(at)
    x = at - first
    weight = np.stack([x * (-1 + x * (2 - x)), 2 + x * x * (-5 + 3 * x), x * (1 + x * (4 - 3 * x)), x * x * (x - 1)],
                      axis=1) / 2
    return first.astype(np.int64) - 1, weight


_FAST = {0: _nearest, 1: _linear, 3: _cubic}  # the orders for which skimage has loops of its own; else scipy's splines


# --- any number of channels: scipy's zoom -----------------------------------------------------------------------


def _zoom(image: np.ndarray, h: int, w: int, order: int) -> np.ndarray:
    """Resize so that the outermost pixels lie on each other."""
    values = _as_float(image)
    if order > 1:
        values = _spline_coefficients(_spline_coefficients(values.astype(np.float64), 0, order), 1, order)
    out = _resample(values, _aligned_taps(image.shape[0], h, order), _aligned_taps(image.shape[1], w, order))
    if image.dtype.kind in "iu":
        limits = np.iinfo(image.dtype)
        out = np.clip(np.trunc(out + np.copysign(0.5, out)), limits.min, limits.max)
    return out.astype(np.float32, copy=False)


def _aligned_taps(size: int, new_size: int, order: int) -> Taps:
    """First upon first, last upon last.

    The rounding of the step can put the last position past the last pixel; scipy then gives 0 there, and so do we
    (8 to 26 is the first such pair that enlarges a little).
    """
    step = (size - 1) / (new_size - 1) if new_size > 1 else 1.0
    return _spline_taps(np.arange(new_size) * step, size, order)


# --- splines ----------------------------------------------------------------------------------------------------


def _spline_taps(at: np.ndarray, size: int, order: int) -> Taps:
    """A spline's pieces at positions `at`, mirrored at the outermost pixels; 0 beyond them."""
    first = np.floor(at + (0.0 if order % 2 else 0.5)) - order // 2
    index = first[:, None] + np.arange(order + 1)
    weight = _b_spline(at[:, None] - index, order)
    inside = (at >= 0) & (at <= size - 1)
    return _taps(_mirrored(index.astype(np.int64), size), np.where(inside[:, None], weight, 0.0))


def _b_spline(x: np.ndarray, order: int) -> np.ndarray:
    """The B-spline of an order, centred on 0, by its truncated powers."""
    if order == 0:
        return np.ones_like(x)  # asked only where it is 1
    if order == 1:
        return np.maximum(1 - np.abs(x), 0)  # as scipy writes it, to the last bit
    terms = ((-1) ** k * comb(order + 1, k) * np.maximum(x + (order + 1) / 2 - k, 0) ** order
             for k in range(order + 1))
    return sum(terms) / factorial(order)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Positions outside, reflected at the centres of the first and the last pixel."""
    if size == 1:
        return np.zeros_like(index)
    folded = np.abs(index) % (2 * size - 2)
    return np.where(folded < size, folded, 2 * size - 2 - folded)


def _spline_coefficients(values: np.ndarray, axis: int, order: int) -> np.ndarray:
    """The coefficients of the spline of an order through float64 samples along one axis, mirrored at its ends.

    For each pole two recursions, up and down the axis; all other axes at once.
    """
    n = values.shape[axis]
    if n == 1:
        return values
    out = np.moveaxis(values, axis, 0).copy()
    for pole in _POLES[order]:
        out *= (1 - pole) * (1 - 1 / pole)
        powers = pole ** np.arange(2 * n - 2.0)
        weight = powers[:n].copy()
        weight[1:-1] += powers[: n - 1 : -1]  # what the mirror image, which repeats for ever, adds
        out[0] = np.tensordot(weight, out, 1) / (1 - pole ** (2 * n - 2))
        for i in range(1, n):
            out[i] += pole * out[i - 1]
        out[-1] = pole / (pole * pole - 1) * (out[-1] + pole * out[-2])
        for i in range(n - 2, -1, -1):
            out[i] = pole * (out[i + 1] - out[i])
    return np.moveaxis(out, 0, axis)


# --- the sums ---------------------------------------------------------------------------------------------------


def _taps(index: np.ndarray, weight: np.ndarray) -> Taps:
    return Taps(np.ascontiguousarray(index, np.int32), np.ascontiguousarray(weight, np.float64))


def _resample(image: np.ndarray, rows: Taps, columns: Taps, low=0.0, span=1.0, clip: bool = False) -> np.ndarray:
    """(image - low) / span, summed by the taps, clipped to [0, 1] if asked, times span plus low; in image's dtype."""
    return _host.resample(np.ascontiguousarray(image), rows.index, rows.weight, columns.index, columns.weight,
                          float(low), float(span), clip)
