"""``rmpe evaluate``: from two files to the official table, JSON and curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.files import write_together

from .coco import keypoint_ap
from .curves import Line, Plot, png
from .files import read_groups, read_joints, read_json, read_people, read_poses
from .groups import evaluated, poses_by_group
from .joints import COLUMNS, EVALUATED
from .mpii import MultiPersonAP, multi_person_ap
from .pckh import PROTOCOLS, PCKh, pckh

KINDS = ("mpii", "pckh", "coco")


@dataclass(frozen=True, eq=False)
class Report:
    """The result of an evaluation: text, numbers and curves."""

    kind: str
    text: str  # the official tool's output, and notes about it
    numbers: Mapping[str, Any]  # for JSON
    plots: Mapping[str, Plot]  # by the name of the file


def evaluate(kind: str, predictions: str | PathLike, ground_truth: str | PathLike,
             output_dir: str | PathLike | None = None, *, groups: str | PathLike | None = None, split: str = "train",
             protocol: str = "all", name: str | None = None) -> str:
    """Evaluate poses and return the official table as text.

    Args:
        kind: "mpii" (multi-person AP), "pckh" (single person) or "coco" (keypoint AP).
        predictions: The poses; see ``files`` for the formats.
        ground_truth: The annotations.
        output_dir: Folder for <kind>.json and curves; files appear whole or not at all.
        groups: See ``files.read_groups``; mpii only.
        split: See ``files.read_groups``; mpii only.
        protocol: One of pckh.PROTOCOLS or "all"; pckh only.
        name: Name of the method in the table; by default that of the predictions file.

    Raises:
        RmpeError: Files cannot be read or do not match.
    """
    report = measure(kind, predictions, ground_truth, groups=groups, split=split, protocol=protocol, name=name)
    if output_dir is None:
        return report.text
    files = {f"{kind}.json": (json.dumps(_plain(report.numbers), indent=1, allow_nan=False) + "\n").encode()}
    files |= {file: png(plot) for file, plot in report.plots.items()}
    write_together(output_dir, files)
    return f"{report.text}\n\nwritten to {output_dir}: {', '.join(files)}"


def measure(kind: str, predictions: str | PathLike, ground_truth: str | PathLike, *,
            groups: str | PathLike | None = None, split: str = "train", protocol: str = "all",
            name: str | None = None) -> Report:
    """Like ``evaluate``, but returns the numbers and writes nothing.

    Raises:
        EvaluationError: There is no such evaluation, or the files do not match.
        FileError: A file cannot be read.
    """
    name = Path(predictions).stem if name is None else name
    if kind == "mpii":
        return _measure_mpii(predictions, ground_truth, groups, split, name)
    if kind == "pckh":
        return _measure_pckh(predictions, ground_truth, protocol, name)
    if kind == "coco":
        return _measure_coco(predictions, ground_truth, name)
    raise EvaluationError(f"evaluation {kind!r} is not one of {', '.join(KINDS)}")


def _measure_mpii(predictions: str | PathLike, ground_truth: str | PathLike, groups: str | PathLike | None,
                  split: str, name: str) -> Report:
    truth = read_groups(ground_truth, groups, split)
    poses = poses_by_group(read_poses(predictions, truth.image_ids), truth)
    result = multi_person_ap(evaluated(poses), evaluated(truth.joints), truth.head_sizes)
    counts = {"groups": len(truth), "people": truth.people, "poses": sum(map(len, poses)),
              "groups without poses": sum(not len(p) for p in poses)}
    notes = [", ".join(f"{value} {what}" for what, value in counts.items()), *truth.notes]
    if unseen := sum(len(people) for people, p in zip(truth.joints, poses, strict=True) if not len(p)):
        notes.append(f"the {unseen} people of groups without poses do not count as missed, as in the official toolkit")
    numbers = {"name": name, "mAP": result.mean, "table": result.table,
               "AP": dict(zip(EVALUATED, result.joint_ap.tolist(), strict=True)),
               "annotated": dict(zip(EVALUATED, result.annotated.tolist(), strict=True)), "counts": counts,
               "notes": truth.notes}
    return Report("mpii", "\n".join([result.printed(name), *notes]), numbers,
                  {"mpii_precision_recall.png": _precision_recall(result, name)})


def _precision_recall(result: MultiPersonAP, name: str) -> Plot:
    lines = []
    for colour, pair in enumerate(COLUMNS.values()):
        for joint in pair:
            i = EVALUATED.index(joint)
            recall, precision, _ = result.curves[i].T
            if not np.isnan(recall).any():
                lines.append(Line(f"{joint} {result.joint_ap[i]:.1f}", 100 * recall, 100 * precision, colour,
                                  dashed=joint == pair[1]))
    return Plot(f"{name}: MPII multi-person, mAP {result.mean:.1f}", "recall, %", "precision, %", lines)


def _measure_pckh(predictions: str | PathLike, ground_truth: str | PathLike, protocol: str, name: str) -> Report:
    joints = read_joints(predictions)
    people, heads = read_people(ground_truth)
    protocols = tuple(PROTOCOLS) if protocol == "all" else (protocol,)
    results = {each: pckh(joints, people, heads, each) for each in protocols}
    text = "\n\n".join(f"PCKh@0.5, protocol {each}\n{result.printed(name)}" for each, result in results.items())
    numbers = {"name": name, "people": len(people), "protocols": {each: {
        "table": result.table, "annotated": dict(zip(result.joints, result.annotated.tolist(), strict=True)),
        "PCKh": dict(zip(result.joints, result.per_joint.tolist(), strict=True)),
        "AUC": result.auc} for each, result in results.items()}}
    return Report("pckh", text, numbers, {f"pckh_{each}.png": _rates(result, name) for each, result in results.items()})


def _rates(result: PCKh, name: str) -> Plot:
    lines = [Line("total", result.thresholds, result.total_curve)]
    for colour, (column, (a, b)) in enumerate(COLUMNS.items()):
        mean = (result.curves[:, result.joints.index(a)] + result.curves[:, result.joints.index(b)]) / 2
        lines.append(Line(column.lower(), result.thresholds, mean, colour))
    return Plot(f"{name}: PCKh, {result.protocol}", "distance / head size", "detection rate, %", lines,
                x_max=float(result.thresholds[-1]))


def _measure_coco(predictions: str | PathLike, ground_truth: str | PathLike, name: str) -> Report:
    result = keypoint_ap(read_json(predictions), read_json(ground_truth))
    lines = [Line(f"OKS {0.5 + 0.05 * i:.2f}", 100 * result.recall, 100 * precision, i // 2, dashed=bool(i % 2))
             for i, precision in enumerate(result.precision) if (precision >= 0).all()]
    plot = Plot(f"{name}: COCO keypoints, AP {100 * result.table['AP']:.1f}", "recall, %", "precision, %", lines)
    return Report("coco", result.printed(name), {"name": name, **result.table}, {"coco_precision_recall.png": plot})


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON lacks, by null."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
