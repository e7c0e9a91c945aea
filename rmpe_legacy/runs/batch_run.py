"""One command on many images: divided among processes, saved image by image, resumed after an interruption."""

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
from rmpe_legacy.pose.pipeline import Pipeline, PoseResult
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.reading import first_line

from .checkpoint import Checkpoint, ImageResult
from .inputs import ImageSource, drawn_name
from .report_images import jpeg, panels, to_bytes

DRAWN = "pictures"  # the folder of annotated images
_QUALITY = 90

# (source, pixels (H, W, 3), keep the crops) -> result
Process = Callable[[ImageSource, np.ndarray, bool], PoseResult]
# Annotates an (H, W, 3) uint8 image
Draw = Callable[[np.ndarray, PoseResult], np.ndarray]


def _no_log(text: str) -> None:
    """Discard a message."""


def _no_progress(items: Sequence) -> Iterable:
    return items


@dataclass(frozen=True)
class RunContext:
    """The processes of a run, and where it reports: the command line adds a progress bar and standard error."""

    world: World = field(default_factory=World)
    progress: Callable[[Sequence], Iterable] = _no_progress  # iterates over its argument and shows how far it is
    log: Callable[[str], None] = _no_log


@dataclass(frozen=True, eq=False)
class BatchRun:
    """What to do with each image of a run."""

    output: Path
    settings: Mapping[str, Any]  # used to detect results of a different run
    process: Process
    draw: Draw | None = None
    shown: int = 0  # how many leading images the report shows
    context: RunContext = field(default_factory=RunContext)

    def run(self, sources: Sequence[ImageSource]) -> list[ImageResult]:
        """Process the images that are not finished yet; images that cannot be read are skipped.

        Waits for all processes, then returns every image's result, in order, in each of them.
        """
        checkpoint = Checkpoint(self.output, self.settings)
        numbered = list(enumerate(sources))
        for i, source in self.context.progress(self.context.world.share(numbered)):
            if not self._is_done(checkpoint, source, i < self.shown):
                checkpoint.write(source, self._result(source, i < self.shown))
        self.context.world.wait()
        return [self._read(checkpoint, source) for source in sources]

    def _is_done(self, checkpoint: Checkpoint, source: ImageSource, shown: bool) -> bool:
        is_drawn = self.draw is None or (self.output / DRAWN / drawn_name(source.name)).is_file()
        return is_drawn and checkpoint.finished(source, shown) is not None

    def _result(self, source: ImageSource, shown: bool) -> ImageResult:
        try:
            image = source.load()
        except FileError as error:
            self.context.log(f"skipped: {error}")
            return ImageResult(source.name, skipped=str(error))
        try:
            return self._processed(source, image, shown)
        except (MemoryError, cv2.error) as error:  # the next image may be smaller
            reason = f"{source.name}: {first_line(error)}; the image is too large to process, scale it down"
            self.context.log(f"skipped: {reason}")
            return ImageResult(source.name, skipped=reason)

    def _processed(self, source: ImageSource, image: np.ndarray, shown: bool) -> ImageResult:
        people = self.process(source, image, shown)
        if self.draw:
            drawing = self.draw(to_bytes(image), people)
            write_together(self.output / DRAWN, {drawn_name(source.name): jpeg(drawing, _QUALITY)})
        return ImageResult(source.name, people, extra=panels(image, people.traces).arrays() if shown else {})

    def _read(self, checkpoint: Checkpoint, source: ImageSource) -> ImageResult:
        result = checkpoint.read(source.name)
        if result is None:
            raise RmpeError(f"{checkpoint.folder}: contains no result for {source.name}; make sure that all processes "
                            "see the same folder")
        return result


def find_people(pipeline: Pipeline) -> Process:
    """``BatchRun.process`` for a pipeline that detects people itself."""
    return lambda source, image, keep_crops: pipeline(image, keep_crops=keep_crops)


def pose_in_boxes(pipeline: Pipeline, proposals: Mapping[str, Detections]) -> Process:
    """``BatchRun.process`` for known boxes, by image name."""
    return lambda source, image, keep_crops: pipeline(image, proposals[source.name], keep_crops)


def draw_persons(image: np.ndarray, result: PoseResult) -> np.ndarray:
    """``BatchRun.draw``: the persons' skeletons, as the demo draws them."""
    persons, width = result.nms_result.persons, line_width(result.size_wh)
    return draw_poses(image, persons.joints_xy, persons.scores, thickness=width, radius=width + 1)


def draw_detections(image: np.ndarray, result: PoseResult) -> np.ndarray:
    """``BatchRun.draw``: the detector's boxes with their scores."""
    boxes = result.proposals
    return draw_boxes(image, boxes.boxes_xyxy, boxes.scores, thickness=line_width(result.size_wh))


def line_width(size_wh: tuple[int, int]) -> int:
    """Line width in pixels: the demo's 2 up to about 600 pixels, then in proportion to the image."""
    return max(2, round(max(size_wh) / 300))
