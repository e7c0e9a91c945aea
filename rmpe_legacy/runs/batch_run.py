"""The work of one command over many pictures: shared among processes, kept as it is done, resumed where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rmpe_legacy.distributed import World
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.draw import draw_boxes, draw_poses
from rmpe_legacy.pose.pipeline import Found, Pipeline, merge
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.reading import first_line

from .checkpoint import Part, Store
from .inputs import Picture, drawn_name
from .report_images import jpeg, panels, to_bytes

DRAWN = "pictures"  # the folder of annotated pictures
_QUALITY = 90


def _quiet(text: str) -> None:
    """Says nothing."""


def _same(items: Sequence) -> Iterable:
    return items


@dataclass(frozen=True)
class Surroundings:
    """Where a job runs and whom it tells: the command line puts in a progress bar and stderr."""

    world: World = field(default_factory=World)
    progress: Callable[[Sequence], Iterable] = _same  # goes over the pictures, and shows how far it is
    say: Callable[[str], None] = _quiet


@dataclass(frozen=True, eq=False)
class Job:
    """What is done with each picture."""

    output: Path
    settings: Mapping[str, Any]  # by which results of another run are known
    find: Callable[[Picture, np.ndarray, bool], Found]  # the last: whether the crops are looked at
    draw: Callable[[np.ndarray, Found], np.ndarray] | None = None  # (H, W, 3) uint8 in and out
    shown: int = 0  # so many pictures, from the first, are in the report
    around: Surroundings = field(default_factory=Surroundings)

    def run(self, pictures: Sequence[Picture]) -> list[Part]:
        """Do what is not done yet; the parts of all pictures, in order. Pictures that cannot be read are skipped.

        Every process gets all parts when all have come to the end.
        """
        store = Store(self.output, self.settings)
        todo = list(enumerate(pictures))
        for i, picture in self.around.progress(self.around.world.share(todo)):
            if not self._is_done(store, picture, i < self.shown):
                store.write(picture, self._part(picture, i < self.shown))
        self.around.world.wait()
        return [self._read(store, picture) for picture in pictures]

    def _is_done(self, store: Store, picture: Picture, shown: bool) -> bool:
        drawn = self.draw is None or (self.output / DRAWN / drawn_name(picture.name)).is_file()
        return drawn and store.finished(picture, shown) is not None

    def _part(self, picture: Picture, shown: bool) -> Part:
        try:
            image = picture.load()
        except FileError as error:
            self.around.say(f"skipped: {error}")
            return Part(picture.name, skipped=str(error))
        try:
            return self._worked_on(picture, image, shown)
        except (MemoryError, cv2.error) as error:  # the next picture may be smaller
            reason = f"{picture.name}: {first_line(error)}; it is too large to be worked on, scale it down"
            self.around.say(f"skipped: {reason}")
            return Part(picture.name, skipped=reason)

    def _worked_on(self, picture: Picture, image: np.ndarray, shown: bool) -> Part:
        found = self.find(picture, image, shown)
        if self.draw:
            drawn = self.draw(to_bytes(image), found)
            write_together(self.output / DRAWN, {drawn_name(picture.name): jpeg(drawn, _QUALITY)})
        return Part(picture.name, found, extra=panels(image, found.looks).arrays() if shown else {})

    def _read(self, store: Store, picture: Picture) -> Part:
        part = store.read(picture.name)
        if part is None:
            raise RmpeError(f"{store.folder}: has nothing on {picture.name}; do all processes see the same folder?")
        return part


def detect_with(pipeline: Pipeline) -> Callable[[Picture, np.ndarray, bool], Found]:
    """``Job.find`` for a pipeline that detects people itself."""
    return lambda picture, image, look: pipeline.find(image, look=look)


def pose_with(pipeline: Pipeline, proposals: Mapping[str, Detections]) -> Callable[[Picture, np.ndarray, bool], Found]:
    """``Job.find`` for boxes that are there already, by the pictures' names."""
    return lambda picture, image, look: pipeline.find(image, proposals[picture.name], look)


def drawn_persons(pipeline: Pipeline) -> Callable[[np.ndarray, Found], np.ndarray]:
    """``Job.draw``: the skeletons of the persons, as the demo draws them."""
    def draw(image: np.ndarray, found: Found) -> np.ndarray:
        persons = merge(found, pipeline.recipe).persons
        thick = line_width(found.size_wh)
        return draw_poses(image, persons.joints_xy, persons.scores, thickness=thick, radius=thick + 1)

    return draw


def drawn_boxes(image: np.ndarray, found: Found) -> np.ndarray:
    """``Job.draw``: the detector's boxes with their scores."""
    return draw_boxes(image, found.proposals.boxes_xyxy, found.proposals.scores, thickness=line_width(found.size_wh))


def line_width(size_wh: tuple[int, int]) -> int:
    """In pixels, so that it is seen: 2 up to some 600 pixels, as the demo's, then more."""
    return max(2, round(max(size_wh) / 300))
