"""``rmpe reproduce demo``: the paper's steps on synthetic images of people, whose joints are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.evaluation.groups import Groups
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.runs.batch_run import BatchRun, draw_persons, find_people, pose_in_boxes
from rmpe_legacy.runs.checkpoint import ImageResult
from rmpe_legacy.runs.commands import (
    CommandResult,
    Files,
    Options,
    detector_files,
    engine_settings,
    facts_of,
    pose_files,
    report_images_of,
    settings_of,
    write_run,
)
from rmpe_legacy.runs.report import MAX_REPORT_IMAGES, Summary, write_report
from rmpe_legacy.synthetic.world import OUTSIDE, Picture, draw_picture
from rmpe_legacy.wording import pluralize

from .average_precision import ap_of_persons, ap_of_poses
from .comparison import Measurement, plain
from .describe_network import describe_detector, describe_pose_network
from .tables import MPII_COLUMNS

IMAGES, QUICK_IMAGES = 300, 24
WORLD = 1_000_003  # the seed; training uses small seeds
DISTURBED = 0.25  # maximum shift and change of size of a disturbed box, relative to its sides
TABLE, PAGE = "table.txt", "report.html"


@dataclass(frozen=True)
class DrawnImage:
    """A synthetic image, used in place of a file."""

    world: int
    index: int

    @property
    def name(self) -> str:
        return f"drawn_{self.world}_{self.index:04d}"

    @cached_property
    def drawing(self) -> Picture:
        return draw_picture(self.world, self.index)

    def load(self) -> np.ndarray:
        return np.divide(self.drawing.image, np.float32(255), dtype=np.float32)

    def digest(self) -> str:
        return self.name


def reproduce_demo(detector: Files | None, pose: Files | None, options: Options, images: int | None = None,
                   world: int = WORLD, quick: bool = False) -> CommandResult:
    """Draw people, find them and evaluate: with detected, disturbed and true boxes, without the pose NMS or the STN.

    quick: QUICK_IMAGES instead of IMAGES, and detected boxes only; takes seconds instead of minutes.
    Every process draws the ground truth of all images (milliseconds each) and runs the networks on its share of them.
    """
    images = (QUICK_IMAGES if quick else IMAGES) if images is None else images
    if images < 1:
        raise RmpeError(f"images {images} is less than 1")
    if world < 0:
        raise RmpeError(f"world {world} is less than 0; it is the seed of the synthetic images")
    device, recipe = options.start(), options.recipe
    detector, (pose, de_transform) = detector_files(detector), pose_files(pose, options.de_transform)
    python = options.allow_python
    finder = options.load_detector(detector, device)
    trained = load_pose_network(*pose, device=device, de_transform=de_transform, allow_python=python,
                                engine=options.engine)
    drawn = [DrawnImage(world, index) for index in range(images)]
    settings = settings_of(recipe, detector=detector, pose=pose, de_transform=de_transform, **finder.settings,
                           **engine_settings(detector=finder, pose=trained))
    bench = _Bench(options, drawn, settings)

    results = bench.measure("detected boxes", Pipeline(finder, trained, recipe, options.batch), None, MAX_REPORT_IMAGES)
    if not quick:
        identity = load_pose_network(*pose, device=device, de_transform=de_transform, stn="identity",
                                     allow_python=python)
        found = {result.name: result.people for result in results if result.people is not None}
        boxes = {name: people.proposals for name, people in found.items()}
        moved = disturbed(boxes, {name: people.size_wh for name, people in found.items()}, world)
        true = {each.name: _true_boxes(each.drawing) for each in drawn}
        for name, network, given in (("detected boxes, STN off", identity, boxes), ("disturbed boxes", trained, moved),
                                     ("disturbed boxes, STN off", identity, moved), ("true boxes", trained, true)):
            bench.measure(name, Pipeline(None, network, recipe, options.batch), given)
    if not options.context.world.first:
        return CommandResult("", {})
    return _finish(bench, results, recipe, (detector, pose), [
        f"detector: {describe_detector(finder)}", f"pose network: {describe_pose_network(trained)}",
        f"as published in: {recipe.name}, detections above {recipe.threshold:g}",
        f"{pluralize(images, 'synthetic image')} (world {world}) with {sum(len(each.drawing) for each in drawn)} "
        "people"])


class _Bench:
    """The images and their ground truth, and one run per row."""

    def __init__(self, options: Options, drawn: Sequence[DrawnImage], settings: Mapping[str, Any]):
        self.options, self.drawn, self.settings = options, drawn, settings
        self.truth = truth_of(drawn)
        self.rows: dict[str, Measurement] = {}
        self.results: dict[str, tuple] = {}

    def measure(self, name: str, pipeline: Pipeline, boxes: Mapping[str, Detections] | None,
                shown: int = 0) -> list[ImageResult]:
        """Run all images, evaluate the result, and add the row."""
        output = self.options.output / name.replace(",", "").replace(" ", "_")
        settings = {**self.settings, "boxes": name.partition(",")[0], "stn": pipeline.pose.stn}
        process = find_people(pipeline) if boxes is None else pose_in_boxes(pipeline, boxes)
        run = BatchRun(output, settings, process, draw_persons if shown else None, shown, self.options.context)
        results = run.run(self.drawn)
        self.rows[name] = Measurement({})
        if self.options.context.world.first:
            recipe = pipeline.recipe
            batch, nms = write_run(output, results, recipe, settings)
            self.results[name] = batch, nms
            self.rows[name] = Measurement(ap_of_persons(batch, nms, recipe, self.truth).table)
            if boxes is None:
                self.rows[f"{name}, without pose NMS"] = Measurement(ap_of_poses(batch, self.truth).table)
        return results


def _finish(bench: _Bench, results: Sequence[ImageResult], recipe: Recipe,
            files: tuple[Files, Files], lines: list[str]) -> CommandResult:
    """Write the table and the report."""
    output, (batch, nms) = bench.options.output, bench.results["detected boxes"]
    facts = facts_of(recipe, *files, batch, nms)
    table = f"MPII multi-person AP against the known joints, per cent:\n{plain(bench.rows, MPII_COLUMNS)}"
    write_report(output / PAGE, Summary("RMPE on synthetic people", facts, len(results), {}, table),
                 report_images_of(results, recipe))
    text = "\n".join([*lines, "", table])
    write_together(output, {TABLE: (text + "\n").encode()})
    return CommandResult(f"{text}\n\nwritten to {output}: {TABLE}, {PAGE}, and a folder for each row", {})


def truth_of(drawn: Sequence[DrawnImage]) -> Groups:
    """Return the ground truth: each image is a group; joints outside it are not annotated, occluded ones are."""
    drawings = [each.drawing for each in drawn]
    joints = tuple(np.where((d.visible != OUTSIDE)[..., None], d.joints_xy, np.nan) for d in drawings)
    unknown = tuple(np.full(len(d), np.nan) for d in drawings)
    return Groups(tuple(each.name for each in drawn), joints, tuple(d.head_sizes for d in drawings),
                  tuple(np.stack([u, u], axis=1) for u in unknown), unknown)


def _true_boxes(drawing: Picture) -> Detections:
    return Detections(np.rint(drawing.boxes_xyxy).astype(np.int64), np.ones(len(drawing), np.float32))


def disturbed(boxes: Mapping[str, Detections], sizes_wh: Mapping[str, tuple[int, int]],
              seed: int) -> dict[str, Detections]:
    """Shift boxes along each axis by up to DISTURBED of their side, and scale them by up to 1 +- DISTURBED."""
    rng = np.random.default_rng([seed, 1])
    out = {}
    for name, given in boxes.items():
        low, high = given.boxes_xyxy[:, :2], given.boxes_xyxy[:, 2:]
        random = rng.uniform(-DISTURBED, DISTURBED, (len(given), 3))
        middle = (low + high) / 2 + random[:, :2] * (high - low)
        half = (high - low) / 2 * (1 + random[:, 2:])
        moved = np.rint(np.concatenate([middle - half, middle + half], axis=1))
        limits = np.tile(sizes_wh[name], 2)
        out[name] = replace(given, boxes_xyxy=np.clip(moved, 0, limits).astype(np.int64))
    return out
