"""NoiseParameter and DistortionParameter: random changes of an image's colours.

Sources: im_transforms.cpp:145-163, 422-522 of RMPE@5188c23; im_transforms.cpp:551-730 of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import RmpeError

from .caffe_random import CaffeRandom, LibraryRandom

POSTERIZE = 64  # colorReduce's default step
CLIP_LIMIT = 4
_ELEMENT = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3), (1, 1))


def add_noise(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    """Apply every kind of noise that the parameter switches on to an image (H, W, 3) uint8, in Caffe's order.

    Caffe never reads `prob`. convert_to_lab returns float32, all others uint8.
    """
    if param.decolorize:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if param.gauss_blur:
        image = cv2.GaussianBlur(image, (7, 7), 1.5)
    if param.hist_eq:
        image = _on_luma(image, cv2.equalizeHist)
    if param.clahe:
        image = _on_luma(image, cv2.createCLAHE(CLIP_LIMIT).apply)
    if param.jpeg > 0:
        _, buffer = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(param.jpeg)])
        decoded = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        assert decoded is not None  # it has just been encoded
        image = decoded
    if param.erode:
        image = cv2.erode(image, _ELEMENT)
    if param.posterize:
        levels = np.arange(256)
        image = cv2.LUT(image, (levels // POSTERIZE * POSTERIZE + POSTERIZE // 2).astype(np.uint8))
    if param.inverse:
        image = cv2.bitwise_not(image)
    if param.saltpepper:
        image = _salt_and_pepper(image, param.saltpepper_param, random)
    if param.convert_to_hsv:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if param.convert_to_lab:
        image = cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_BGR2Lab)
    return image


def _on_luma(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Change a grey image, or the brightness of a coloured one."""
    if image.ndim == 2 or image.shape[2] == 1:
        return change(image)
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
    planes[..., 0] = change(np.ascontiguousarray(planes[..., 0]))
    return cv2.cvtColor(planes, cv2.COLOR_YCrCb2BGR)


def _salt_and_pepper(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    channels = image.shape[2] if image.ndim == 3 else 1
    if len(param.value) not in (1, channels):
        raise RmpeError(f"saltpepper_param gives {len(param.value)} values for {channels} channels; give one, or one "
                        "per channel")
    if channels not in (1, 3):
        return image
    image, (rows, columns) = image.copy(), image.shape[:2]
    count = int(np.float32(param.fraction) * np.float32(columns) * np.float32(rows))
    places = [(random.below(columns), random.below(rows)) for _ in range(count)]
    if places:
        x, y = np.transpose(places)
        image[y, x] = [int(v) % 256 for v in param.value] if channels == 3 else int(param.value[0]) % 256
    return image


def distort(image: np.ndarray, param: Message, random: CaffeRandom, library: LibraryRandom) -> np.ndarray:
    """Randomly change brightness, contrast, saturation, hue and channel order: uint8 (H, W, 3) -> the same.

    Contrast is applied second or after the hue, at random. Only weiliu89's branch has this.
    """
    contrast_first = random.uniform(0, 1) > 0.5
    image = _brightness(image, param, random)
    if contrast_first:
        image = _contrast(image, param, random)
    image = _hue(_saturation(image, param, random), param, random)
    if not contrast_first:
        image = _contrast(image, param, random)
    return _order(image, param, random, library)


def _brightness(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    if random.uniform(0, 1) >= param.brightness_prob:
        return image
    _check_range("brightness_delta", 0, param.brightness_delta)
    delta = random.uniform(-param.brightness_delta, param.brightness_delta)
    return _linear(image, 1, delta) if delta else image


def _contrast(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    if random.uniform(0, 1) >= param.contrast_prob:
        return image
    _check_range("contrast_lower", 0, param.contrast_lower)
    _check_range("contrast_upper", param.contrast_lower, param.contrast_upper)
    factor = random.uniform(param.contrast_lower, param.contrast_upper)
    return _linear(image, factor, 0) if abs(factor - 1) > 1e-3 else image


def _saturation(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    if random.uniform(0, 1) >= param.saturation_prob:
        return image
    _check_range("saturation_lower", 0, param.saturation_lower)
    _check_range("saturation_upper", param.saturation_lower, param.saturation_upper)
    return _on_hsv(image, 1, random.uniform(param.saturation_lower, param.saturation_upper), 0)


def _hue(image: np.ndarray, param: Message, random: CaffeRandom) -> np.ndarray:
    if random.uniform(0, 1) >= param.hue_prob:
        return image
    _check_range("hue_delta", 0, param.hue_delta)
    delta = random.uniform(-param.hue_delta, param.hue_delta)
    return _on_hsv(image, 0, 1, delta) if delta else image


def _order(image: np.ndarray, param: Message, random: CaffeRandom, library: LibraryRandom) -> np.ndarray:
    if random.uniform(0, 1) >= param.random_order_prob:
        return image
    channels = [0, 1, 2]
    library.shuffle(channels)
    return np.ascontiguousarray(image[..., channels])


def _on_hsv(image: np.ndarray, channel: int, factor: float | np.floating, delta: float | np.floating) -> np.ndarray:
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    planes[..., channel] = _linear(planes[..., channel], factor, delta)
    return cv2.cvtColor(planes, cv2.COLOR_HSV2BGR)


def _linear(values: np.ndarray, factor: float | np.floating, delta: float | np.floating) -> np.ndarray:
    """values * factor + delta, rounded to even and clipped to 0..255, like Mat::convertTo (in single precision)."""
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(delta)
    return cv2.LUT(values, np.clip(np.rint(table), 0, 255).astype(np.uint8))


def _check_range(name: str, least: float, value: float) -> None:
    if value < least:
        raise RmpeError(f"distort_param: {name} {value} must be at least {least}")
