"""Where training samples come from: annotated images, or the drawn world. Batch k is the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from rmpe_legacy.caffe.data.image import load_image
from rmpe_legacy.distributed import World
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.pose.joints import MPII16
from rmpe_legacy.synthetic.world import OUTSIDE, Picture, draw_picture

from .people import Person

LEAST_BOX = 8.0  # px: people whose box is narrower or lower are not trained on
ALONE = World()
CACHED = 64  # images kept in memory; people of one image often stand together in an annotation file

Shot = tuple[np.ndarray, Person]  # the image, (H, W, 3) float32 RGB from 0 to 1, and one person in it


class Source(Protocol):
    """A training set."""

    @property
    def joints(self) -> int:
        """How many joints its people have."""
        ...

    def shots(self, index: int, count: int, world: World = ALONE) -> Iterator[Shot]:
        """This process's share of the ``count`` people of batch ``index``, counted from 0."""
        ...


@dataclass(frozen=True)
class AnnotatedPictures:
    """People of images in a folder, each once in an epoch, in an order that the seed decides.

    Source: the shuffle of train/src/util/dataloader.lua:59-70, multi-human-pose@094e29b.
    """

    people: tuple[Person, ...]
    images: Path
    seed: int = 0

    def __post_init__(self):
        if not os.path.isdir(self.images):
            raise FileError(f"{self.images}: no such folder of images")
        load_picture(str(self.images / self.people[0].image))  # a wrong folder is found out before training starts

    @property
    def joints(self) -> int:
        return len(self.people[0].joints_xy)

    def shots(self, index: int, count: int, world: World = ALONE) -> Iterator[Shot]:
        for position in world.share(range(index * count, (index + 1) * count)):
            epoch, k = divmod(position, len(self.people))
            person = self.people[_order(self.seed, epoch, len(self.people))[k]]
            yield load_picture(str(self.images / person.image)), person


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


@lru_cache(maxsize=CACHED)
def load_picture(path: str) -> np.ndarray:
    """``load_image`` with a memory of CACHED images."""
    return load_image(path)


@dataclass(frozen=True)
class DrawnPeople:
    """Endless people of the drawn world ``seed``. views: how many samples are made of each person."""

    seed: int
    views: int = 2
    joints: int = len(MPII16)

    def __post_init__(self):
        if self.seed < 0 or self.views < 1:
            raise RmpeError(f"world {self.seed} with {self.views} views of each person; they must be at least 0 and 1")

    def shots(self, index: int, count: int, world: World = ALONE) -> Iterator[Shot]:
        """As ``Source`` says; every process draws the whole batch's images, which takes milliseconds."""
        yield from islice(self._whole_batch(index, count), world.rank, None, world.size)

    def _whole_batch(self, index: int, count: int) -> Iterator[Shot]:
        picture = index * count  # a batch uses at most as many images as it has samples, and skips the others
        given = 0
        while given < count:
            drawing = draw_picture(self.seed, picture)
            picture += 1
            image = as_float(drawing)
            for person in drawn_people(drawing, f"drawn image {self.seed}/{picture - 1}"):
                for _ in range(min(self.views, count - given)):
                    given += 1
                    yield image, person


def as_float(drawing: Picture) -> np.ndarray:
    """Convert a drawn image like ``load_image``: (H, W, 3) float32 RGB from 0 to 1."""
    return np.divide(drawing.image, np.float32(255), dtype=np.float32)


def drawn_people(drawing: Picture, name: str) -> list[Person]:
    """Return the people of a drawn image; joints outside it are not annotated, hidden ones are."""
    joints = np.where((drawing.visible != OUTSIDE)[..., None], drawing.joints_xy, np.nan)
    return [Person(name, box, xy) for box, xy in zip(drawing.boxes_xyxy, joints, strict=True)
            if (box[2:] - box[:2]).min() >= LEAST_BOX]
