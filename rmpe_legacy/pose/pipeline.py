"""The whole of RMPE for one picture: detect people, estimate a pose in each box, merge poses into persons."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image
from rmpe_legacy.errors import InputError

from .crop import can_crop, grow_boxes
from .detect import Detector, load_detector
from .estimate import BATCH, Look, PoseNetwork, estimate_poses, load_pose_network
from .nms import NmsResult, pose_nms
from .published import RECIPES, Recipe, recipe
from .results import Detections, Poses


@dataclass(frozen=True, eq=False)
class Found:
    """What the two networks found in a picture: P proposals, each with its pose."""

    size_wh: tuple[int, int]
    proposals: Detections
    poses: Poses
    beyond: int = 0  # detections of which no pixel lies in the picture; they are no proposals
    looks: tuple[Look, ...] = ()

    def grown(self, how: Recipe) -> np.ndarray:
        """(P, 4) int64: the boxes that were cut out."""
        return grow_boxes(self.proposals.boxes_xyxy, self.size_wh, how.growth)


@dataclass(frozen=True, eq=False)
class Result:
    """Everything about one picture."""

    found: Found
    nms: NmsResult  # persons, and those dropped for their low score


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Two networks and the way they are used. ``pipeline(image)`` gives the people in a picture."""

    detector: Detector | None  # not needed where proposals are given
    pose: PoseNetwork
    recipe: Recipe = RECIPES["demo"]
    batch: int = BATCH

    def __call__(self, image: Any, proposals: Detections | None = None, look: bool = False) -> Result | list[Result]:
        """The people in an image: a path, a PIL image, or an array (H, W, 3), float RGB from 0 to 1, as ``load_image``
        gives it. Of a list of images, a list of results.

        proposals: boxes of another detector, in place of this one's; for one image only. look: keep each crop, also
        after the STN, and its heat maps.

        Raises InputError for what is no image, FileError for a file that is none.
        """
        if isinstance(image, list | tuple):
            if proposals is not None:
                raise InputError(f"proposals are the boxes of one image, and {len(image)} are given; call the pipeline "
                                 "for each")
            return [self(one, look=look) for one in image]
        found = self.find(image, proposals, look)
        return Result(found, merge(found, self.recipe))

    def find(self, image: Any, proposals: Detections | None = None, look: bool = False) -> Found:
        """The steps before the pose NMS, on one image; arguments as for a call."""
        image = as_image(image)
        if proposals is None:
            if self.detector is None:
                raise InputError("this pipeline has no detector; give it boxes: pipeline(image, proposals=...)")
            proposals = self.detector(image, self.recipe.threshold, self.recipe.rounding)
        if not isinstance(proposals, Detections):
            raise InputError(f"proposals are Detections, boxes (P, 4) and scores (P), not '{type(proposals).__name__}'")
        size_wh = image.shape[1], image.shape[0]
        kept = inside(proposals, size_wh, self.recipe)
        looks: list[Look] = []
        poses = estimate_poses(self.pose, image, grow_boxes(kept.boxes_xyxy, size_wh, self.recipe.growth),
                               self.recipe.geometry, self.batch, looks.append if look else None)
        return Found(size_wh, kept, poses, len(proposals) - len(kept), tuple(looks))


def inside(detections: Detections, size_wh: tuple[int, int], how: Recipe) -> Detections:
    """Those whose grown box holds a pixel of the picture. Differs: the published programs stop at any other."""
    return detections.select(can_crop(grow_boxes(detections.boxes_xyxy, size_wh, how.growth), size_wh, how.geometry))


def merge(found: Found, how: Recipe) -> NmsResult:
    """The pose NMS of a recipe: the demo measures distances against the boxes that it cut out, in single precision."""
    if how.nms == "demo":
        return pose_nms(found.poses.joints_xy, found.poses.scores, found.grown(how), how.nms)
    return pose_nms(found.poses.joints_xy, found.poses.scores.astype(np.float64), found.proposals.boxes_xyxy, how.nms)


def load_pipeline(detector: tuple[str | Path, str | Path], pose: tuple[str | Path, ...], published: str = "demo",
                  threshold: float | None = None, device: torch.device | str = "cpu", batch: int = BATCH,
                  de_transform: str | None = None, allow_python: bool = False) -> Pipeline:
    """The pipeline of the files of two networks.

    detector: its deploy.prototxt and caffemodel. pose: the same, or one .t7 file. published: whose rules hold, one
    of ``recipe.RECIPES``; threshold: another than theirs. de_transform, allow_python: as for ``load_net``.
    """
    pose = (pose,) if isinstance(pose, str | PathLike) else tuple(pose)
    for what, files, counts in (("detector", detector, (2,)), ("pose network", pose, (1, 2))):
        if isinstance(files, str | PathLike) or len(files) not in counts:
            raise InputError(f"the {what} is a prototxt and a caffemodel{', or one .t7' if 1 in counts else ''}; "
                             f"{files!r} is given")
    return Pipeline(load_detector(*detector, device=device, allow_python=allow_python),
                    load_pose_network(*pose, device=device, de_transform=de_transform, allow_python=allow_python),
                    recipe(published, threshold), batch)
