"""``scipy.misc``'s functions for pictures, which SciPy has had no more since 1.2: they are Pillow's.

Source of the behaviour: the documentation of scipy.misc 1.0. Arrays are (h, w), (h, w, 3) or (h, w, 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmpe_legacy.optional import optional

__all__ = ["bytescale", "fromimage", "imread", "imresize", "imrotate", "imsave", "toimage"]

_FILTERS = {"nearest": "NEAREST", "lanczos": "LANCZOS", "bilinear": "BILINEAR", "bicubic": "BICUBIC",
            "cubic": "BICUBIC"}


def bytescale(data: np.ndarray, cmin: float | None = None, cmax: float | None = None, high: int = 255,
              low: int = 0) -> np.ndarray:
    """Scale an array of any shape to uint8, with the least value cmin at `low` and the greatest value cmax at `high`.

    An array that is uint8 already is returned unchanged.
    """
    array = np.asarray(data)
    if array.dtype == np.uint8:
        return array
    least = array.min() if cmin is None else cmin
    span = (array.max() if cmax is None else cmax) - least
    scaled = (array - least) * (float(high - low) / (span or 1)) + low
    return (np.clip(scaled, low, high) + 0.5).astype(np.uint8)


def toimage(arr: np.ndarray, high: int = 255, low: int = 0, cmin: float | None = None, cmax: float | None = None,
            mode: str | None = None) -> Any:
    """Convert an array (h, w), (h, w, 3) or (h, w, 4) to a Pillow image, scaled as by ``bytescale``; mode "F" keeps the
    values of (h, w).
    """
    array = np.asarray(arr)
    if mode == "F":
        return _pillow().fromarray(array.astype(np.float32))
    return _pillow().fromarray(bytescale(array, cmin, cmax, high, low), **({} if mode is None else {"mode": mode}))


def fromimage(im: Any, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """Return the values of a Pillow image, (h, w), (h, w, 3) or (h, w, 4).

    Args:
        im: The image.
        flatten: Convert to float32 brightness, (h, w).
        mode: A Pillow mode to convert to first.
    """
    if mode is not None:
        im = im.convert(mode)
    elif im.mode == "P":
        im = im.convert("RGBA" if "transparency" in im.info else "RGB")
    if flatten:
        im = im.convert("F")
    elif im.mode == "1":
        im = im.convert("L")
    return np.array(im)


def imread(name: Any, flatten: bool = False, mode: str | None = None) -> np.ndarray:
    """Read an image file as an array, uint8 (h, w), (h, w, 3) RGB or (h, w, 4)."""
    with _pillow().open(name) as image:
        return fromimage(image, flatten, mode)


def imsave(name: Any, arr: np.ndarray, format: str | None = None) -> None:
    """Write an array (h, w), (h, w, 3) or (h, w, 4) as an image file; values other than uint8 are scaled to the whole
    range.
    """
    toimage(arr).save(name, format)


def imresize(arr: np.ndarray, size: int | float | tuple[int, ...], interp: str = "bilinear",
             mode: str | None = None) -> np.ndarray:
    """Resize an image array: to a percentage (int), by a factor (float), or to (h, w). Values other than uint8 are
    scaled first; returns uint8.
    """
    image = toimage(arr, mode=mode)
    if isinstance(size, tuple | list | np.ndarray):
        wanted = (int(size[1]), int(size[0]))
    else:
        factor = size / 100.0 if isinstance(size, int | np.integer) else size
        wanted = (int(image.size[0] * factor), int(image.size[1] * factor))
    return fromimage(image.resize(wanted, resample=_filter(interp)))


def imrotate(arr: np.ndarray, angle: float, interp: str = "bilinear") -> np.ndarray:
    """Rotate an image array counterclockwise by degrees, keeping its size. Values other than uint8 are scaled first;
    returns uint8.
    """
    return fromimage(toimage(arr).rotate(angle, resample=_filter(interp)))


def _pillow() -> Any:
    return optional("PIL.Image", "scipy.misc's image functions")


def _filter(interp: str) -> Any:
    return getattr(_pillow().Resampling, _FILTERS[interp])
