"""``rmpe reproduce mpii``: run the paper's recipe on the available weights and data, and fill its tables."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, OptionError, RmpeError
from rmpe_legacy.evaluation.files import read_groups
from rmpe_legacy.evaluation.groups import Groups
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.nms import pose_nms
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.runs.batch_run import BatchRun, draw_persons, find_people, pose_in_boxes
from rmpe_legacy.runs.checkpoint import ImageResult
from rmpe_legacy.runs.commands import (
    CommandResult,
    Files,
    Options,
    boxes_digest,
    detector_files,
    engine_facts,
    engine_settings,
    facts_of,
    pose_files,
    proposals_in,
    report_images_of,
    settings_of,
    skipped_of,
    write_run,
)
from rmpe_legacy.runs.inputs import ImageFile, ImageSource, file_digest, find_images
from rmpe_legacy.runs.outputs import BatchResult
from rmpe_legacy.runs.report import MAX_REPORT_IMAGES, Summary, check_page, write_report
from rmpe_legacy.wording import pluralize

from .average_precision import ap_of_persons, ap_of_poses, base_name, groups_of_images
from .comparison import Measurement, compare, compare_text, unmeasurable
from .describe_network import describe_detector, describe_pose_network
from .tables import README_MPII, TABLE_1, TABLE_3, Row

MEASURED = "measured.json"
FULL, WITHOUT_NMS, TWO_STEP, ORACLE = ("full", "without pose NMS", "two-step, without any of the three", "oracle boxes")
RUNS = tuple(row.method for row in TABLE_3.rows if row.ours and row.method not in (WITHOUT_NMS, ORACLE))
VALIDATION_IMAGES = 1300  # the authors' validation set, Table 3


@dataclass(frozen=True)
class MpiiFiles:
    """The files given by the user."""

    images: Path  # the folder of images
    pose: Files
    detector: Files | None = None
    proposals: Path | None = None  # a proposals folder, instead of a detector
    truth: Path | None = None
    groups: Path | None = None  # see evaluation.files.read_groups
    split: str = "train"
    row: str = FULL  # the row of Table 3 that the pose network was trained for


@dataclass(frozen=True, eq=False)
class _Run:
    """One pass over the images."""

    results: list[ImageResult]
    batch: Any  # a BatchResult in the first process, which alone uses it; None in the others
    nms: Any  # likewise an NmsResult


def reproduce_mpii(given: MpiiFiles, options: Options, report: Path | None = None) -> CommandResult:
    """Detect, estimate, merge, evaluate, and compare with Table 3, including rows measured earlier in this folder."""
    check_page(report)
    device = options.start()
    _check(given)
    files, de_transform = pose_files(given.pose, options.de_transform)
    python = options.allow_python
    network = load_pose_network(*files, device=device, de_transform=de_transform, allow_python=python,
                                engine=options.engine)
    detector = None if given.proposals else options.load_detector(detector_files(given.detector), device)
    pipeline = Pipeline(detector, network, options.recipe, options.batch)
    truth = read_groups(given.truth, given.groups, given.split) if given.truth else None
    lines = [f"detector: {describe_detector(detector) if detector else f'none, boxes from {given.proposals}'}",
             f"pose network: {describe_pose_network(network)}",
             f"as published in: {options.recipe.name}, detections above {options.recipe.threshold:g}"]
    engines = engine_settings(detector=detector, pose=network)
    lines += [f"{what.lower()}: {text}" for what, text in engine_facts(engines).items()]

    settings = settings_of(options.recipe, pose=files, de_transform=de_transform, detector=boxes_digest(given.proposals)
                           if given.proposals else detector_files(given.detector),
                           **(detector.settings if detector else {}), **engines)
    boxes, sources = _images(given, truth)
    sources, absent = _present(sources, given.images)
    run = _pass(options, given.row, pipeline, sources, settings, boxes, MAX_REPORT_IMAGES if report else 0)
    oracle = _oracle(given, options, pipeline, sources, settings)
    skipped = skipped_of(run.results)
    if not options.context.world.first:
        return CommandResult("", skipped)
    rows = _evaluate(given, truth, run, oracle, options) if truth else {}
    known = _with_earlier_rows(options.output, given, rows)
    tables = _tables(known, given)
    if report:
        facts = facts_of(options.recipe, detector_files(given.detector) if detector else (), files, run.batch,
                         run.nms) | engine_facts(engines)
        write_report(report, Summary("RMPE on MPII", facts, len(run.results), skipped, tables),
                     report_images_of(run.results, options.recipe))
    lines += [_counts(run, absent), "", tables, "", compare_text(_text_numbers(run, known, options.recipe))]
    return CommandResult("\n".join(lines), skipped)


def _check(given: MpiiFiles) -> None:
    if given.row not in RUNS:
        raise OptionError(f"row {given.row!r} is not one of {', '.join(map(repr, RUNS))}")
    if not os.path.isdir(given.images):
        raise FileError(f"{given.images}: not a folder; give the one with MPII's images")
    if given.proposals and given.detector:
        raise OptionError("give a detector or its boxes (--proposals), not both")
    if not given.proposals and not given.detector:
        raise RmpeError("give the detector's files (--detector PROTOTXT CAFFEMODEL) or its boxes (--proposals)")


def _images(given: MpiiFiles, truth: Groups | None) -> tuple[dict[str, Detections] | None, list[ImageSource]]:
    """Return the boxes, if given, and the images: those of the ground truth, else of the boxes, else of the folder."""
    boxes, sources = proposals_in(given.proposals, given.images) if given.proposals else (None, None)
    if truth is not None:
        if not all(truth.images):
            raise RmpeError(f"{given.truth}: does not name its images; give the list of groups that does (--groups)")
        names = dict.fromkeys(map(base_name, truth.images))
        if boxes is not None:
            names = {name: None for name in names if name in boxes}
        return boxes, [ImageFile(given.images / name, name) for name in names]
    return boxes, sources if sources is not None else find_images([given.images])


def _present(sources: Sequence[ImageSource], folder: Path) -> tuple[list[ImageSource], int]:
    """Return the images that exist, frames of videos among them, and the number of those that do not."""
    there = [source for source in sources if not isinstance(source, ImageFile) or os.path.isfile(source.path)]
    if not there:
        raise FileError(f"{folder}: has none of the {len(sources)} images, such as {sources[0].name}" if sources
                        else f"{folder}: no image has both boxes and ground truth")
    return there, len(sources) - len(there)


def _pass(options: Options, name: str, pipeline: Pipeline, sources: Sequence[ImageSource],
          settings: Mapping[str, Any], boxes: Mapping[str, Detections] | None, shown: int = 0) -> _Run:
    """Run the images in a folder of their own."""
    output = options.output / _slug(name)
    process = find_people(pipeline) if boxes is None else pose_in_boxes(pipeline, boxes)
    results = BatchRun(output, settings, process, draw_persons, shown, options.context).run(sources)
    if options.context.world.first:
        return _Run(results, *write_run(output, results, pipeline.recipe, settings))
    return _Run(results, None, None)


def _oracle(given: MpiiFiles, options: Options, pipeline: Pipeline, sources: Sequence[ImageSource],
            settings: Mapping[str, Any]) -> _Run | None:
    """Run with the true boxes, if the ground truth has boxes and the row is the full one."""
    if given.truth is None or given.row != FULL:
        return None
    boxes = true_boxes(given.truth)
    mine = [source for source in sources if source.name in boxes]
    if not mine:
        return None
    settings = {**settings, "detector": f"boxes of {given.truth.name} sha256 {file_digest(given.truth)}"}
    return _pass(options, ORACLE, pipeline, mine, settings, boxes)


def true_boxes(path: Path) -> dict[str, Detections]:
    """Return the people's boxes by image, from an annotation list of the authors (image, box, ... separated by tabs).

    Other files give no boxes. The list has been read as ground truth before, which checks it.
    """
    if path.suffix != ".txt":
        return {}
    rows: dict[str, list[list[int]]] = {}
    for line in path.read_text("utf-8").splitlines():
        name, box, *_ = line.split("\t")
        rows.setdefault(base_name(name), []).append([round(float(value)) for value in box.split()])
    return {name: Detections(np.array(each, np.int64), np.ones(len(each), np.float32)) for name, each in rows.items()}


# --- numbers -----------------------------------------------------------------------------------------------------


def _evaluate(given: MpiiFiles, truth: Groups, run: _Run, oracle: _Run | None,
              options: Options) -> dict[str, Measurement]:
    """Return the rows of Table 3 that this run measures."""
    recipe, rows = options.recipe, {}
    mine = groups_of_images(truth, run.batch.proposals.images)
    note = _note(given, truth, mine)
    plain = Measurement(ap_of_poses(run.batch, mine).table, note)
    rows[given.row] = plain if given.row == TWO_STEP else Measurement(
        ap_of_persons(run.batch, run.nms, recipe, mine).table, note)
    if given.row == FULL:
        rows[WITHOUT_NMS] = plain
    if oracle:
        mine = groups_of_images(truth, oracle.batch.proposals.images)
        rows[ORACLE] = Measurement(ap_of_persons(oracle.batch, oracle.nms, recipe, mine).table,
                                _note(given, truth, mine))
    return rows


def _note(given: MpiiFiles, truth: Groups, mine: Groups) -> str:
    assert given.truth is not None  # `truth` was read from it
    images = len(set(mine.images))
    notes = [] if images == VALIDATION_IMAGES else [
        f"on {images} images of {given.truth.name}, not on the authors' {VALIDATION_IMAGES}"]
    if len(mine) < len(truth):
        notes.append(f"{len(mine)} of its {len(truth)} groups, those whose images are available")
    return "; ".join([*notes, *truth.notes])


def _with_earlier_rows(output: Path, given: MpiiFiles, rows: Mapping[str, Measurement]) -> dict[str, Measurement]:
    """Save the rows, and return all rows measured in this folder, also by earlier runs."""
    path = output / MEASURED
    evaluated_on = f"{given.truth.name} sha256 {file_digest(given.truth)}" if given.truth else ""
    known = _known(path)
    if rows and known.get("ground_truth", evaluated_on) != evaluated_on:
        raise RmpeError(f"{path}: holds rows evaluated on {known['ground_truth']}, not on {evaluated_on}; "
                        "choose another output folder")
    values = {**known.get("rows", {}), **{name: {"values": dict(row.values), "note": row.note}
                                          for name, row in rows.items()}}
    if rows:
        ordered = {row.method: values[row.method] for row in TABLE_3.rows if row.method in values}
        content = {"ground_truth": evaluated_on, "rows": ordered}
        write_together(output, {MEASURED: (json.dumps(_plain(content), indent=1) + "\n").encode()})
    return {name: Measurement({column: float("nan") if value is None else value for column, value in
                            row["values"].items()}, row["note"]) for name, row in values.items()}


def _known(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise FileError(f"{path}: is damaged; remove it and run again") from None


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and value != value else value


def _tables(measured: Mapping[str, Measurement], given: MpiiFiles) -> str:
    def reason(row: Row) -> str:
        if not row.ours:
            return "another group's method"
        if row.method in (FULL, WITHOUT_NMS):
            return "needs the ground truth (--ground-truth)" if not given.truth else "needs a run with --row full"
        if row.method == ORACLE:
            return "needs the true boxes, which the authors' annotation lists (.txt) contain"
        return f"needs a pose network trained that way: give it as --pose with --row {row.method!r}"

    tables = [compare(TABLE_3, measured, reason)]
    return "\n\n".join([*tables, *(unmeasurable(table) for table in (TABLE_1, README_MPII))])


def _counts(run: _Run, absent: int) -> str:
    skipped = sum(result.people is None for result in run.results)
    notes = [f"{skipped} skipped"] * bool(skipped) + [f"{absent} missing from the folder"] * bool(absent)
    return ", ".join([pluralize(len(run.batch.sizes_wh), "image") + (f" ({', '.join(notes)})" if notes else ""),
                      pluralize(len(run.batch.proposals), "detection"), pluralize(len(run.nms.persons), "person")])


def _nms_seconds(batch: BatchResult, recipe: Recipe) -> float:
    """Time the pose NMS alone, on all images at once, as the paper does."""
    boxes = batch.grown_xyxy if recipe.nms == "demo" else batch.proposals.boxes_xyxy
    scores = batch.poses.scores.astype(np.float32 if recipe.nms == "demo" else np.float64)
    start = time.perf_counter()
    pose_nms(batch.poses.joints_xy, scores, boxes, recipe.nms, ranges=batch.proposals.ranges)
    return time.perf_counter() - start


def _text_numbers(run: _Run, known: Mapping[str, Measurement], recipe: Recipe) -> dict[str, str]:
    numbers = {"pose NMS on the validation images":
               f"{_nms_seconds(run.batch, recipe):.3g} seconds on {pluralize(len(run.batch.sizes_wh), 'image')}"}
    if FULL in known:
        numbers["MPII validation that training should reach"] = f"{known[FULL].values['Total']:.1f}"
    return numbers


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
