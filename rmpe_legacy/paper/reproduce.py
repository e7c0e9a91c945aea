"""``rmpe reproduce mpii|coco``: the paper's recipe from pictures to its tables, with the weights and data at hand."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.evaluation.evaluate import measure
from rmpe_legacy.evaluation.files import read_groups
from rmpe_legacy.evaluation.groups import Groups
from rmpe_legacy.files import write_together
from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.results import Detections
from rmpe_legacy.runs.batch_run import Job, detect_with, drawn_persons, pose_with
from rmpe_legacy.runs.checkpoint import Part
from rmpe_legacy.runs.commands import (
    Files,
    Options,
    Outcome,
    boxes_digest,
    detector_files,
    facts_of,
    pose_files,
    proposals_in,
    settings_of,
    shown_of,
    skipped_of,
    write_run,
)
from rmpe_legacy.runs.inputs import Picture, PictureFile, file_digest, find_pictures
from rmpe_legacy.runs.outputs import Collected, merge_all
from rmpe_legacy.runs.report import MOST_PICTURES, Summary, check_page, write_report
from rmpe_legacy.wording import many

from .average_precision import ap_of_persons, ap_of_poses, base_name, of_pictures
from .comparison import Measured, compare, compare_text
from .describe_network import identify_detector, identify_pose
from .tables import README_COCO, README_MPII, TABLE_1, TABLE_2, TABLE_3, Row, Table

MEASURED = "measured.json"
FULL, WITHOUT_NMS, TWO_STEP, ORACLE = ("full", "without pose NMS", "two-step, without any of the three", "oracle boxes")
RUNS = tuple(row.method for row in TABLE_3.rows if row.ours and row.method not in (WITHOUT_NMS, ORACLE))
VALIDATION_PICTURES = 1300  # of Table 3


@dataclass(frozen=True)
class MpiiFiles:
    """What the user has."""

    images: Path  # the folder of pictures
    pose: Files
    detector: Files | None = None
    proposals: Path | None = None  # boxes of a detector, in its place
    truth: Path | None = None
    groups: Path | None = None  # as for evaluation.files.read_groups
    split: str = "train"
    row: str = FULL  # which row of Table 3 the pose network was trained for


@dataclass(frozen=True, eq=False)
class _Run:
    """One pass over the pictures."""

    parts: list[Part]
    collected: Collected
    merged: NmsResult
    nms_seconds: float


def reproduce_mpii(given: MpiiFiles, options: Options, report: Path | None = None) -> Outcome:
    """Detect, pose, merge, judge, and compare with Table 3; what was measured before in the same folder counts too."""
    check_page(report)
    device = options.start()
    _check(given)
    files, de_transform = pose_files(given.pose, options.de_transform)
    python = options.allow_python
    network = load_pose_network(*files, device=device, de_transform=de_transform, allow_python=python)
    detector = None if given.proposals else load_detector(*detector_files(given.detector), device=device,
                                                                 allow_python=python)
    pipeline = Pipeline(detector, network, options.recipe, options.batch)
    truth = read_groups(given.truth, given.groups, given.split) if given.truth else None
    lines = [f"detector: {identify_detector(detector) if detector else f'none, boxes of {given.proposals}'}",
             f"pose network: {identify_pose(network)}", f"as published in: {options.recipe.name}, detections above "
             f"{options.recipe.threshold:g}"]

    settings = settings_of(options.recipe, pose=files, de_transform=de_transform, detector=boxes_digest(given.proposals)
                           if given.proposals else detector_files(given.detector))
    boxes, pictures = _pictures(given, truth)
    pictures, absent = _at_hand(pictures, given.images)
    run = _pass(options, given.row, pipeline, pictures, settings, boxes, MOST_PICTURES if report else 0)
    oracle = _oracle(given, options, pipeline, pictures, settings)
    skipped = skipped_of(run.parts)
    if not options.around.world.first:
        return Outcome("", skipped)
    rows = _judge(given, truth, run, oracle, options) if truth else {}
    known = _remember(options.output, given, rows)
    tables = _tables(known, given)
    if report:
        facts = facts_of(options.recipe, detector_files(given.detector) if detector else (), files, run.collected,
                         run.merged)
        write_report(report, Summary("RMPE on MPII", facts, len(run.parts), skipped, tables),
                     shown_of(run.parts, options.recipe))
    lines += [_counts(run, absent), "", tables, "", compare_text(_text_numbers(run, known))]
    return Outcome("\n".join(lines), skipped)


def _check(given: MpiiFiles) -> None:
    if given.row not in RUNS:
        raise RmpeError(f"row {given.row!r} is not one of {', '.join(map(repr, RUNS))}")
    if not given.images.is_dir():
        raise FileError(f"{given.images}: not a folder; give the one with MPII's pictures")
    if given.proposals and given.detector:
        raise RmpeError("give a detector or the boxes of one (--proposals), not both")
    if not given.proposals and not given.detector:
        raise RmpeError("give the detector's files (--detector PROTOTXT CAFFEMODEL), or the boxes of one (--proposals)")


def _pictures(given: MpiiFiles, truth: Groups | None) -> tuple[dict[str, Detections] | None, list[Picture]]:
    """The boxes, if given, and the pictures to work on: those of the truth, else of the boxes, else of the folder."""
    boxes, pictures = proposals_in(given.proposals, given.images) if given.proposals else (None, None)
    if truth is not None:
        if not all(truth.images):
            raise RmpeError(f"{given.truth}: does not name its pictures; give the list of groups that does (--groups)")
        names = dict.fromkeys(map(base_name, truth.images))
        if boxes is not None:
            names = {name: None for name in names if name in boxes}
        return boxes, [PictureFile(given.images / name, name) for name in names]
    return boxes, pictures if pictures is not None else find_pictures([given.images])


def _at_hand(pictures: Sequence[Picture], folder: Path) -> tuple[list[Picture], int]:
    """The pictures that are there, and how many are not."""
    there = [picture for picture in pictures if picture.path.is_file()]
    if not there:
        raise FileError(f"{folder}: has none of the {len(pictures)} pictures, such as {pictures[0].name}" if pictures
                        else f"{folder}: no picture has both boxes and a truth")
    return there, len(pictures) - len(there)


def _pass(options: Options, name: str, pipeline: Pipeline, pictures: Sequence[Picture], settings: Mapping[str, Any],
          boxes: Mapping[str, Detections] | None, shown: int = 0) -> _Run:
    """One pass over the pictures, in a folder of its own."""
    output = options.output / _slug(name)
    find = detect_with(pipeline) if boxes is None else pose_with(pipeline, boxes)
    parts = Job(output, settings, find, drawn_persons(pipeline), shown, options.around).run(pictures)
    if options.around.world.first:
        collected, merged = write_run(output, parts, pipeline.recipe, settings)
        start = time.perf_counter()
        merge_all(collected, pipeline.recipe)
        return _Run(parts, collected, merged, time.perf_counter() - start)
    return _Run(parts, None, None, 0)


def _oracle(given: MpiiFiles, options: Options, pipeline: Pipeline, pictures: Sequence[Picture],
            settings: Mapping[str, Any]) -> _Run | None:
    """The same with the people's true boxes, where the truth has boxes and the row is the full one."""
    boxes = true_boxes(given.truth) if given.truth and given.row == FULL else {}
    mine = [picture for picture in pictures if picture.name in boxes]
    if not mine:
        return None
    settings = {**settings, "detector": f"boxes of {given.truth.name} sha256 {file_digest(given.truth)}"}
    return _pass(options, ORACLE, pipeline, mine, settings, boxes)


def true_boxes(path: Path) -> dict[str, Detections]:
    """The boxes of people in an annotation list of the authors (picture, box, ... between tabs), else none.

    The list has been read as ground truth before, which checks it.
    """
    if path.suffix != ".txt":
        return {}
    rows: dict[str, list[list[int]]] = {}
    for line in path.read_text("utf-8").splitlines():
        name, box, *_ = line.split("\t")
        rows.setdefault(base_name(name), []).append([round(float(value)) for value in box.split()])
    return {name: Detections(np.array(each, np.int64), np.ones(len(each), np.float32)) for name, each in rows.items()}


# --- numbers -----------------------------------------------------------------------------------------------------


def _judge(given: MpiiFiles, truth: Groups, run: _Run, oracle: _Run | None, options: Options) -> dict[str, Measured]:
    """The rows of Table 3 that this run gives."""
    how, rows = options.recipe, {}
    mine = of_pictures(truth, run.collected.proposals.images)
    note = _note(given, truth, mine)
    plain = Measured(ap_of_poses(run.collected, mine).table, note)
    rows[given.row] = plain if given.row == TWO_STEP else Measured(
        ap_of_persons(run.collected, run.merged, how, mine).table, note)
    if given.row == FULL:
        rows[WITHOUT_NMS] = plain
    if oracle:
        mine = of_pictures(truth, oracle.collected.proposals.images)
        rows[ORACLE] = Measured(ap_of_persons(oracle.collected, oracle.merged, how, mine).table,
                                _note(given, truth, mine))
    return rows


def _note(given: MpiiFiles, truth: Groups, mine: Groups) -> str:
    pictures = len(set(mine.images))
    notes = [] if pictures == VALIDATION_PICTURES else [
        f"on {pictures} pictures of {given.truth.name}, not on the authors' {VALIDATION_PICTURES}"]
    if len(mine) < len(truth):
        notes.append(f"{len(mine)} of its {len(truth)} groups, whose pictures are at hand")
    return "; ".join([*notes, *truth.notes])


def _remember(output: Path, given: MpiiFiles, rows: Mapping[str, Measured]) -> dict[str, Measured]:
    """All rows measured in this folder, those of earlier runs too."""
    path, judged_by = output / MEASURED, f"{given.truth.name} sha256 {file_digest(given.truth)}" if given.truth else ""
    known = _known(path)
    if rows and known.get("ground_truth", judged_by) != judged_by:
        raise RmpeError(f"{path}: holds rows that were judged by {known['ground_truth']}, not by {judged_by}; choose "
                        "another output folder")
    values = {**known.get("rows", {}), **{name: {"values": dict(row.values), "note": row.note}
                                          for name, row in rows.items()}}
    if rows:
        ordered = {row.method: values[row.method] for row in TABLE_3.rows if row.method in values}
        content = {"ground_truth": judged_by, "rows": ordered}
        write_together(output, {MEASURED: (json.dumps(_plain(content), indent=1) + "\n").encode()})
    return {name: Measured({column: float("nan") if value is None else value for column, value in
                            row["values"].items()}, row["note"]) for name, row in values.items()}


def _known(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        raise FileError(f"{path}: is damaged; remove it, and run again") from None


def _plain(value: Any) -> Any:
    """What JSON can hold: NaN becomes null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and value != value else value


def _tables(measured: Mapping[str, Measured], given: MpiiFiles) -> str:
    def reason(row: Row) -> str:
        if not row.ours:
            return "another group's method"
        if row.method in (FULL, WITHOUT_NMS):
            return "needs the truth (--ground-truth)" if not given.truth else "needs a run with --row full"
        if row.method == ORACLE:
            return "needs true boxes, which the authors' annotation lists (.txt) have"
        return f"needs a pose network that was trained so: give it as --pose with --row {row.method!r}"

    tables = [compare(TABLE_3, measured, reason)]
    return "\n\n".join([*tables, *(unmeasurable(table) for table in (TABLE_1, README_MPII))])


def unmeasurable(table: Table) -> str:
    """A table of which nobody can measure a row."""
    own = replace(table, rows=tuple(row for row in table.rows if row.ours))
    return compare(own, {}, lambda row: table.unmeasurable)


def _counts(run: _Run, absent: int) -> str:
    skipped = sum(part.found is None for part in run.parts)
    notes = [f"{skipped} skipped"] * bool(skipped) + [f"{absent} not in the folder"] * bool(absent)
    return ", ".join([many(len(run.collected.sizes_wh), "picture") + (f" ({', '.join(notes)})" if notes else ""),
                      many(len(run.collected.proposals), "detection"), many(len(run.merged.persons), "person")])


def _text_numbers(run: _Run, known: Mapping[str, Measured]) -> dict[str, str]:
    numbers = {"pose NMS on the validation pictures":
               f"{run.nms_seconds:.3g} seconds on {many(len(run.collected.sizes_wh), 'picture')}"}
    if FULL in known:
        numbers["MPII validation that training should reach"] = f"{known[FULL].values['Total']:.1f}"
    return numbers


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


# --- COCO --------------------------------------------------------------------------------------------------------


def reproduce_coco(predictions: str | PathLike | None = None, truth: str | PathLike | None = None) -> Outcome:
    """Table 2, and the AP of a results file with COCO's 17 joints if one is given."""
    if bool(predictions) != bool(truth):
        raise RmpeError("give both the results (--predictions) and the annotations (--ground-truth), or neither")
    lines = [unmeasurable(TABLE_2), "", unmeasurable(README_COCO), "",
             "The published networks have MPII's 16 joints. Nose, eyes and ears, which COCO judges, are not among "
             "them: no number of theirs is a COCO AP."]
    if predictions and truth:
        numbers = measure("coco", predictions, truth).numbers
        values = {column: 100 * float(numbers[key]) for column, key in
                  zip(TABLE_2.columns, ("AP", "AP50", "AP75", "APm", "APl"), strict=True)}
        own = replace(TABLE_2, rows=tuple(row for row in TABLE_2.rows if row.ours))
        note = f"{Path(predictions).name} on {Path(truth).name}, not on test-dev"
        lines[0] = compare(own, {"RMPE": Measured(values, note)}, lambda row: "")
    return Outcome("\n".join(lines), {})
