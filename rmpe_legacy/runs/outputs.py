"""What a run leaves behind: the authors' files, and JSON in COCO's style."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.files import write_together
from rmpe_legacy.pose.draw import LIMBS
from rmpe_legacy.pose.nms import NmsResult, pose_nms
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.pose.results import JOINTS, Persons, Poses, Proposals

from .checkpoint import Part
from .result_files import write_persons, write_proposals

PROPOSALS, NMS, PEOPLE, DETECTIONS = "proposals", "nms", "poses.json", "detections.json"


@dataclass(frozen=True, eq=False)
class Collected:
    """The parts of a run put together, picture by picture; pictures that were skipped are not among them."""

    proposals: Proposals
    poses: Poses
    sizes_wh: tuple[tuple[int, int], ...]
    grown_xyxy: np.ndarray  # (P, 4) int64
    beyond: int  # detections beyond the borders


def collect(parts: Sequence[Part], how: Recipe) -> Collected:
    """The proposals and poses of all pictures, as if one list had been made of them from the start."""
    there = [part for part in parts if part.found is not None]
    found = [part.found for part in there if part.found is not None]
    ends = np.cumsum([len(each.proposals) for each in found], dtype=np.int64)
    ranges = np.stack([np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)], ends], axis=1)

    def rows(arrays: list[np.ndarray], *shape: int, dtype: type) -> np.ndarray:
        return np.concatenate([np.empty((0, *shape), dtype), *arrays])

    proposals = Proposals(tuple(part.name for part in there), ranges,
                          rows([f.proposals.boxes_xyxy for f in found], 4, dtype=np.int64),
                          rows([f.proposals.scores for f in found], dtype=np.float64))
    poses = Poses(rows([f.poses.joints_xy for f in found], len(JOINTS), 2, dtype=np.float64),
                  rows([f.poses.scores for f in found], len(JOINTS), dtype=np.float32))
    return Collected(proposals, poses, tuple(f.size_wh for f in found),
                     rows([f.grown(how) for f in found], 4, dtype=np.int64), sum(f.beyond for f in found))


def merge_all(collected: Collected, how: Recipe) -> NmsResult:
    """The pose NMS over all pictures; the same as ``run.merge`` on each."""
    boxes = collected.grown_xyxy if how.nms == "demo" else collected.proposals.boxes_xyxy
    kind = np.float32 if how.nms == "demo" else np.float64
    return pose_nms(collected.poses.joints_xy, collected.poses.scores.astype(kind), boxes, how.nms,
                    ranges=collected.proposals.ranges)


def write_detections(output: Path, collected: Collected, skipped: Mapping[str, str],
                     settings: Mapping[str, Any]) -> None:
    """A proposals folder and detections.json."""
    write_proposals(output, collected.proposals)
    annotations = [{"id": i + 1, "image_id": image + 1, "category_id": 1, "bbox": _xywh(box), "score": float(score)}
                   for image, (first, end) in enumerate(collected.proposals.ranges.tolist())
                   for i, box, score in zip(range(first, end), collected.proposals.boxes_xyxy[first:end],
                                            collected.proposals.scores[first:end], strict=True)]
    content = _coco(collected, annotations, {"id": 1, "name": "person"}, skipped, settings)
    write_together(output, {DETECTIONS: _json(content)})


def write_people(output: Path, collected: Collected, merged: NmsResult, how: Recipe, skipped: Mapping[str, str],
                 settings: Mapping[str, Any]) -> None:
    """The folders proposals and nms with the authors' files, and poses.json."""
    write_proposals(output / PROPOSALS, collected.proposals, collected.poses)
    write_persons(output / NMS, merged.persons, collected.proposals, how.nms)
    category = {"id": 1, "name": "person", "keypoints": JOINTS, "skeleton": [[a + 1, b + 1] for a, b, _ in LIMBS]}
    annotations = _annotations(merged.persons, collected, how)
    content = _coco(collected, annotations, category, skipped, settings)
    write_together(output, {PEOPLE: _json(content)})


def _annotations(persons: Persons, collected: Collected, how: Recipe) -> list[dict[str, Any]]:
    """A person each. A joint without a place, whose scores are all 0, is three zeros, as COCO has it."""
    joints = persons.joints_px if how.nms == "batch" else persons.joints_xy
    out = []
    for k, (pick, image) in enumerate(zip(persons.picks.tolist(), persons.images.tolist(), strict=True)):
        triples = np.column_stack([joints[k], persons.scores[k]])
        there = np.isfinite(triples).all(axis=1)
        triples[~there] = 0
        out.append({"id": k + 1, "image_id": image + 1, "category_id": 1, "keypoints": triples.reshape(-1).tolist(),
                    "num_keypoints": int(there.sum()), "score": float(triples[:, 2].mean()),
                    "bbox": _xywh(collected.proposals.boxes_xyxy[pick]),
                    "bbox_score": float(collected.proposals.scores[pick]),
                    "proposals": (np.sort(persons.merged(k)) + 1).tolist()})
    return out


def _coco(collected: Collected, annotations: list[dict[str, Any]], category: dict[str, Any],
          skipped: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    images = [{"id": i + 1, "file_name": name, "width": width, "height": height} for i, (name, (width, height)) in
              enumerate(zip(collected.proposals.images, collected.sizes_wh, strict=True))]
    return {"info": dict(settings), "images": images, "annotations": annotations, "categories": [category],
            "skipped": [{"file_name": name, "reason": reason} for name, reason in skipped.items()]}


def _xywh(box: np.ndarray) -> list[int]:
    xmin, ymin, xmax, ymax = box.tolist()
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _json(content: Mapping[str, Any]) -> bytes:
    """One object a line where there are many, so that files can be looked at and compared."""
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(row, allow_nan=False) for row in value)
            lines.append(f"{json.dumps(key)}: [\n  {rows}\n ]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    return ("{\n " + ",\n ".join(lines) + "\n}\n").encode()
