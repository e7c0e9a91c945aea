"""``rmpe reproduce coco``: the AP of COCO's 17 joints next to the paper's Table 2."""

from __future__ import annotations

import os
from dataclasses import replace
from os import PathLike
from pathlib import Path

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.evaluation.evaluate import measure
from rmpe_legacy.pose.formats import coco_results
from rmpe_legacy.pose.joints import COCO17
from rmpe_legacy.runs.commands import CommandResult, Files, Options, run_demo

from .comparison import Measurement, compare, unmeasurable
from .tables import README_COCO, TABLE_2


def run_and_reproduce_coco(images: str | PathLike, boxes: str | PathLike | None, detector: Files | None,
                           pose: Files, truth: str | PathLike, options: Options) -> CommandResult:
    """Run a pose network of COCO's 17 joints on images, and print its AP next to Table 2.

    Args:
        images: The folder of COCO's images.
        boxes: Detections of another detector, instead of ``detector``.
        detector: The detector's files; None with `boxes`.
        pose: The pose network's files.
        truth: person_keypoints_*.json.
        options: The common options.

    Raises:
        RmpeError: The pose network does not predict COCO's joints, or a file cannot be read.
    """
    run = run_demo([images], detector, pose, replace(options, formats=(coco_results.NAME,)), boxes=boxes)
    if not options.context.world.first:
        return run
    results = options.output / f"coco_results.{COCO17.name}.json"
    if not os.path.isfile(results):
        raise RmpeError(f"{options.output}: the pose network does not predict COCO's 17 joints, so it has no COCO AP; "
                        "give one with --joints coco17")
    return CommandResult(f"{run.text}\n\n{reproduce_coco(results, truth).text}", run.skipped)


def reproduce_coco(predictions: str | PathLike | None = None, truth: str | PathLike | None = None) -> CommandResult:
    """Print Table 2, with the AP of a results file with COCO's 17 joints if one is given.

    Raises:
        RmpeError: Only one of `predictions` and `truth` is given, or a file cannot be read.
    """
    if bool(predictions) != bool(truth):
        raise RmpeError("give both the results (--predictions) and the annotations (--ground-truth), or neither")
    lines = [unmeasurable(TABLE_2), "", unmeasurable(README_COCO), "",
             "The published networks predict MPII's 16 joints. These do not include the nose, eyes and ears, which "
             "COCO evaluates, so no result of theirs is a COCO AP."]
    if predictions and truth:
        numbers = measure("coco", predictions, truth).numbers
        values = {column: 100 * float(numbers[key]) for column, key in
                  zip(TABLE_2.columns, ("AP", "AP50", "AP75", "APm", "APl"), strict=True)}
        own = replace(TABLE_2, rows=tuple(row for row in TABLE_2.rows if row.ours))
        note = f"{Path(predictions).name} on {Path(truth).name}, not on test-dev"
        lines[0] = compare(own, {"RMPE": Measurement(values, note)}, lambda row: "")
    return CommandResult("\n".join(lines), {})
