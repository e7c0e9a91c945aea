"""What surrounds synthetic people: ground, clutter and the camera; and the shapes that everything is drawn with."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

FINE = 2  # pixels are drawn at twice the size and averaged, which smooths edges
SHIFT = 4  # OpenCV fills to a sixteenth of a fine pixel
ARC = 8  # points on each round end of a capsule
NOBODY = 255  # in the channel that says whose part lies on top


def hulls(ends: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the outlines of capsules, (..., 2 ARC, 2) int32 in OpenCV's fixed-point fine pixels.

    Args:
        ends: The centres of both circles, (..., 2, 2), in pixels.
        radii: Their radii, (..., 2), in pixels.
    """
    along = ends[..., 1, :] - ends[..., 0, :]
    length = np.hypot(along[..., 0], along[..., 1])
    slope = (radii[..., 0] - radii[..., 1]) / np.maximum(length, 1e-6)
    half = np.arccos(np.clip(slope, -1, 1))[..., None]  # from the axis to where the tangent touches
    axis = np.arctan2(along[..., 1], along[..., 0])[..., None]
    step = np.linspace(-1, 1, ARC)
    angles = np.stack([axis + np.pi + step * (np.pi - half), axis + step * half], axis=-2)  # (..., 2, ARC)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    points = ends[..., None, :] + radii[..., None, None] * circle
    fixed = np.rint((points * FINE - 0.5) * (1 << SHIFT))
    return fixed.reshape(*fixed.shape[:-3], 2 * ARC, 2).astype(np.int32)


def fill(canvas: np.ndarray, points: np.ndarray, color: tuple) -> None:
    """Fill a convex shape, whose points are in OpenCV's fixed-point fine pixels."""
    cv2.fillConvexPoly(canvas, points, color, cv2.LINE_8, SHIFT)


def draw_ground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Draw wall and floor, or one of them, with patterns, noise and clutter.

    Returns:
        (FINE height, FINE width, 4) uint8: RGB, and a last channel of NOBODY.
    """
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    floor = rows >= height * (0.25 + 0.5 * rng.random() + (rng.random() < 0.3))
    step = int(rng.integers(6, 40))
    stripes, bars = rows // step % 2, columns // step % 2
    marked = (stripes, bars, stripes ^ bars, 0)[int(np.searchsorted([0.15, 0.3, 0.45], rng.random(), side="right"))]
    palette = _muted(rng, 2)
    palette = np.concatenate([palette, palette + rng.integers(-40, 41, (2, 3))])
    image = np.clip(palette, 0, 255).astype(np.uint8).take(floor + 2 * marked + 0 * columns, axis=0)
    canvas = cv2.resize(_grained(rng, image), (FINE * width, FINE * height), interpolation=cv2.INTER_NEAREST)
    canvas = cv2.cvtColor(canvas, cv2.COLOR_RGB2RGBA)  # fills the last channel with NOBODY
    for shape, color in clutter(rng, width, height, rng.random() < 0.7):
        fill(canvas, shape, color)
    return canvas


def _muted(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) int64: colours, most of them rather grey."""
    colors = rng.integers(20, 236, (count, 3))
    return colors + ((colors.mean(axis=1, keepdims=True) - colors) * (0.85 * rng.random((count, 1)))).astype(np.int64)


def _grained(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Noise of four grains added, the finest the weakest."""
    height, width = image.shape[:2]
    size = (width // 3, height // 3)
    total = np.zeros((size[1], size[0], 3), np.int16)
    for rows, columns, strength in ((3, 4, 60), (8, 11, 40), (24, 32, 30), (80, 107, 24)):
        noise = rng.integers(-128, 128, (rows, columns, 3), np.int16)
        noise += (noise[..., :1] - noise) * 3 >> 2  # rather grey
        noise = _enlarged((noise + 128).astype(np.uint8), size).astype(np.int16) - 128
        total += noise * int(strength * rng.random()) >> 7
    brighter, darker = (np.clip(total * sign, 0, 255).astype(np.uint8) for sign in (1, -1))
    image = cv2.add(image, _enlarged(brighter, (width, height)))
    return cv2.subtract(image, _enlarged(darker, (width, height)))


def _enlarged(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR_EXACT)


def clutter(rng: np.random.Generator, width: int, height: int, there: bool) -> Iterator[tuple[np.ndarray, tuple]]:
    """Draw clutter: poles, boards, balls, limbs without a body; (shape, colour with NOBODY)."""
    if not there:
        return
    for _ in range(int(rng.integers(1, 9))):
        kind = rng.random()
        color = (*_muted(rng, 1)[0].tolist(), NOBODY)
        middle = rng.random(2) * (width, height)
        angle, length, thick = np.pi * rng.random(), height * (0.05 + 0.4 * rng.random() ** 2), rng.random()
        if kind < 0.3:  # a board
            turn = np.array([np.cos(angle * 0.15), np.sin(angle * 0.15)])
            across = np.array([-turn[1], turn[0]]) * length * (0.15 + 0.5 * thick)
            turn = turn * length * 0.5
            corners = np.array([turn + across, turn - across, -turn - across, across - turn]) + middle
            yield np.rint(corners * (FINE << SHIFT)).astype(np.int32), color
            continue
        if kind < 0.5:  # a pole
            angle, length, thick = np.pi / 2, height * (0.3 + rng.random()), 0.1 + 0.2 * thick
        elif kind < 0.65:  # a ball
            length, thick = 0.1, 0.3 + thick
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        radii = height * np.array([0.012 + 0.05 * thick, 0.012 + 0.05 * thick * rng.random()])
        yield hulls(np.stack([middle - reach, middle + reach]), radii), color


class Finish:
    """The camera: fine pixels averaged, contrast, brightness, a cast of colour, noise. Drawn by lot once, then used."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        gain, offset = 0.75 + 0.5 * rng.random() + 0.1 * rng.random(3), 40 * rng.random() - 20
        strength = int(rng.integers(0, 12))
        level = np.arange(256)[:, None]
        tones = np.rint((level - 128) * gain + 128 + offset - strength)
        self.tones = np.clip(tones, 0, 255).astype(np.uint8)[:, None]  # (256, 1, 3), as OpenCV's tables are
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        self.noise = cv2.LUT(noise, (level * 2 * strength >> 8).astype(np.uint8))

    def __call__(self, canvas: np.ndarray) -> np.ndarray:
        height, width = self.noise.shape[:2]
        averaged = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
        toned = cv2.LUT(cv2.cvtColor(averaged, cv2.COLOR_RGBA2RGB), self.tones)
        return cv2.add(toned, self.noise)
