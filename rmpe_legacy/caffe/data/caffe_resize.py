"""ResizeParameter: resizes an image and its boxes to the network's size.

Sources: im_transforms.cpp:165-420 of RMPE@5188c23; im_transforms.cpp:40-126 and bbox_util.cpp:248-273 of
weiliu89/caffe@4817bf8. Single precision wherever the originals use float.
"""

from __future__ import annotations

import cv2
import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import RmpeError

from .caffe_random import CaffeRandom

F = np.float32
_PADDING = {"CONSTANT": cv2.BORDER_CONSTANT, "MIRRORED": cv2.BORDER_REFLECT101, "REPEAT_NEAREST": cv2.BORDER_REPLICATE}
_INTERPOLATION = {"AREA": cv2.INTER_AREA, "CUBIC": cv2.INTER_CUBIC, "LINEAR": cv2.INTER_LINEAR,
                  "NEAREST": cv2.INTER_NEAREST, "LANCZOS4": cv2.INTER_LANCZOS4}


def size_after(param: Message, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of the blob for an image of this size, like InferBlobShape.

    The RMPE fork uses the parameter's height and width in every mode; weiliu89's branch takes into account that
    FIT_SMALL_SIZE gives a larger image.
    """
    if param.descriptor.schema.dialect == "rmpe":
        return param.height or height, param.width or width
    new_h, new_w = param.height, param.width
    if param.resize_mode == "FIT_SMALL_SIZE":
        aspect = F(width) / F(height)
        if aspect < F(new_w) / F(new_h):
            new_h = int(F(new_w) / aspect)
        else:
            new_w = int(aspect * F(new_h))
    return new_h, new_w


def resize(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    """Resize an image (H, W[, C]), padding it if the mode requires it. Draws one random number if interp_mode is set.

    Raises:
        RmpeError: The parameter has no size, or the result would have an empty side.
    """
    height, width = param.height, param.width
    if not height or not width:
        raise RmpeError("resize_param needs a height and a width")
    mode = _interpolation(param, random)
    if param.resize_mode == "WARP":
        return _resized(image, (width, height), mode)
    aspect = F(image.shape[1]) / F(image.shape[0])
    wide = aspect > F(width) / F(height)
    pad = param.resize_mode == "FIT_LARGE_SIZE_AND_PAD"
    narrow = aspect < F(width) / F(height)
    keep_width = wide if pad else narrow
    size = (width, int(F(width) / aspect)) if keep_width else (int(aspect * F(height)), height)
    if 0 in size:
        raise RmpeError(f"an image of {image.shape[1]} x {image.shape[0]} (width x height) cannot be fitted to "
                        f"{width} x {height}: one side would be 0")
    resized = _resized(image, size, mode)
    return _padded(resized, param, height, width) if pad else resized


def _resized(image: np.ndarray, size: tuple[int, int], mode: int) -> np.ndarray:
    """To (width, height). OpenCV's SSE4.1 code for CUBIC is off by 1 in 4 % of the values; its plain code is
    Caffe's.
    """
    if mode != cv2.INTER_CUBIC:
        return cv2.resize(image, size, interpolation=mode)
    optimized = cv2.useOptimized()
    cv2.setUseOptimized(False)
    try:
        return cv2.resize(image, size, interpolation=mode)
    finally:
        cv2.setUseOptimized(optimized)


def _interpolation(param: Message, random: CaffeRandom) -> int:
    """Choose one of interp_mode at random; linear, without a draw, if there is none."""
    if not param.interp_mode:
        return cv2.INTER_LINEAR
    count = len(param.interp_mode)
    reach = np.cumsum(np.full(count, F(1) / F(count), F), dtype=F)
    return _INTERPOLATION[param.interp_mode[int(np.searchsorted(reach, random.uniform(0, reach[-1])))]]


def _padded(image: np.ndarray, param: Message, height: int, width: int) -> np.ndarray:
    channels = image.shape[2] if image.ndim == 3 else 1
    values = list(param.pad_value) or [0.0]
    if len(values) not in (1, channels):
        raise RmpeError(f"pad_value is given {len(values)} times for {channels} channels; give it once, or per channel")
    values = values * channels if len(values) == 1 else values
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    return cv2.copyMakeBorder(image, top, height - image.shape[0] - top, left, width - image.shape[1] - left,
                              _PADDING[param.pad_mode], value=[*values, 0, 0, 0][:4])


def boxes_after(param: Message, xyxy: np.ndarray, height: int, width: int) -> np.ndarray:
    """Map boxes (..., 4) of an image of this size to the resized image: UpdateBBoxByResizePolicy."""
    new_h, new_w = F(param.height), F(param.width)
    aspect = F(width) / F(height)
    x, y = xyxy[..., 0::2] * F(width), xyxy[..., 1::2] * F(height)
    if param.resize_mode == "FIT_LARGE_SIZE_AND_PAD":
        if aspect > new_w / new_h:
            padding = (new_h - new_w / aspect) / F(2)
            return _stack(_stretch(x, new_w, width), _stretch(y, new_h, height, padding), new_w, new_h)
        padding = _side_padding(param, new_w, new_h, aspect)
        return _stack(_stretch(x, new_w, width, padding), _stretch(y, new_h, height), new_w, new_h)
    if param.resize_mode == "FIT_SMALL_SIZE":
        if aspect < new_w / new_h:
            new_h = new_w / aspect
        else:
            new_w = aspect * new_h
    return _stack(_stretch(x, new_w, width), _stretch(y, new_h, height), new_w, new_h)


def _side_padding(param: Message, new_w: np.float32, new_h: np.float32, aspect: np.float32) -> np.float32:
    """The bars beside a tall image. In the RMPE fork a pair of brackets is missing (im_transforms.cpp:279), so
    the boxes of tall images end up outside and are lost."""
    if param.descriptor.schema.dialect == "rmpe":
        return new_w - aspect * new_h / F(2)
    return (new_w - aspect * new_h) / F(2)


def _stretch(ends: np.ndarray, new: np.float32, old: int, padding: np.float32 | None = None) -> np.ndarray:
    """Both ends (..., 2) of an axis of `old` pixels on one of `new`, with bars of `padding` pixels around it."""
    ends = ends * (new if padding is None else new - F(2) * padding) / F(old)
    ends = np.stack([np.maximum(F(0), ends[..., 0]), np.minimum(new, ends[..., 1])], axis=-1)
    return ends if padding is None else padding + ends


def _stack(x: np.ndarray, y: np.ndarray, new_w: np.float32, new_h: np.float32) -> np.ndarray:
    x, y = x / new_w, y / new_h
    return np.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def extrapolate(param: Message, xyxy: np.ndarray, crop: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes (N, 4) of a crop (4,) in units of width_scale and height_scale (FIT_SMALL_SIZE of weiliu89's
    branch).

    Raises:
        RmpeError: The crop is smaller than these scales.
    """
    if not (param.height_scale and param.width_scale and param.resize_mode == "FIT_SMALL_SIZE"):
        return xyxy
    aspect, new_h, new_w = F(width) / F(height), F(param.height), F(param.width)
    if aspect < new_w / new_h:
        new_h = new_w / aspect
    else:
        new_w = new_h * aspect
    crop_h, crop_w = new_h * (crop[3] - crop[1]), new_w * (crop[2] - crop[0])
    if crop_w < param.width_scale or crop_h < param.height_scale:
        raise RmpeError(f"a crop of {crop_w} x {crop_h} is smaller than width_scale {param.width_scale} and "
                        f"height_scale {param.height_scale}; make them smaller")
    size, scale = np.array([crop_w, crop_h] * 2, F), np.array([param.width_scale, param.height_scale] * 2, F)
    return xyxy * size / scale
