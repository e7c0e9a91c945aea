"""MPII AP of a pose network on drawn images, for boxes that are given: the common judge of trained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rmpe_legacy.evaluation.groups import Groups, evaluated
from rmpe_legacy.evaluation.mpii import multi_person_ap
from rmpe_legacy.pose.detect import Detector
from rmpe_legacy.pose.estimate import PoseNetwork
from rmpe_legacy.pose.pipeline import Pipeline
from rmpe_legacy.pose.published import Recipe
from rmpe_legacy.pose.results import Detections

from .reproduce_demo import DrawnImage, truth_of

Boxes = Mapping[str, Detections]  # by image
Table = dict[str, float]  # AP in per cent, by column of MPII_COLUMNS


@dataclass(frozen=True)
class SyntheticTestSet:
    """The images 0 to ``pictures`` - 1 of a drawn world, with everything about them known."""

    world: int
    pictures: int
    recipe: Recipe

    @cached_property
    def drawn(self) -> Sequence[DrawnImage]:
        """The images."""
        return [DrawnImage(self.world, index) for index in range(self.pictures)]

    @cached_property
    def truth(self) -> Groups:
        """The people in the images, one group per image."""
        return truth_of(self.drawn)

    def detect(self, detector: Detector) -> dict[str, Detections]:
        """Return a detector's boxes in each image, by the image's name."""
        return {each.name: detector(each.load(), self.recipe.threshold, self.recipe.rounding) for each in self.drawn}

    def true_boxes(self) -> dict[str, Detections]:
        """Return the true boxes of each image in whole pixels, by the image's name."""
        return {each.name: Detections(np.rint(each.drawing.boxes_xyxy).astype(np.int64),
                                      np.ones(len(each.drawing), np.float32)) for each in self.drawn}

    def evaluate(self, network: PoseNetwork, boxes: Boxes) -> tuple[Table, Table]:
        """Return the AP of a network in these boxes, with the pose NMS and without it, in per cent."""
        pipeline = Pipeline(None, network, self.recipe)
        persons, poses = [], []
        for each in self.drawn:
            result = pipeline(each.load(), boxes[each.name])
            merged = result.nms_result.persons
            joints = merged.joints_px if self.recipe.nms == "batch" else merged.joints_xy
            persons.append(np.concatenate([joints, merged.scores[..., None]], axis=2))
            poses.append(np.concatenate([result.poses.joints_xy, result.poses.scores[..., None]], axis=2))
        return self._ap(persons), self._ap(poses)

    def _ap(self, predictions: Sequence[np.ndarray]) -> Table:
        found = [p.reshape(-1, 16, 3) for p in predictions]
        return multi_person_ap(evaluated(found), evaluated(self.truth.joints), self.truth.head_sizes).table
