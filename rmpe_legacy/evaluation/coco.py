"""COCO keypoint AP, computed by pycocotools after checking that the results are COCO poses."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmpe_legacy.errors import EvaluationError
from rmpe_legacy.optional import optional
from rmpe_legacy.readers.json_file import finite_numbers
from rmpe_legacy.reading import first_line

from .joints import COCO, MPII

STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")  # in pycocotools' order
_USED = ("image_id", "category_id", "keypoints", "score", "bbox")  # with bbox, its area is the detection's size
_FACE = 5  # nose, eyes and ears come first
_AREA_ALL, _MAX_20 = 0, 0  # index of precision for all sizes and at most 20 detections per image

NOT_COCO = ("COCO AP evaluates 17 joints. Five of them (nose, eyes and ears) are not among MPII's 16 joints, so they "
            "would all count as errors and the result would not be a COCO AP. Use `rmpe evaluate mpii` for these "
            "poses, or a model that predicts COCO's joints")


@dataclass(frozen=True, eq=False)
class KeypointAP:
    """COCO's ten numbers, as fractions; -1 if the ground truth has no person of that size."""

    table: dict[str, float]  # by STATS
    recall: np.ndarray  # (101,)
    precision: np.ndarray  # (10, 101): at OKS 0.50, 0.55, ... 0.95; -1 where undefined
    summary: str  # what pycocotools prints

    def printed(self, name: str = "") -> str:
        """The output of pycocotools."""
        return self.summary


def keypoint_ap(results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any]) -> KeypointAP:
    """Compute the AP of results in COCO's format against a person_keypoints annotation file, both as loaded from JSON.

    Raises:
        EvaluationError: The results have MPII's joints, or pycocotools cannot process them.
    """
    results, ground_truth = _check_results(results), _check_ground_truth(ground_truth)
    known = {image["id"] for image in ground_truth["images"]}
    for i, result in enumerate(results):
        if result["image_id"] not in known:
            raise EvaluationError(f"result {i + 1} is for image {result['image_id']!r}, which is not in the ground "
                                  "truth; both must be from the same set")
    coco, cocoeval = (optional(f"pycocotools.{name}", "COCO keypoint AP") for name in ("coco", "cocoeval"))
    said = io.StringIO()
    with redirect_stdout(said), _by_pycocotools():  # it reports its progress
        truth = _dataset(coco.COCO, ground_truth)
        if results:
            found = truth.loadRes([{key: r[key] for key in _USED if key in r} for r in results])
        else:  # loadRes fails on an empty list
            found = _dataset(coco.COCO, ground_truth | {"annotations": []})
        evaluation = cocoeval.COCOeval(truth, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        said.truncate(said.seek(0))
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, _AREA_ALL, _MAX_20]
    return KeypointAP(dict(zip(STATS, map(float, evaluation.stats), strict=True)),
                      np.asarray(evaluation.params.recThrs), _defined_mean(precision), said.getvalue().rstrip())


@contextmanager
def _by_pycocotools() -> Iterator[None]:
    """Convert exceptions of pycocotools on content that the checks accept, such as mixed types of ids."""
    try:
        yield
    except Exception as error:
        raise EvaluationError(f"pycocotools cannot compare these: {first_line(error)}") from error


def _dataset(kind: type, content: Mapping[str, Any]):
    dataset = kind()
    dataset.dataset = {key: [dict(entry) for entry in content[key]] for key in ("images", "annotations", "categories")}
    dataset.createIndex()
    return dataset


def _defined_mean(precision: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis (categories), ignoring categories without people, which are marked -1."""
    defined = precision > -1
    count = defined.sum(axis=-1)
    return np.where(count, np.where(defined, precision, 0).sum(axis=-1) / np.maximum(count, 1), -1)


def _check_results(results: Any) -> list[Mapping[str, Any]]:
    if isinstance(results, Mapping):
        for category in _list_of_maps(results.get("categories", []), "categories"):
            _refuse_mpii(len(_sequence(category.get("keypoints", ()))))
        if "annotations" not in results:
            raise EvaluationError("the predictions are not COCO results; expected a list with image_id, category_id, "
                                  "keypoints and score for each person")
        results = results["annotations"]
    results = _list_of_maps(results, "results")
    faces = False
    for i, result in enumerate(results):
        where = f"result {i + 1}"
        _need(result, ("image_id", "category_id", "keypoints", "score"), where)
        keypoints = _numbers(result["keypoints"], where, "keypoints")
        _refuse_mpii(len(keypoints) / 3)
        if len(keypoints) != 3 * len(COCO):
            raise EvaluationError(f"{where} has {len(keypoints)} keypoint values; expected {3 * len(COCO)}: x, y and "
                                  f"score of {len(COCO)} joints")
        _numbers([result["score"]], where, "score")
        box = _numbers(result.get("bbox", [0] * 4), where, "bbox")
        if ("bbox" in result) != ("bbox" in results[0]) or len(box) != 4:
            raise EvaluationError(f"{where}: bbox must be four numbers, in all results or in none")
        faces = faces or bool(keypoints.reshape(-1, 3)[:_FACE, :2].any())
    if results and not faces:
        raise EvaluationError("nose, eyes and ears are 0 in every result, as if MPII's joints had been written in "
                              f"COCO's order. {NOT_COCO}")
    return results


def _refuse_mpii(joints: float) -> None:
    if joints == len(MPII):
        raise EvaluationError(f"the results have {len(MPII)} joints per person: MPII's. {NOT_COCO}")


def _check_ground_truth(content: Any) -> dict[str, list[Mapping[str, Any]]]:
    if not isinstance(content, Mapping) or not {"images", "annotations", "categories"} <= set(content):
        raise EvaluationError("the ground truth has no images, annotations and categories; is it a "
                              "person_keypoints_*.json of COCO?")
    parts = {key: _list_of_maps(content[key], f"{key} of the ground truth")
             for key in ("images", "annotations", "categories")}
    for i, image in enumerate(parts["images"]):
        _need(image, ("id",), f"image {i + 1} of the ground truth")
    for i, category in enumerate(parts["categories"]):
        _need(category, ("id",), f"category {i + 1} of the ground truth")
    images = {image["id"] for image in parts["images"]}
    for i, person in enumerate(parts["annotations"]):
        where = f"annotation {i + 1} of the ground truth"
        _need(person, ("id", "image_id", "category_id", "keypoints", "num_keypoints", "area", "bbox", "iscrowd"), where)
        if len(_numbers(person["keypoints"], where, "keypoints")) != 3 * len(COCO):
            raise EvaluationError(f"{where} has {len(person['keypoints'])} keypoint values; "
                                  f"expected {3 * len(COCO)}. {NOT_COCO}")
        if len(_numbers(person["bbox"], where, "bbox")) != 4:
            raise EvaluationError(f"{where}: bbox has {len(person['bbox'])} numbers; expected x, y, width, height")
        _numbers([person[key] for key in ("num_keypoints", "area", "iscrowd")], where, "num_keypoints, area, iscrowd")
        if person["image_id"] not in images:
            raise EvaluationError(f"{where} is for image {person['image_id']!r}, which is not among the images")
    return parts


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _list_of_maps(value: Any, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
        raise EvaluationError(f"{what} are not a list of objects")
    return list(value)


def _need(entry: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in entry:
            raise EvaluationError(f"{where} has no {key!r}")
        if key.endswith("id") and not isinstance(entry[key], int | float | str):
            raise EvaluationError(f"{where}: {key} is {entry[key]!r}; expected a number or a name")


def _numbers(value: Any, where: str, what: str) -> np.ndarray:
    numbers = finite_numbers(value)
    if numbers is None:
        raise EvaluationError(f"{where}: {what} are not a list of finite numbers")
    return numbers
