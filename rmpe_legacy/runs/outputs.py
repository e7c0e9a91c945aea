"""The files that a run writes: the authors' formats, and JSON in COCO's style."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmpe_legacy.files import make_folder, whole_file
from rmpe_legacy.pose.joints import MPII16, JointSet
from rmpe_legacy.pose.nms import NmsResult
from rmpe_legacy.pose.people import People, people_in
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.pose.results import Persons, Poses, Proposals

from .checkpoint import ImageResult
from .result_files import write_persons, write_proposals

PROPOSALS, NMS, PEOPLE, DETECTIONS = "proposals", "nms", "poses.json", "detections.json"


@dataclass(frozen=True, eq=False)
class BatchResult:
    """The results of a run, concatenated image by image, without the images that were skipped."""

    proposals: Proposals
    poses: Poses
    sizes_wh: tuple[tuple[int, int], ...]
    grown_xyxy: np.ndarray  # (P, 4) int64, or float64 in the recipe "alphapose"
    beyond: int  # detections that contain no pixel of their image
    joints: JointSet = MPII16


def collect(results: Sequence[ImageResult], recipe: Recipe) -> BatchResult:
    """Concatenate the proposals and poses of all images."""
    kept = [result for result in results if result.people is not None]
    people = [result.people for result in kept if result.people is not None]
    joints = people[0].joints if people else MPII16
    ends = np.cumsum([len(each.proposals) for each in people], dtype=np.int64)
    ranges = np.stack([np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)], ends], axis=1)
    proposals = Proposals(tuple(result.name for result in kept), ranges,
                          _rows([p.proposals.boxes_xyxy for p in people], 4, dtype=np.int64),
                          _rows([p.proposals.scores for p in people], dtype=np.float64))
    poses = Poses(_rows([p.poses.joints_xy for p in people], len(joints), 2, dtype=np.float64),
                  _rows([p.poses.scores for p in people], len(joints), dtype=np.float32))
    return BatchResult(proposals, poses, tuple(p.size_wh for p in people),
                       _rows([p.grown(recipe) for p in people], 4, dtype=np.int64), sum(p.beyond for p in people),
                       joints)


def collect_nms(results: Sequence[ImageResult]) -> NmsResult:
    """Concatenate the persons of all images; proposals are numbered as ``collect`` orders them."""
    people = [result.people for result in results if result.people is not None]
    starts = np.cumsum([0, *(len(each.proposals) for each in people)])[:-1].tolist()
    count = len(people[0].joints) if people else len(MPII16)
    return NmsResult(_concatenated([each.nms_result.persons for each in people], starts, count),
                     _concatenated([each.nms_result.dropped for each in people], starts, count))


def _concatenated(groups: Sequence[Persons], starts: Sequence[int], joints: int) -> Persons:
    """Concatenate the persons of several images; starts: the index of each image's first proposal."""
    persons = np.cumsum([0, *(len(group) for group in groups)])
    members = np.cumsum([0, *(len(group.members) for group in groups)])
    return Persons(
        _rows([group.picks + start for group, start in zip(groups, starts, strict=True)], dtype=np.int64),
        _rows([group.joints_xy for group in groups], joints, 2, dtype=np.float64),
        _rows([group.scores for group in groups], joints, dtype=np.float64),
        _rows([group.members + start for group, start in zip(groups, starts, strict=True)], dtype=np.int64),
        _rows([group.member_ends + start for group, start in zip(groups, members, strict=False)], dtype=np.int64),
        persons[1:].astype(np.int64))


def _rows(arrays: list[np.ndarray], *shape: int, dtype: type) -> np.ndarray:
    """Concatenate arrays of rows of this shape; there may be none."""
    return np.concatenate([np.empty((0, *shape), dtype), *arrays])


def write_detections(output: Path, batch: BatchResult, skipped: Mapping[str, str],
                     settings: Mapping[str, Any]) -> None:
    """Write a proposals folder and detections.json."""
    write_proposals(output, batch.proposals)
    annotations = ({"id": i + 1, "image_id": image + 1, "category_id": 1, "bbox": _xywh(box), "score": float(score)}
                   for image, (first, end) in enumerate(batch.proposals.ranges.tolist())
                   for i, box, score in zip(range(first, end), batch.proposals.boxes_xyxy[first:end],
                                            batch.proposals.scores[first:end], strict=True))
    _write_json(output / DETECTIONS, _coco(batch, annotations, {"id": 1, "name": "person"}, skipped, settings))


def write_people(output: Path, batch: BatchResult, nms: NmsResult, recipe: Recipe, skipped: Mapping[str, str],
                 settings: Mapping[str, Any]) -> None:
    """Write the folders proposals and nms with the authors' files, and poses.json."""
    write_proposals(output / PROPOSALS, batch.proposals, batch.poses)
    write_persons(output / NMS, nms.persons, batch.proposals, recipe.nms)
    _write_json(output / PEOPLE, _people(batch, nms, recipe, skipped, settings))


def people_json(batch: BatchResult, nms: NmsResult, recipe: Recipe, skipped: Mapping[str, str],
                settings: Mapping[str, Any]) -> bytes:
    """Return the content of poses.json."""
    return b"".join(_json(_people(batch, nms, recipe, skipped, settings)))


def _people(batch: BatchResult, nms: NmsResult, recipe: Recipe, skipped: Mapping[str, str],
            settings: Mapping[str, Any]) -> dict[str, Any]:
    category = {"id": 1, "name": "person", "keypoints": batch.joints.joints,
                "skeleton": [[a + 1, b + 1] for a, b in batch.joints.limbs]}
    return _coco(batch, _annotations(nms.persons, batch, recipe), category, skipped, settings)


def _annotations(persons: Persons, batch: BatchResult, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield one annotation per person. A joint without coordinates (all scores 0) is three zeros, as in COCO."""
    joints = persons.joints_px if recipe.nms == "batch" else persons.joints_xy
    for k, (pick, image) in enumerate(zip(persons.picks.tolist(), persons.images.tolist(), strict=True)):
        triples = np.column_stack([joints[k], persons.scores[k]])
        there = np.isfinite(triples).all(axis=1)
        triples[~there] = 0
        yield {"id": k + 1, "image_id": image + 1, "category_id": 1, "keypoints": triples.reshape(-1).tolist(),
               "num_keypoints": int(there.sum()), "score": float(triples[:, 2].mean()),
               "bbox": _xywh(batch.proposals.boxes_xyxy[pick]), "bbox_score": float(batch.proposals.scores[pick]),
               "proposals": (np.sort(persons.merged(k)) + 1).tolist()}


def people_of(batch: BatchResult, nms: NmsResult | None, recipe: Recipe) -> list[People]:
    """Return the people of each image, for other tools' formats; without pose NMS, each pose is a person."""
    persons = persons_of_poses(batch) if nms is None else nms.persons
    return people_in(batch.proposals, persons, recipe.nms, batch.joints, batch.sizes_wh)


def persons_of_poses(batch: BatchResult) -> Persons:
    """Return each pose as a person of its own."""
    every = np.arange(len(batch.proposals))
    return Persons(every, batch.poses.joints_xy, batch.poses.scores.astype(np.float64), every, every + 1,
                   batch.proposals.ranges[:, 1])


def _coco(batch: BatchResult, annotations: Iterator[dict[str, Any]], category: dict[str, Any],
          skipped: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file in COCO's style; its lists are iterators, since they may be long."""
    images = ({"id": i + 1, "file_name": name, "width": width, "height": height} for i, (name, (width, height)) in
              enumerate(zip(batch.proposals.images, batch.sizes_wh, strict=True)))
    return {"info": dict(settings), "images": images, "annotations": annotations, "categories": iter([category]),
            "skipped": ({"file_name": name, "reason": reason} for name, reason in skipped.items())}


def _xywh(box: np.ndarray) -> list[int]:
    xmin, ymin, xmax, ymax = box.tolist()
    return [xmin, ymin, xmax - xmin, ymax - ymin]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    make_folder(path.parent)
    with whole_file(path) as file:
        file.writelines(_json(content))


def _json(content: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield JSON piece by piece; items of iterators are one per line, so that files can be read and compared."""
    before = "{\n "
    for key, value in content.items():
        yield f"{before}{json.dumps(key)}: ".encode()
        if isinstance(value, Iterator):
            yield from _list(value)
        else:
            yield json.dumps(value, allow_nan=False).encode()
        before = ",\n "
    yield b"\n}\n"


def _list(items: Iterator[Any]) -> Iterator[bytes]:
    count = 0
    for count, item in enumerate(items, 1):
        yield f"{',' if count > 1 else '['}\n  {json.dumps(item, allow_nan=False)}".encode()
    yield b"\n ]" if count else b"[]"
