"""``rmpe reproduce demo``: the paper's steps on people drawn for the occasion, whose joints are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.evaluation.groups import Groups
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.runs.batch_run import Job, detect_with, drawn_persons, pose_with
from rmpe_legacy.runs.checkpoint import Part
from rmpe_legacy.runs.commands import (
    Files,
    Options,
    Outcome,
    detector_files,
    facts_of,
    pose_files,
    settings_of,
    shown_of,
    write_run,
)
from rmpe_legacy.runs.report import MOST_PICTURES, Summary, write_report
from rmpe_legacy.synthetic.world import OUTSIDE, draw_picture
from rmpe_legacy.synthetic.world import Picture as Drawing
from rmpe_legacy.wording import many

from .average_precision import ap_of_persons, ap_of_poses
from .comparison import Measured, plain
from .describe_network import identify_detector, identify_pose
from .tables import MPII_COLUMNS

PICTURES, FEW, WORLD = 300, 24, 1_000_003  # how many, and of which seed: training draws from worlds of small numbers
DISTURBED = 0.25  # of a box's sides: how far it is moved at most, and how much its size is changed
TABLE, PAGE = "table.txt", "report.html"


@dataclass(frozen=True)
class DrawnPicture:
    """A picture of the drawn world, in place of a file."""

    world: int
    index: int

    @property
    def name(self) -> str:
        return f"drawn_{self.world}_{self.index:04d}"

    @cached_property
    def drawing(self) -> Drawing:
        return draw_picture(self.world, self.index)

    def load(self) -> np.ndarray:
        return np.divide(self.drawing.image, np.float32(255), dtype=np.float32)

    def digest(self) -> str:
        return self.name


def reproduce_demo(detector: Files | None, pose: Files | None, options: Options, pictures: int | None = None,
                   world: int = WORLD, quick: bool = False) -> Outcome:
    """Draw people, find them, and judge: as they are found, without the pose NMS, without the STN, by other boxes.

    quick: FEW pictures in place of PICTURES, and only as they are found: seconds, not minutes.
    Every process of a run draws all the truth, which takes milliseconds a picture, and its share of the pictures runs
    through the networks.
    """
    pictures = (FEW if quick else PICTURES) if pictures is None else pictures
    if pictures < 1:
        raise RmpeError(f"pictures {pictures} is less than 1")
    if world < 0:
        raise RmpeError(f"world {world} is less than 0; it is the seed of the drawings")
    device, how = options.start(), options.recipe
    detector, (pose, de_transform) = detector_files(detector), pose_files(pose, options.de_transform)
    python = options.allow_python
    finder = load_detector(*detector, device=device, allow_python=python)
    trained = load_pose_network(*pose, device=device, de_transform=de_transform, allow_python=python)
    drawn = [DrawnPicture(world, index) for index in range(pictures)]
    settings = settings_of(how, detector=detector, pose=pose, de_transform=de_transform)
    bench = _Bench(options, drawn, settings)

    found = bench.measure("detected boxes", Pipeline(finder, trained, how, options.batch), None, MOST_PICTURES)
    if not quick:
        identity = load_pose_network(*pose, device=device, de_transform=de_transform, stn="identity",
                                     allow_python=python)
        boxes = {part.name: part.found.proposals for part in found}
        moved = disturbed(boxes, {part.name: part.found.size_wh for part in found}, world)
        true = {each.name: _true_boxes(each.drawing) for each in drawn}
        for name, network, given in (("detected boxes, STN off", identity, boxes), ("disturbed boxes", trained, moved),
                                     ("disturbed boxes, STN off", identity, moved), ("true boxes", trained, true)):
            bench.measure(name, Pipeline(None, network, how, options.batch), given)
    if not options.around.world.first:
        return Outcome("", {})
    return _finish(bench, found, how, (detector, pose), [
        f"detector: {identify_detector(finder)}", f"pose network: {identify_pose(trained)}",
        f"as published in: {how.name}, detections above {how.threshold:g}",
        f"{many(pictures, 'drawn picture')} of world {world}, {sum(len(each.drawing) for each in drawn)} people"])


class _Bench:
    """The pictures and their truth; a run of them for each row."""

    def __init__(self, options: Options, drawn: Sequence[DrawnPicture], settings: Mapping[str, Any]):
        self.options, self.drawn, self.settings = options, drawn, settings
        self.truth = truth_of(drawn)
        self.rows: dict[str, Measured] = {}
        self.results: dict[str, tuple] = {}

    def measure(self, name: str, pipeline: Pipeline, boxes: Mapping[str, Detections] | None,
                shown: int = 0) -> list[Part]:
        """Run all pictures, judge what was found, and keep the row."""
        output = self.options.output / name.replace(",", "").replace(" ", "_")
        settings = {**self.settings, "boxes": name.partition(",")[0], "stn": pipeline.pose.stn}
        find = detect_with(pipeline) if boxes is None else pose_with(pipeline, boxes)
        job = Job(output, settings, find, drawn_persons(pipeline) if shown else None, shown, self.options.around)
        parts = job.run(self.drawn)
        self.rows[name] = Measured({})
        if self.options.around.world.first:
            how = pipeline.recipe
            collected, merged = write_run(output, parts, how, settings)
            self.results[name] = collected, merged
            self.rows[name] = Measured(ap_of_persons(collected, merged, how, self.truth).table)
            if boxes is None:
                self.rows[f"{name}, without pose NMS"] = Measured(ap_of_poses(collected, self.truth).table)
        return parts


def _finish(bench: _Bench, found: Sequence[Part], how, files: tuple[Files, Files], lines: list[str]) -> Outcome:
    """Write the table and the page."""
    output, (collected, merged) = bench.options.output, bench.results["detected boxes"]
    facts = facts_of(how, *files, collected, merged)
    table = f"MPII multi-person AP against the known truth, per cent:\n{plain(bench.rows, MPII_COLUMNS)}"
    write_report(output / PAGE, Summary("RMPE on drawn people", facts, len(found), {}, table), shown_of(found, how))
    text = "\n".join([*lines, "", table])
    write_together(output, {TABLE: (text + "\n").encode()})
    return Outcome(f"{text}\n\nwritten to {output}: {TABLE}, {PAGE}, a folder for each row", {})


def truth_of(drawn: Sequence[DrawnPicture]) -> Groups:
    """Every picture is a group; joints beyond its borders are not annotated, hidden ones are."""
    drawings = [each.drawing for each in drawn]
    joints = tuple(np.where((d.visible != OUTSIDE)[..., None], d.joints_xy, np.nan) for d in drawings)
    unknown = tuple(np.full(len(d), np.nan) for d in drawings)
    return Groups(tuple(each.name for each in drawn), joints, tuple(d.head_sizes for d in drawings),
                  tuple(np.stack([u, u], axis=1) for u in unknown), unknown)


def _true_boxes(drawing: Drawing) -> Detections:
    return Detections(np.rint(drawing.boxes_xyxy).astype(np.int64), np.ones(len(drawing), np.float32))


def disturbed(boxes: Mapping[str, Detections], sizes_wh: Mapping[str, tuple[int, int]],
              seed: int) -> dict[str, Detections]:
    """Boxes moved along each axis by up to DISTURBED of their side, and made larger or smaller by as much."""
    rng = np.random.default_rng([seed, 1])
    out = {}
    for name, given in boxes.items():
        low, high = given.boxes_xyxy[:, :2], given.boxes_xyxy[:, 2:]
        lots = rng.uniform(-DISTURBED, DISTURBED, (len(given), 3))
        middle = (low + high) / 2 + lots[:, :2] * (high - low)
        half = (high - low) / 2 * (1 + lots[:, 2:])
        moved = np.rint(np.concatenate([middle - half, middle + half], axis=1))
        limits = np.tile(sizes_wh[name], 2)
        out[name] = replace(given, boxes_xyxy=np.clip(moved, 0, limits).astype(np.int64))
    return out
