"""One command on many images: divided among processes, saved image by image, resumed after an interruption.

While the networks run on one image, or on several in as many threads, another thread reads the next image, and another
draws and saves the last one.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from rmpe_legacy.distributed import World
from rmpe_legacy.errors import FileError, LayerError, RmpeError
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.draw import draw_boxes, draw_poses, line_width
from rmpe_legacy.pose.networks import PerThread, network_threads
from rmpe_legacy.pose.pipeline import Pipeline, PoseResult, merge_poses
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.reading import first_line

from .checkpoint import Checkpoint, ImageResult
from .inputs import ImageSource, drawn_name
from .report_images import jpeg, panels, to_bytes

DRAWN = "pictures"  # the folder of annotated images
_QUALITY = 90
_TURN_SECONDS = 0.0005
_TOO_LARGE = (MemoryError, cv2.error)  # raised for an image that is too large; the next one may be smaller
T = TypeVar("T")
R = TypeVar("R")

# (source, pixels (H, W, 3), keep the crops) -> result
Process = Callable[[ImageSource, np.ndarray, bool], PoseResult]
# Annotates an (H, W, 3) uint8 image
Draw = Callable[[np.ndarray, PoseResult], np.ndarray]
_Finish = Callable[[], ImageResult]


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
    workers: int = 1  # threads that call ``process``, each for another image

    def run(self, sources: Sequence[ImageSource]) -> list[ImageResult]:
        """Process the images that are not finished yet; images that cannot be read are skipped.

        Waits for all processes, then returns every image's result, in order, in each of them.
        """
        checkpoint = Checkpoint(self.output, self.settings)
        mine = self.context.world.share(list(enumerate(sources)))
        self._run(checkpoint, mine)
        self.context.world.wait()
        return [self._read(checkpoint, source) for source in sources]

    def _run(self, checkpoint: Checkpoint, mine: Sequence[tuple[int, ImageSource]]) -> None:
        """Process images in threads, while others read the next image, and draw and save the last one.

        No result is kept: between the networks' blobs each would hold several times its size in memory.
        """
        with (_quick_turns(), ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "save") as saver,
              network_threads(self.workers, "process") as workers):
            found = _ahead(reader, lambda job: self._find(checkpoint, job[1], job[0] < self.shown), mine)
            waiting: deque[tuple[ImageSource, Future[_Finish]]] = deque()
            saving: Future[ImageResult] | None = None
            try:
                for (i, source), image in zip(self.context.progress(mine), found, strict=False):
                    if isinstance(image, ImageResult) and image.people is not None:  # finished by an earlier run
                        continue
                    waiting.append((source, workers.submit(self._processed, source, image, i < self.shown)))
                    while len(waiting) >= 4 * self.workers - 3:  # so that no thread waits for one with a crowd in it
                        saving = self._saved(checkpoint, saver, *waiting.popleft(), saving)
                while waiting:
                    saving = self._saved(checkpoint, saver, *waiting.popleft(), saving)
                self._wait(saving)
            except BaseException:  # Ctrl-C too: do not wait for images that nobody has begun
                workers.shutdown(wait=False, cancel_futures=True)
                raise

    def _saved(self, checkpoint: Checkpoint, saver: ThreadPoolExecutor, source: ImageSource,
               processing: Future[_Finish], last: Future[ImageResult] | None) -> Future[ImageResult]:
        """Start to save an image as soon as it is processed and the last one is saved."""
        finish = processing.result()
        self._wait(last)
        return saver.submit(self._save, checkpoint, source, finish)

    def _find(self, checkpoint: Checkpoint, source: ImageSource, shown: bool) -> np.ndarray | ImageResult:
        """Return an image; or its result, if it is finished or cannot be read."""
        is_drawn = self.draw is None or os.path.isfile(self.output / DRAWN / drawn_name(source.name))
        if is_drawn and (finished := checkpoint.finished(source, shown)) is not None:
            return finished
        try:
            return source.load()
        except FileError as error:
            return ImageResult(source.name, skipped=str(error))

    def _processed(self, source: ImageSource, image: np.ndarray | ImageResult, shown: bool) -> _Finish:
        """Find the people in an image; return what then makes its result."""
        if isinstance(image, ImageResult):
            return lambda: image
        try:
            people = self.process(source, image, shown)
        except _TOO_LARGE as error:
            result = _too_large(source, error)
            return lambda: result
        except (torch.OutOfMemoryError, LayerError) as error:
            if not _fills_gpu(error):
                raise
            result = _too_much(source, error)  # not in the closure, where the error would keep blobs alive
            return lambda: result
        return lambda: self._drawn(source, image, people, shown)

    def _save(self, checkpoint: Checkpoint, source: ImageSource, finish: _Finish) -> ImageResult:
        try:
            result = finish()
        except _TOO_LARGE as error:
            result = _too_large(source, error)
        checkpoint.write(source, result)
        return result

    def _drawn(self, source: ImageSource, image: np.ndarray, people: PoseResult, shown: bool) -> ImageResult:
        """Draw an image's result, and return it as ``Checkpoint.read`` will."""
        if self.draw:
            drawing = self.draw(to_bytes(image), people)
            write_together(self.output / DRAWN, {drawn_name(source.name): jpeg(drawing, _QUALITY)})
        return ImageResult(source.name, replace(people, image=None, traces=(), people=None),
                           extra=panels(image, people.traces).arrays() if shown else {})

    def _wait(self, saving: Future[ImageResult] | None) -> None:
        """Wait until a result is saved."""
        if saving is not None and (result := saving.result()).people is None:
            self.context.log(f"skipped: {result.skipped}")

    def _read(self, checkpoint: Checkpoint, source: ImageSource) -> ImageResult:
        result = checkpoint.read(source.name)
        if result is None:
            raise RmpeError(f"{checkpoint.folder}: contains no result for {source.name}; make sure that all processes "
                            "see the same folder")
        return result


def _ahead(executor: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield function(item) for each item; the next one is computed while the caller uses this one."""
    waiting: Future[R] | None = None
    for item in items:
        following = executor.submit(function, item)
        if waiting is not None:
            yield waiting.result()
        waiting = following
    if waiting is not None:
        yield waiting.result()


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let threads take turns more often than every 5 ms: or a small network waits that long for its next one."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _too_large(source: ImageSource, error: Exception) -> ImageResult:
    reason = f"{source.name}: {first_line(error)}; the image is too large to process, scale it down"
    return ImageResult(source.name, skipped=reason)


def _fills_gpu(error: BaseException) -> bool:
    """Whether an error says that a GPU's memory is full; a layer's error has torch's as its cause."""
    return isinstance(error, torch.OutOfMemoryError) or isinstance(error.__cause__, torch.OutOfMemoryError)


def _too_much(source: ImageSource, error: Exception) -> ImageResult:
    """Another image may have fewer people, or find more memory free."""
    reason = (f"{source.name}: the GPU's memory does not suffice: {first_line(error)}; run it again with a smaller "
              "--batch, or with --device cpu")
    return ImageResult(source.name, skipped=reason)


def find_people(pipeline: Pipeline, workers: int = 1) -> Process:
    """``BatchRun.process`` for a pipeline that detects people itself."""
    own = PerThread(pipeline, workers)
    return lambda source, image, keep_crops: merge_poses(own.mine.estimate(image, keep_crops=keep_crops),
                                                         pipeline.recipe)


def pose_in_boxes(pipeline: Pipeline, proposals: Mapping[str, Detections], workers: int = 1) -> Process:
    """``BatchRun.process`` for known boxes, by image name."""
    own = PerThread(pipeline, workers)
    return lambda source, image, keep_crops: merge_poses(own.mine.estimate(image, proposals[source.name], keep_crops),
                                                         pipeline.recipe)


def draw_persons(image: np.ndarray, result: PoseResult) -> np.ndarray:
    """``BatchRun.draw``: draw the persons' skeletons like the demo, on a copy of an image (H, W, 3) uint8."""
    persons, width = result.nms_result.persons, line_width(result.size_wh)
    return draw_poses(image, persons.joints_xy, persons.scores, thickness=width, radius=width + 1,
                      joint_set=result.joints)


def draw_detections(image: np.ndarray, result: PoseResult) -> np.ndarray:
    """``BatchRun.draw``: draw the detector's boxes with their scores, on a copy of an image (H, W, 3) uint8."""
    boxes = result.proposals
    return draw_boxes(image, boxes.boxes_xyxy, boxes.scores, thickness=line_width(result.size_wh))
