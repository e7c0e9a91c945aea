"""``rmpe detect``, ``rmpe pose`` and ``rmpe demo``: from pictures to files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmpe_legacy import __version__
from rmpe_legacy.caffe.inputs import usable_device
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.pose.demo_models import DE_TRANSFORM, shipped
from rmpe_legacy.pose.detect import Detector, load_detector
from rmpe_legacy.pose.estimate import BATCH, load_pose_network
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.pipeline import Found, Pipeline, inside, merge
from rmpe_legacy.pose.published import Recipe, recipe
from rmpe_legacy.pose.results import JOINTS, Detections, Poses
from rmpe_legacy.wording import many

from .batch_run import Job, Surroundings, detect_with, drawn_boxes, drawn_persons, pose_with
from .checkpoint import Part
from .inputs import Picture, PictureFile, file_digest, find_pictures
from .outputs import Collected, collect, merge_all, write_detections, write_people
from .report import MOST_PICTURES, Shown, Summary, check_page, write_report
from .report_images import Panels
from .result_files import read_proposals, write_proposals

MAX_THREADS = max(64, os.cpu_count() or 1)  # a few more than there are processors do no harm; thousands end the process
Files = Sequence[str | PathLike]  # prototxt and caffemodel, or one .t7


@dataclass(frozen=True)
class Options:
    """What the commands have in common."""

    output: Path
    published: str = "demo"
    threshold: float | None = None  # None: that of ``published``
    device: str = "cpu"
    batch: int = BATCH
    threads: int | None = None  # of the processor; None: torch's own choice
    de_transform: str | None = None
    around: Surroundings = field(default_factory=Surroundings)
    allow_python: bool = False  # as for ``load_net``

    @property
    def recipe(self) -> Recipe:
        return recipe(self.published, self.threshold)

    def start(self) -> torch.device:
        """Set torch up; the device. Of several processes each takes its own GPU."""
        if self.batch < 1:
            raise RmpeError(f"batch {self.batch} is less than 1")
        if self.threads is not None:
            if not 1 <= self.threads <= MAX_THREADS:
                raise RmpeError(f"threads {self.threads} is not from 1 to {MAX_THREADS}")
            torch.set_num_threads(self.threads)
        name = self.device
        if name == "cuda" and self.around.world.size > 1:
            name = f"cuda:{self.around.world.local_rank % max(1, torch.cuda.device_count())}"
        return usable_device(name)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    text: str
    skipped: Mapping[str, str]  # pictures that could not be read: name -> why


def run_detect(inputs: Files, detector: Files | None, options: Options) -> Outcome:
    """Find people in pictures: a proposals folder, detections.json and pictures with boxes."""
    device, files = options.start(), detector_files(detector)
    how = options.recipe
    found_by = load_detector(*files, device=device, allow_python=options.allow_python)
    settings = settings_of(how, detector=files)
    job = Job(options.output, settings, detect_only(found_by, how), drawn_boxes, around=options.around)
    parts = job.run(find_pictures(inputs))
    skipped = skipped_of(parts)
    if not options.around.world.first:
        return Outcome("", skipped)
    collected = collect(parts, how)
    write_detections(options.output, collected, skipped, settings)
    return Outcome(f"{_counts(collected, skipped)}; written to {options.output}: index.txt, score.txt, test-bbox.h5, "
                   "test-bbox.txt, detections.json, pictures/", skipped)


def detect_only(detector: Detector, how: Recipe):
    """``Job.find`` for a detector alone."""
    def find(picture: Picture, image: np.ndarray, look: bool) -> Found:
        size_wh, boxes = (image.shape[1], image.shape[0]), detector(image, how.threshold, how.rounding)
        kept = inside(boxes, size_wh, how)
        return Found(size_wh, kept, NO_POSES, len(boxes) - len(kept))

    return find


NO_POSES = Poses(np.empty((0, len(JOINTS), 2)), np.empty((0, len(JOINTS)), np.float32))


def run_pose(proposals: str | PathLike, images: str | PathLike, pose: Files | None, options: Options) -> Outcome:
    """Estimate a pose in each box of a proposals folder: the same folder again with testres.h5."""
    device, how = options.start(), options.recipe
    if Path(proposals).exists() and options.output.exists() and options.output.samefile(proposals):
        raise RmpeError(f"{options.output}: the results would replace the proposals; choose another output folder")
    boxes, pictures = proposals_in(proposals, images)
    files, de_transform = pose_files(pose, options.de_transform)
    network = load_pose_network(*files, device=device, de_transform=de_transform, allow_python=options.allow_python)
    pipeline = Pipeline(None, network, how, options.batch)
    settings = settings_of(how, pose=files, de_transform=de_transform, boxes=boxes_digest(proposals))
    parts = Job(options.output, settings, pose_with(pipeline, boxes), around=options.around).run(pictures)
    skipped = skipped_of(parts)
    if not options.around.world.first:
        return Outcome("", skipped)
    collected = collect(parts, how)
    write_proposals(options.output, collected.proposals, collected.poses)
    return Outcome(f"{_counts(collected, skipped)}; written to {options.output}: testres.h5, and its index.txt, "
                   "score.txt, test-bbox.h5, test-bbox.txt", skipped)


def run_demo(inputs: Files, detector: Files | None, pose: Files | None, options: Options,
             report: Path | None = None) -> Outcome:
    """The whole of RMPE on pictures: annotated pictures, poses.json, the authors' files, and a page to look at."""
    check_page(report)
    device, detector = options.start(), detector_files(detector)
    pose, de_transform = pose_files(pose, options.de_transform)
    pipeline = Pipeline(load_detector(*detector, device=device, allow_python=options.allow_python),
                        load_pose_network(*pose, device=device, de_transform=de_transform,
                                          allow_python=options.allow_python), options.recipe, options.batch)
    settings = settings_of(options.recipe, detector=detector, pose=pose, de_transform=de_transform)
    job = Job(options.output, settings, detect_with(pipeline), drawn_persons(pipeline),
              MOST_PICTURES if report else 0, options.around)
    parts = job.run(find_pictures(inputs))
    skipped = skipped_of(parts)
    if not options.around.world.first:
        return Outcome("", skipped)
    collected, merged = write_run(options.output, parts, pipeline.recipe, settings)
    lines = [f"{_counts(collected, skipped)}, {many(len(merged.persons), 'person')}; written to {options.output}: "
             "pictures/, poses.json, proposals/, nms/"]
    if report:
        write_report(report, Summary("RMPE: people in pictures", facts_of(pipeline.recipe, detector, pose, collected,
                     merged), len(parts), skipped), shown_of(parts, pipeline.recipe))
        lines.append(f"the page to look at: {report}")
    return Outcome("\n".join(lines), skipped)


# --- what they share, also with rmpe reproduce -------------------------------------------------------------------


def write_run(output: Path, parts: Sequence[Part], how: Recipe,
              settings: Mapping[str, Any]) -> tuple[Collected, NmsResult]:
    """Merge the poses of a whole run and write all its files but the pictures."""
    collected = collect(parts, how)
    merged = merge_all(collected, how)
    write_people(output, collected, merged, how, skipped_of(parts), settings)
    return collected, merged


def skipped_of(parts: Sequence[Part]) -> dict[str, str]:
    """The pictures that could not be read, and why."""
    return {part.name: part.skipped for part in parts if part.found is None}


def shown_of(parts: Sequence[Part], how: Recipe) -> list[Shown]:
    """What the report shows of the parts that were made for it."""
    there = [part for part in parts if part.found is not None and part.extra]
    return [Shown(part.name, part.found, merge(part.found, how), part.found.grown(how), Panels.of_arrays(part.extra))
            for part in there[:MOST_PICTURES]]


def detector_files(given: Files | None) -> tuple[Path, ...]:
    """The detector's prototxt and caffemodel: the shipped ones where none are given."""
    return shipped("detector") if given is None else tuple(map(Path, given))


def pose_files(given: Files | None, de_transform: str | None) -> tuple[tuple[Path, ...], str | None]:
    """The pose network's files, and what de_transform means in them."""
    if given is None:
        return shipped("pose"), de_transform or DE_TRANSFORM
    files = tuple(map(Path, given))
    if len(files) > 2:
        raise RmpeError(f"--pose takes a prototxt and a caffemodel, or one .t7 file, not {len(files)} files; give the "
                        "pictures before it")
    if len(files) == 1 and files[0].suffix.lower() in (".prototxt", ".caffemodel", ".pt"):
        raise RmpeError(f"{files[0]}: a Caffe network is two files; give --pose PROTOTXT CAFFEMODEL")
    return files, de_transform


def settings_of(how: Recipe, **files: Any) -> dict[str, Any]:
    """What the results of a run depend on, but for rounding: by it they are known again."""
    settings: dict[str, Any] = {"program": f"rmpe_legacy {__version__}", "published": how.name,
                                "threshold": how.threshold}
    for name, value in files.items():
        settings[name] = [_digest(path) for path in value] if isinstance(value, tuple) else value
    return settings


def _digest(path: Path) -> str:
    digest = file_digest(path)
    if not digest:
        raise FileError(f"{path}: cannot be read")
    return f"{path.name} sha256 {digest}"


def proposals_in(proposals: str | PathLike, images: str | PathLike) -> tuple[dict[str, Detections], list[Picture]]:
    """The boxes of a proposals folder by picture, and the pictures in a folder of images."""
    found, folder = read_proposals(proposals), Path(images)
    if not folder.is_dir():
        raise FileError(f"{folder}: not a folder; give the one with the pictures that {proposals} lists")
    boxes: dict[str, Detections] = {}
    for name, (first, end) in zip(found.images, found.ranges.tolist(), strict=True):
        rows = Detections(found.boxes_xyxy[first:end].astype(np.int64), found.scores[first:end].astype(np.float32))
        if name in boxes and not np.array_equal(boxes[name].boxes_xyxy, rows.boxes_xyxy):
            raise RmpeError(f"{proposals}: lists {name} twice, with other boxes; list each picture once")
        boxes[name] = rows
    return boxes, [PictureFile(folder / name, name) for name in boxes]


def boxes_digest(proposals: str | PathLike) -> list[str]:
    """What the poses in a proposals folder's boxes depend on."""
    return [_digest(Path(proposals) / name) for name in ("index.txt", "score.txt", "test-bbox.h5")]


def facts_of(how: Recipe, detector: Files, pose: Files, collected: Collected, merged: NmsResult) -> dict[str, str]:
    """The head of the report."""
    dropped = f"; {len(merged.dropped)} dropped for their low score" if len(merged.dropped) else ""
    return {
        "Detector": ", ".join(Path(path).name for path in detector) or "boxes given",
        "Pose network": ", ".join(Path(path).name for path in pose),
        "As published in": f"{how.name}; detections above {how.threshold:g}",
        "Found": f"{many(len(collected.proposals), 'detection')} in {many(len(collected.sizes_wh), 'picture')}, merged "
                 f"into {many(len(merged.persons), 'person')}{dropped}",
        "Made by": f"rmpe_legacy {__version__}",
    }


def _counts(collected: Collected, skipped: Mapping[str, str]) -> str:
    pictures = many(len(collected.sizes_wh), "picture") + (f" ({len(skipped)} skipped)" if skipped else "")
    beyond = f" ({collected.beyond} beyond the borders)" if collected.beyond else ""
    return f"{pictures}, {many(len(collected.proposals), 'detection')}{beyond}"
