"""``rmpe detect``, ``rmpe pose`` and ``rmpe demo``: from images to files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmpe_legacy import __version__
from rmpe_legacy.caffe.inputs import usable_device
from rmpe_legacy.errors import FileError, OptionError, RmpeError
from rmpe_legacy.files import is_same_file
from rmpe_legacy.pose.demo_models import DE_TRANSFORM, DEMO_NOTE, demo_model
from rmpe_legacy.pose.detect import Detector, load_detector
from rmpe_legacy.pose.detector_options import DetectorOptions
from rmpe_legacy.pose.estimate import BATCH, PoseNetwork, load_pose_network
from rmpe_legacy.pose.formats import OURS, check_formats, write_formats
from rmpe_legacy.pose.joints import JointSet
from rmpe_legacy.pose.networks import PerThread
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.onnx_network import InputOptions
from rmpe_legacy.pose.people import People
from rmpe_legacy.pose.pipeline import Pipeline, PoseResult, inside
from rmpe_legacy.pose.published import Recipe, get_recipe
from rmpe_legacy.pose.results import JOINTS, Detections, Poses
from rmpe_legacy.reading import first_bytes
from rmpe_legacy.wording import pluralize

from .batch_run import (
    DRAWN,
    BatchRun,
    Process,
    RunContext,
    draw_detections,
    draw_persons,
    find_people,
    pose_in_boxes,
)
from .boxes import read_boxes
from .checkpoint import ImageResult
from .inputs import ImageFile, ImageSource, file_digest, find_images, refuse_pipe
from .outputs import PEOPLE, BatchResult, collect, collect_nms, people_of, write_detections, write_people
from .report import MAX_REPORT_IMAGES, ReportImage, Summary, check_page, write_report
from .report_images import Panels
from .result_files import read_proposals, write_proposals
from .videos import FOLDER as VIDEOS
from .videos import write_videos

MAX_THREADS = max(64, os.cpu_count() or 1)  # a few more than there are CPUs do no harm; thousands kill the process
MAX_WORKERS = 4  # that a run starts unless asked for more: each needs memory for the blobs of its networks
Files = Sequence[str | PathLike]  # prototxt and caffemodel, or one .t7


@dataclass(frozen=True)
class Options:
    """The options that the commands share."""

    output: Path
    published: str = "demo"
    threshold: float | None = None  # None: the default of ``published``
    device: str = "cpu"
    batch: int = BATCH
    threads: int | None = None  # CPU threads; None: torch's default
    de_transform: str | None = None
    context: RunContext = field(default_factory=RunContext)
    allow_python: bool = False  # as for ``load_net``
    formats: tuple[str, ...] = (OURS,)  # of pose.formats.FORMATS
    joints: JointSet | None = None  # of an .onnx pose network
    onnx_input: InputOptions | None = None
    recursive: bool = False  # search subfolders for images
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    engine: str = "exact"  # what runs the networks, see ``Net.compiled``
    pictures: bool = True  # write annotated images and videos
    workers: int | None = 1  # images to process at once, on the CPU; None: one per thread, up to MAX_WORKERS

    @property
    def recipe(self) -> Recipe:
        return get_recipe(self.published, self.threshold)

    def load_pose(self, files: Files, de_transform: str | None, device: torch.device) -> PoseNetwork:
        """Load the pose network, and check that the formats can hold its joints."""
        network = load_pose_network(*map(Path, files), device=device, de_transform=de_transform,
                                    allow_python=self.allow_python, joints=self.joints, onnx_input=self.onnx_input,
                                    engine=self.engine)
        check_formats(self.formats, network.joints)
        return network

    def load_detector(self, files: Files, device: torch.device) -> Detector:
        """Load the detector; log it unless it is RMPE's without options."""
        prototxt, weights = map(Path, files)
        detector = load_detector(prototxt, weights, device=device, allow_python=self.allow_python,
                                 options=self.detector, engine=self.engine)
        if detector.settings:
            self.context.log(f"detector: {detector}")
        return detector

    def start(self) -> torch.device:
        """Configure torch and return the device. With several processes each one uses its own GPU.

        Raises:
            OptionError: An option is out of range, or the device cannot be used.
        """
        if self.batch < 1:
            raise OptionError(f"batch {self.batch} is less than 1")
        if self.threads is not None:
            if not 1 <= self.threads <= MAX_THREADS:
                raise OptionError(f"threads {self.threads} is not from 1 to {MAX_THREADS}")
            torch.set_num_threads(self.threads)
        return usable_device(self.context.world.device(self.device))

    def divide_threads(self, images: int, device: torch.device) -> int:
        """Return how many images to process at once, and divide torch's threads among them.

        Images that are processed at once, in one thread each, keep CPUs busier than several threads that share the work
        of each layer, and do not wait for each other on a busy machine.

        Raises:
            OptionError: ``workers`` is out of range, or networks run on a GPU, which one image at a time keeps busy.
        """
        threads, workers = torch.get_num_threads(), self.workers
        if workers is None:
            alone = device.type != "cpu" or self.allow_python  # a user's own code may not be for several threads
            workers = 1 if alone else min(threads, MAX_WORKERS, max(1, images // 2))
        if not 1 <= workers <= MAX_THREADS:
            raise OptionError(f"workers {workers} is not from 1 to {MAX_THREADS}")
        if workers > 1 and device.type != "cpu":
            raise OptionError(f"workers {workers}: on {device}, images are processed one at a time; use --workers 1")
        torch.set_num_threads(max(1, threads // workers))
        return workers


@dataclass(frozen=True)
class CommandResult:
    """A command's output, and the images that it skipped."""

    text: str
    skipped: Mapping[str, str]  # name -> why the image could not be read


def run_detect(inputs: Files, detector: Files | None, options: Options) -> CommandResult:
    """Find people in images; write a proposals folder, detections.json and images with boxes."""
    sources = find_images(inputs, options.recursive)
    device, files, recipe = options.start(), detector_files(detector), options.recipe
    workers = options.divide_threads(len(sources), device)
    network = options.load_detector(files, device)
    settings = settings_of(recipe, detector=files, **network.settings, **engine_settings(detector=network))
    run = BatchRun(options.output, settings, detect_only(network, recipe, workers),
                   draw_detections if options.pictures else None, context=options.context, workers=workers)
    results = run.run(sources)
    skipped = skipped_of(results)
    if not options.context.world.first:
        return CommandResult("", skipped)
    batch = collect(results, recipe)
    write_detections(options.output, batch, skipped, settings)
    return CommandResult(f"{_counts(batch, skipped)}; written to {options.output}: index.txt, score.txt, test-bbox.h5, "
                         f"test-bbox.txt, detections.json{f', {DRAWN}/' if options.pictures else ''}", skipped)


NO_POSES = Poses(np.empty((0, len(JOINTS), 2)), np.empty((0, len(JOINTS)), np.float32))


def detect_only(detector: Detector, recipe: Recipe, workers: int = 1) -> Process:
    """``BatchRun.process`` for a detector alone."""
    own = PerThread(detector, workers)

    def process(source: ImageSource, image: np.ndarray, keep_crops: bool) -> PoseResult:
        size_wh, boxes = (image.shape[1], image.shape[0]), own.mine(image, recipe.threshold, recipe.rounding)
        kept = inside(boxes, size_wh, recipe)
        return PoseResult(size_wh, kept, NO_POSES, len(boxes) - len(kept))

    return process


def run_pose(proposals: str | PathLike, images: str | PathLike, pose: Files | None, options: Options) -> CommandResult:
    """Estimate a pose in each box of a proposals folder or a detections file; write a folder with testres.h5."""
    device, recipe = options.start(), options.recipe
    if is_same_file(options.output, proposals):
        raise RmpeError(f"{options.output}: the results would replace the proposals; choose another output folder")
    boxes, sources = boxes_and_images(proposals, images, options)
    workers = options.divide_threads(len(sources), device)
    files, de_transform = pose_files(pose, options.de_transform)
    pipeline = Pipeline(None, options.load_pose(files, de_transform, device), recipe, options.batch)
    settings = settings_of(recipe, pose=files, de_transform=de_transform, boxes=boxes_digest(proposals),
                           **onnx_settings(pipeline.pose), **engine_settings(pose=pipeline.pose))
    own = PerThread(pipeline, workers)
    run = BatchRun(options.output, settings, context=options.context, workers=workers,
                   process=lambda source, image, keep_crops: own.mine.estimate(image, boxes[source.name], keep_crops))
    results = run.run(sources)
    skipped = skipped_of(results)
    if not options.context.world.first:
        return CommandResult("", skipped)
    batch = collect(results, recipe)
    write_proposals(options.output, batch.proposals, batch.poses)
    further = write_formats(options.output, options.formats, people_of(batch, None, recipe))
    return CommandResult(f"{_counts(batch, skipped)}; written to {options.output}: testres.h5, and its index.txt, "
                         f"score.txt, test-bbox.h5, test-bbox.txt{''.join(f', {name}' for name in further)}", skipped)


def run_demo(inputs: Files, detector: Files | None, pose: Files | None, options: Options,
             report: Path | None = None, boxes: str | PathLike | None = None) -> CommandResult:
    """Run the whole of RMPE on images; write annotated images and videos, poses in the requested formats, the authors'
    files and an HTML report.

    Args:
        inputs: The images; see ``inputs.find_images``.
        detector: The detector's files; None for the demo network.
        pose: The pose network's files; None for the demo network.
        options: The common options.
        report: Where to write the HTML report.
        boxes: Detections of another detector; see ``boxes.read_boxes``.

    Raises:
        OptionError: Both a detector and boxes are given.
        RmpeError: A file cannot be read or written.
    """
    check_page(report)
    if boxes is not None and detector is not None:
        raise OptionError("give a detector (--detector) or its boxes (--boxes), not both")
    sources = find_images(inputs, options.recursive)
    device, demo_networks = options.start(), demo_networks_of(detector, pose, boxes)
    workers = options.divide_threads(len(sources), device)
    detector = () if boxes is not None else detector_files(detector)
    pose, de_transform = pose_files(pose, options.de_transform)
    network = options.load_detector(detector, device) if detector else None
    pipeline = Pipeline(network, options.load_pose(pose, de_transform, device), options.recipe, options.batch)
    settings = settings_of(options.recipe, detector=detector if boxes is None else boxes_digest(boxes), pose=pose,
                           de_transform=de_transform, **onnx_settings(pipeline.pose),
                           **(network.settings if network else {}),
                           **engine_settings(detector=network, pose=pipeline.pose))
    process = find_people(pipeline, workers) if boxes is None else pose_in_boxes(
        pipeline, read_boxes(boxes, [source.name for source in sources], options.threshold), workers)
    run = BatchRun(options.output, settings, process, draw_persons if options.pictures else None,
                   MAX_REPORT_IMAGES if report else 0, options.context, workers)
    results = run.run(sources)
    skipped = skipped_of(results)
    if not options.context.world.first:
        return CommandResult("", skipped)
    note = DEMO_NOTE if demo_networks else ""
    batch, nms = write_run(options.output, results, pipeline.recipe, {**settings, **({"note": note} if note else {})})
    files = _write_people(options, sources, people_of(batch, nms, pipeline.recipe))
    lines = [f"{_counts(batch, skipped)}, {pluralize(len(nms.persons), 'person')}; written to {options.output}: "
             f"{', '.join(files)}"]
    if note:
        options.context.log(f"note: {note}")
    if report:
        facts = facts_of(pipeline.recipe, detector, pose, batch, nms)
        facts |= engine_facts(settings) | ({"Note": note} if note else {})
        write_report(report, Summary("RMPE: people in images", facts, len(results), skipped),
                     report_images_of(results, pipeline.recipe))
        lines.append(f"report: {report}")
    return CommandResult("\n".join(lines), skipped)


def _write_people(options: Options, sources: Sequence[ImageSource], people: Sequence[People]) -> list[str]:
    """Write the people in the requested formats, and the videos; returns what the output folder contains."""
    written = [PEOPLE, *write_formats(options.output, options.formats, people), "proposals/", "nms/"]
    if not options.pictures:
        return written
    videos = write_videos(options.output, sources, options.output / DRAWN)
    return [f"{DRAWN}/", *([f"{VIDEOS}/"] if videos else []), *written]


def demo_networks_of(detector: Files | None, pose: Files | None, boxes: str | PathLike | None = None) -> bool:
    """Whether a demo network, which only knows drawn people, replaces one that was not given."""
    return pose is None or (detector is None and boxes is None)


def onnx_settings(network: PoseNetwork) -> dict[str, Any]:
    """Return the settings of an .onnx network that determine a run's results."""
    options = getattr(network, "options", None)
    return {} if options is None else {"joints": network.joints.name, "input": asdict(options)}


def engine_settings(**networks: Detector | PoseNetwork | None) -> dict[str, Any]:
    """Return which engine runs each network, if one is not the exact network: {"engine": {"pose": "torch"}}."""
    engines = {name: network.engine for name, network in networks.items() if network is not None}
    return {"engine": engines} if set(engines.values()) - {"exact"} else {}


def engine_facts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the line about the engines for a report's table."""
    engines = settings.get("engine", {})
    return {"Engines": ", ".join(f"{name}: {engine}" for name, engine in engines.items())} if engines else {}


# --- shared, also with rmpe reproduce ----------------------------------------------------------------------------


def write_run(output: Path, results: Sequence[ImageResult], recipe: Recipe,
              settings: Mapping[str, Any]) -> tuple[BatchResult, NmsResult]:
    """Concatenate the results of a run and write all its files except the annotated images."""
    batch, nms = collect(results, recipe), collect_nms(results)
    write_people(output, batch, nms, recipe, skipped_of(results), settings)
    return batch, nms


def skipped_of(results: Sequence[ImageResult]) -> dict[str, str]:
    """Return the images that could not be read: name -> reason."""
    return {result.name: result.skipped for result in results if result.people is None}


def report_images_of(results: Sequence[ImageResult], recipe: Recipe) -> list[ReportImage]:
    """Return what the report shows, for the images that were processed for it."""
    shown = [(result, result.people) for result in results if result.people is not None and result.extra]
    return [ReportImage(result.name, people, people.grown(recipe), Panels.of_arrays(result.extra))
            for result, people in shown[:MAX_REPORT_IMAGES]]


def detector_files(given: Files | None) -> tuple[Path, ...]:
    """Return the detector's prototxt and caffemodel; the package's demo detector if none are given."""
    return demo_model("detector") if given is None else tuple(map(Path, given))


def pose_files(given: Files | None, de_transform: str | None) -> tuple[tuple[Path, ...], str | None]:
    """Return the pose network's files and its de_transform mode; the package's demo network if none are given.

    Raises:
        OptionError: The number of files does not fit their type.
    """
    if given is None:
        return demo_model("pose"), de_transform or DE_TRANSFORM
    files = tuple(map(Path, given))
    if len(files) > 2:
        raise OptionError(f"--pose takes a prototxt and a caffemodel, or one .t7 or .onnx file, not {len(files)}; "
                          "put the images before it")
    if len(files) == 1 and files[0].suffix.lower() in (".prototxt", ".caffemodel", ".pt"):
        raise OptionError(f"{files[0]}: a Caffe network is two files; give --pose PROTOTXT CAFFEMODEL")
    return files, de_transform


def settings_of(recipe: Recipe, **files: Any) -> dict[str, Any]:
    """Return the settings that determine a run's results; stored with them so a resumed run can check that they match.

    Settings that only affect rounding (device, threads, batch) are left out.
    """
    settings: dict[str, Any] = {"program": f"rmpe_legacy {__version__}", "published": recipe.name,
                                "threshold": recipe.threshold}
    for name, value in files.items():
        settings[name] = [digest_of(path) for path in value] if isinstance(value, tuple) else value
    return settings


def digest_of(path: Path) -> str:
    digest = file_digest(path)
    if not digest:
        refuse_pipe(path)
        first_bytes(path)  # which says why
        raise FileError(f"{path}: cannot be read")
    return f"{path.name} sha256 {digest}"


def proposals_in(proposals: str | PathLike, images: str | PathLike) -> tuple[dict[str, Detections], list[ImageSource]]:
    """Return the boxes of a proposals folder by image name, and the images in the folder `images`.

    Raises:
        FileError: A folder is missing.
        RmpeError: An image is listed twice with different boxes.
    """
    known, folder = read_proposals(proposals), Path(images)
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: not a folder; give the folder with the images that {proposals} lists")
    boxes: dict[str, Detections] = {}
    for name, (first, end) in zip(known.images, known.ranges.tolist(), strict=True):
        rows = Detections(known.boxes_xyxy[first:end].astype(np.int64), known.scores[first:end].astype(np.float32))
        if name in boxes and not np.array_equal(boxes[name].boxes_xyxy, rows.boxes_xyxy):
            raise RmpeError(f"{proposals}: lists {name} twice with different boxes; list each image once")
        boxes[name] = rows
    return boxes, [ImageFile(folder / name, name) for name in boxes]


def boxes_and_images(boxes: str | PathLike, images: str | PathLike,
                     options: Options) -> tuple[dict[str, Detections], list[ImageSource]]:
    """Return the boxes of a proposals folder or detections file by image name, and their images in a folder."""
    if os.path.isdir(boxes) or not os.path.exists(boxes):
        return proposals_in(boxes, images)
    sources = find_images([images], options.recursive)
    return read_boxes(boxes, [source.name for source in sources], options.threshold), sources


def boxes_digest(proposals: str | PathLike) -> list[str]:
    """Return the digests of a proposals folder's files, or of a detections file."""
    if os.path.isdir(proposals):
        return [digest_of(Path(proposals) / name) for name in ("index.txt", "score.txt", "test-bbox.h5")]
    return [digest_of(Path(proposals))]


def facts_of(recipe: Recipe, detector: Files, pose: Files, batch: BatchResult, nms: NmsResult) -> dict[str, str]:
    """Return the table at the top of the report."""
    dropped = f"; {len(nms.dropped)} dropped for their low score" if len(nms.dropped) else ""
    return {
        "Detector": ", ".join(Path(path).name for path in detector) or "boxes given",
        "Pose network": ", ".join(Path(path).name for path in pose),
        "As published in": f"{recipe.name}; detections above {recipe.threshold:g}",
        "Found": f"{pluralize(len(batch.proposals), 'detection')} in {pluralize(len(batch.sizes_wh), 'image')}, merged "
                 f"into {pluralize(len(nms.persons), 'person')}{dropped}",
        "Made by": f"rmpe_legacy {__version__}",
    }


def _counts(batch: BatchResult, skipped: Mapping[str, str]) -> str:
    images = pluralize(len(batch.sizes_wh), "image") + (f" ({len(skipped)} skipped)" if skipped else "")
    beyond = f" ({batch.beyond} outside the image)" if batch.beyond else ""
    return f"{images}, {pluralize(len(batch.proposals), 'detection')}{beyond}"
