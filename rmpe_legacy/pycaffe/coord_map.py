"""Where the coordinates of one blob lie in another, and the Crop layer that follows from it.

A map is (axis, scale, shift): the position x of a top lies at x * scale + shift of the other blob, in all axes from
`axis` on; axis None is the identity of layers that work point by point. Source: python/caffe/coord_map.py of
RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError

from .errors import RuntimeRmpeError
from .net_spec import Function, Top, layers

PASS_THROUGH_LAYERS = ["AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp", "MVN",
                       "Power", "ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH", "Threshold"]
_PER_AXIS = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}

CoordMap = tuple[Any, Any, Any]


class UndefinedMapException(RmpeError):  # noqa: N818  pycaffe's name
    """A layer's type has no coordinate map."""


class AxisMismatchException(RmpeError):  # noqa: N818  pycaffe's name
    """Two maps start at different axes."""


class CropError(RmpeError, AssertionError):
    """A blob cannot be cropped to the other one."""


def conv_params(fn: Function) -> CoordMap:
    """Return (axis, stride, (kernel extent, pad)) of a Convolution, Deconvolution, Im2col or Pooling.

    Raises:
        CropError: The layer sets sizes per axis, such as kernel_h.
    """
    given = fn.params.get("convolution_param", fn.params)
    if per_axis := _PER_AXIS & set(given):
        raise CropError(f"{fn.type_name}: its coordinates cannot be mapped with {', '.join(sorted(per_axis))}; give "
                        "kernel_size, stride and pad, as lists if the axes differ")
    kernel, dilation, stride, pad = (np.array(value, ndmin=1) for value in (
        given["kernel_size"], given.get("dilation", 1), given.get("stride", 1), given.get("pad", 0)))
    return given.get("axis", 1), stride, ((kernel - 1) * dilation + 1, pad)


def crop_params(fn: Function) -> tuple[int, np.ndarray]:
    """Return (axis, offset) of a Crop."""
    given = fn.params.get("crop_param", fn.params)
    return given.get("axis", 2), np.array(given.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> CoordMap:
    """Return a layer's map (axis, scale, shift) from the coordinates of its bottom to those of its top.

    Raises:
        UndefinedMapException: The layer's type has no map.
        CropError: The layer sets sizes per axis.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, (kernel, pad) = conv_params(fn)
        return axis, 1 / stride, (pad - (kernel - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, (kernel, pad) = conv_params(fn)
        return axis, stride, (kernel - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset  # the axis before the first that it crops
    raise UndefinedMapException(f"a layer of type {fn.type_name} maps no coordinates")


def compose(base_map: CoordMap, next_map: CoordMap) -> CoordMap:
    """Return the map that applies `next_map`, and then `base_map`.

    Raises:
        AxisMismatchException: The maps start at different axes.
    """
    (base_axis, base_scale, base_shift), (axis, scale, shift) = base_map, next_map
    if base_axis is not None and axis is not None and base_axis != axis:
        raise AxisMismatchException(f"maps from axis {base_axis} and from axis {axis} cannot be combined")
    return axis if base_axis is None else base_axis, base_scale * scale, base_scale * shift + base_shift


def inverse(coord_map: CoordMap) -> CoordMap:
    """Return the inverse of a map."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """Return the map (axis, scale, shift) between two blobs, through the first common ancestor found.

    Raises:
        RuntimeError: No layers that map coordinates connect the blobs.
        AxisMismatchException: The maps on the way start at different axes.
    """
    from_maps = _maps_down(top_from)
    maps: dict[Top, CoordMap] = {top_to: (None, 1, 0)}
    frontier = [top_to]
    while frontier:
        top = frontier.pop()
        if top in from_maps:
            return compose(maps[top], inverse(from_maps[top]))
        frontier += _step_down(top, maps)
    raise RuntimeRmpeError("no map leads from one blob to the other; do layers that map coordinates connect them?")


def _maps_down(top: Top) -> dict[Top, CoordMap]:
    """The maps from a blob to each that it is made from."""
    maps: dict[Top, CoordMap] = {top: (None, 1, 0)}
    frontier = [top]
    while frontier:
        frontier += _step_down(frontier.pop(), maps)
    return maps


def _step_down(top: Top, maps: dict[Top, CoordMap]) -> Sequence[Top]:
    """The bottoms of a blob's layer, with their maps; of a Crop the first alone, as the second only gives a size."""
    bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
    if not bottoms:
        return ()
    try:
        step = coord_map(top.fn)
    except UndefinedMapException:
        return ()
    maps.update({bottom: compose(maps[top], step) for bottom in bottoms})
    return bottoms


def crop(top_from: Top, top_to: Top) -> Top:
    """Return the Crop layer that cuts `top_from` to the part that lies over `top_to`.

    Raises:
        AssertionError: The scales differ, or the offset is negative or not a whole number.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    for bad, what in ((np.any(scale != 1), f"the scales differ, by {scale}"),
                      (np.any(shift > 0), f"the offset {-shift} is negative"),
                      (np.any(np.round(shift) != shift), f"the offset {-shift} is not a whole number")):
        if bad:
            raise CropError(f"one blob cannot be cropped to the other: {what}")
    offset = [int(value) for value in np.negative(np.round(shift))]
    return layers.Crop(top_from, top_to, crop_param={"axis": axis + 1, "offset": offset})
