"""Synthetic images of people, with everything about them known exactly, so that nothing has to be downloaded.

``draw_picture(seed, index)`` gives the same image on every machine: random numbers come from PCG64, shapes are filled
in integers, and nothing is interpolated in floating point.

Coordinates are pixels; pixel k extends from k to k + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np

from .background import FINE, Finish, clutter, draw_ground, fill, hulls
from .figures import (
    EXTRA,
    EYE,
    HAIR,
    HEAD_LENGTH,
    HEAD_TOP,
    JOINT_PARTS,
    MATERIALS,
    NECK,
    PARTS,
    SHIRT,
    SHOES,
    SKIN,
    TROUSERS,
    Figures,
    draw_figures,
)

OUTSIDE, OCCLUDED, VISIBLE = 0, 1, 2  # of a joint: outside the image, behind something, visible

WIDTH, HEIGHT = 320, 240
MAX_PEOPLE = 6
LEAST_SEEN = 10  # joints of the sixteen; people of whom less is seen are not drawn
CLOSE = 0.05  # of all people: too large for the image
MOST_OVERLAP = 0.22  # of two people's boxes, as intersection over union
HEAD_BIAS = 0.75  # MPII's head size / distance from upper neck to head top; 0.6 of the diagonal of a 3 x 4 rectangle


@dataclass(frozen=True, eq=False)
class Picture:
    """A synthetic image and the P people in it, the farthest first."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    boxes_xyxy: np.ndarray  # (P, 4) float64: the part of the figure inside the image, hidden or not
    joints_xy: np.ndarray  # (P, 16, 2) float64, MPII's order; known also where they are outside
    visible: np.ndarray  # (P, 16) uint8: OUTSIDE, OCCLUDED or VISIBLE
    head_boxes_xyxy: np.ndarray  # (P, 4) float64: MPII's head rectangle
    head_sizes: np.ndarray  # (P,) float64: 0.6 of its diagonal

    def __len__(self) -> int:
        return len(self.boxes_xyxy)


def draw_picture(seed: int, index: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """Draw image ``index`` of the world ``seed``; each image has its own random stream.

    It contains zero to six people, usually two or three. At least LEAST_SEEN joints of each are visible.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    ground = draw_ground(rng, width, height)
    people = _place(rng, width, height)
    before = list(clutter(rng, width, height, rng.random() < 0.1))
    finish = Finish(rng, width, height)
    while True:
        canvas = people.paint(ground, before)
        visible = people.look(canvas[..., 3])
        keep = (visible == VISIBLE).sum(axis=1) >= LEAST_SEEN
        if keep.all():
            break
        people = people.select(keep)  # without them others come into sight
    return Picture(finish(canvas), people.boxes(), people.joints_xy, visible, *people.heads())


def draw_pictures(seed: int, count: int, first: int = 0) -> Iterator[Picture]:
    """Images ``first`` to ``first + count - 1`` of a world, one by one."""
    for index in range(first, first + count):
        yield draw_picture(seed, index)


# --- people ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _People:
    """Figures with their places in an image and their colours, the farthest first."""

    size_wh: tuple[int, int]
    figures: Figures
    scales: np.ndarray  # (P,) standing height in pixels
    origins: np.ndarray  # (P, 2) where the middle of the hips is
    colors: np.ndarray  # (P, MATERIALS, 3)

    def select(self, keep: np.ndarray) -> _People:
        f = self.figures
        figures = Figures(f.joints[keep], f.ends[keep], f.radii[keep], f.depth[keep], f.parts, f.materials[keep])
        return _People(self.size_wh, figures, self.scales[keep], self.origins[keep], self.colors[keep])

    @property
    def joints_xy(self) -> np.ndarray:
        return self.figures.joints[..., :2] * self.scales[:, None, None] + self.origins[:, None]

    def boxes(self) -> np.ndarray:
        """(P, 4): the extent of all capsules inside the image; all 0 if there are none."""
        low, high = _extent(self.figures, self.scales)
        boxes = np.concatenate([low + self.origins, high + self.origins], axis=1)
        cut = ((boxes[:, :2] < 0) | (boxes[:, 2:] > self.size_wh)).any(axis=1)
        for p in np.flatnonzero(cut):
            boxes[p] = self._silhouette_box(int(p))
        return boxes

    def _silhouette_box(self, p: int) -> np.ndarray:
        width, height = self.size_wh
        silhouette = np.zeros((FINE * height, FINE * width), np.uint8)
        shapes = _outlines(self.figures, self.scales, self.origins)[p]
        for shape in shapes[(self.figures.radii[p] > 0).all(axis=1)]:
            fill(silhouette, shape, (1,))
        xmin, ymin, width, height = cv2.boundingRect(silhouette)
        return np.array([xmin, ymin, xmin + width, ymin + height]) / FINE

    def heads(self) -> tuple[np.ndarray, np.ndarray]:
        """MPII's head rectangles (P, 4), 3 x 4 for an upright head, and head sizes (P,).

        The distance from neck to top is taken as at least 0.75 of the true one, since a head is round.
        """
        neck, top = self.joints_xy[:, NECK], self.joints_xy[:, HEAD_TOP]
        along = top - neck
        distance = np.hypot(along[:, 0], along[:, 1])
        length = np.maximum(distance, 0.75 * HEAD_LENGTH * self.scales)
        ratio = np.abs(along) / np.maximum(distance, 1e-9)[:, None]
        sides = ratio + 0.75 * ratio[:, ::-1]
        sides *= (1.25 * length / np.hypot(sides[:, 0], sides[:, 1]))[:, None]
        middle = (neck + top) / 2
        return np.concatenate([middle - sides / 2, middle + sides / 2], axis=1), HEAD_BIAS * length

    def paint(self, ground: np.ndarray, before: list[tuple[np.ndarray, tuple]]) -> np.ndarray:
        """The people on the ground, and the clutter before them: fine (H, W, 4), the last channel who is seen there."""
        canvas = ground.copy()
        shapes = _outlines(self.figures, self.scales, self.origins)
        lights = _outlines(self.figures, self.scales, self.origins, 0.62, -0.18)
        shade = 1 + 0.22 * np.tanh(self.figures.depth / 0.12)
        colors = np.take_along_axis(self.colors, self.figures.materials[..., None], axis=1) * shade[..., None]
        dark, light = (np.clip(colors * k, 0, 255).astype(np.int64).tolist() for k in (0.82, 1.08))
        order = np.argsort(self.figures.depth, axis=1, kind="stable").tolist()
        there = np.all(self.figures.radii > 0, axis=2).tolist()
        parts = self.figures.parts.tolist()
        for p, order_of_p in enumerate(order):
            for part, group in groupby((m for m in order_of_p if there[p][m]), parts.__getitem__):
                who, run = p * PARTS + part, list(group)
                for m in run:  # first the dark rims of all capsules of a part, so that they make one shape
                    fill(canvas, shapes[p, m], (*dark[p][m], who))
                for m in run:
                    fill(canvas, lights[p, m], (*light[p][m], who))
        for shape, color in before:
            fill(canvas, shape, color)
        return canvas

    def look(self, who: np.ndarray) -> np.ndarray:
        """(P, 16) uint8: the visibility of each joint, given which person is in front at each supersampled pixel."""
        joints = self.joints_xy.copy()
        width, height = self.size_wh
        inside = ((joints >= 0) & (joints < self.size_wh)).all(axis=2)
        joints[:, HEAD_TOP] += 0.15 * (joints[:, NECK] - joints[:, HEAD_TOP])  # it lies on the outline
        x, y = np.moveaxis((joints * FINE).astype(np.int64), -1, 0)
        top = who[np.clip(y, 0, FINE * height - 1), np.clip(x, 0, FINE * width - 1)].astype(np.int64)
        own = top - PARTS * np.arange(len(joints))[:, None]
        seen = (own >= 0) & (own < PARTS) & _OWN[np.arange(16), np.clip(own, 0, PARTS - 1)]
        return np.where(inside, np.where(seen, VISIBLE, OCCLUDED), OUTSIDE).astype(np.uint8)


_OWN = np.array([[part in parts for part in range(PARTS)] for parts in JOINT_PARTS])  # (16, PARTS)


def _place(rng: np.random.Generator, width: int, height: int) -> _People:
    """Pose people and place them so that they do not occlude each other too much."""
    count = 1 + int(np.searchsorted([0.16, 0.42, 0.68, 0.86, 0.95], rng.random(), side="right"))
    figures = draw_figures(rng, count)
    near = np.sort(rng.random(count))
    scales = height * (0.36 + 0.56 * near**1.3) * (0.92 + 0.16 * rng.random(count))
    close = rng.random(count) < CLOSE
    scales = np.where(close, height * (1 + 0.5 * near), scales)
    low, high = _extent(figures, scales)
    # feet stand lower the nearer they are; of who is close, the upper end is in the image, or nearly
    ground = height * (0.58 + 0.42 * near + 0.2 * (rng.random(count) - 0.4))
    ground = np.where(close, height * (0.35 * rng.random(count) - 0.1) + high[:, 1] - low[:, 1], ground)
    spots = rng.random((count, 8))  # eight tries for each
    boxes = np.zeros((0, 4))
    origins, kept = np.zeros((count, 2)), np.zeros(count, bool)
    for p in np.argsort(scales, kind="stable"):
        for spot in spots[p]:
            x = width * (0.02 + 0.96 * spot) - (low[p, 0] + high[p, 0]) / 2
            origin = np.array([x, ground[p] - high[p, 1]])
            box = np.concatenate([low[p] + origin, high[p] + origin])
            if not len(boxes) or _iou(boxes, box).max() <= MOST_OVERLAP:
                boxes, origins[p], kept[p] = np.vstack([boxes, box]), origin, True
                break
    people = _People((width, height), figures, scales, origins, _dress(rng, count))
    order = np.argsort(scales, kind="stable")  # the smallest are the farthest
    return people.select(order[kept[order]])


def _iou(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    common = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    both = common.clip(0).prod(axis=1)
    return both / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - both)


SKINS = np.array([(246, 214, 190), (232, 190, 160), (205, 155, 120), (160, 112, 80), (112, 76, 54)], np.float64)
HAIRS = np.array([(38, 30, 26), (70, 48, 32), (120, 84, 50), (196, 160, 96), (140, 140, 140)], np.float64)


def _dress(rng: np.random.Generator, count: int) -> np.ndarray:
    """(P, MATERIALS, 3): every figure's colours."""
    colors = 20 + 215 * rng.random((count, MATERIALS, 3))
    colors[:, SKIN] = SKINS[rng.integers(len(SKINS), size=count)] * (0.94 + 0.1 * rng.random((count, 1)))
    colors[:, HAIR] = HAIRS[rng.integers(len(HAIRS), size=count)] * (0.8 + 0.4 * rng.random((count, 1)))
    colors[:, SHOES] *= 0.5
    colors[:, EYE] = (24, 20, 24)
    colors[:, TROUSERS] = 0.8 * colors[:, TROUSERS]
    brighter = colors[:, SHIRT].mean(axis=1) < 128
    colors[:, EXTRA] = np.where(brighter[:, None], 130 + 0.5 * colors[:, EXTRA], 0.4 * colors[:, EXTRA])
    return colors


def _extent(figures: Figures, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) each: the least and the greatest x, y of the capsules, from the figure's origin, in pixels."""
    points, radii = figures.ends[..., :2], figures.radii[..., None]
    low = np.where(radii > 0, points - radii, np.inf).min(axis=(1, 2))
    high = np.where(radii > 0, points + radii, -np.inf).max(axis=(1, 2))
    return low * scales[:, None], high * scales[:, None]


def _outlines(figures: Figures, scales: np.ndarray, origins: np.ndarray, thick: float = 1.0,
              moved: float = 0.0) -> np.ndarray:
    """(P, M, 2 ARC, 2) int32: the hull of each capsule's two circles, in OpenCV's fixed-point fine pixels.

    thick: a factor for the radii. moved: by how much of its radius a circle is moved, towards the light.
    """
    scale = scales[:, None, None]
    radii = figures.radii * scale
    ends = figures.ends[..., :2] * scale[..., None] + origins[:, None, None] + (moved * radii)[..., None]
    return hulls(ends, radii * thick)
