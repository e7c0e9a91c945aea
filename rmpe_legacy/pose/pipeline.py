"""RMPE on one image: detect people, estimate a pose in each box, merge the poses into persons."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from rmpe_legacy.caffe.data.image import as_image
from rmpe_legacy.errors import InputError

from .crop import can_crop, grow_boxes
from .detect import Detector, load_detector
from .estimate import BATCH, CropTrace, PoseNetwork, estimate_poses, load_pose_network
from .nms import NmsResult, pose_nms
from .published import RECIPES, Recipe, get_recipe
from .results import Detections, Poses


@dataclass(frozen=True, eq=False)
class PoseResult:
    """The result for one image: P proposals, a pose for each, and the persons that the pose NMS made of them."""

    size_wh: tuple[int, int]
    proposals: Detections
    poses: Poses
    beyond: int = 0  # detections that contain no pixel of the image; they are not among the proposals
    traces: tuple[CropTrace, ...] = ()  # one per proposal if asked for
    nms: NmsResult | None = None  # None if the pose NMS was not run (rmpe detect, rmpe pose)

    def grown(self, recipe: Recipe) -> np.ndarray:
        """The boxes that were cropped, (P, 4) int64."""
        return grow_boxes(self.proposals.boxes_xyxy, self.size_wh, recipe.growth)

    @property
    def nms_result(self) -> NmsResult:
        """The result of the pose NMS. Raises InputError if it was not run."""
        if self.nms is None:
            raise InputError("the pose NMS was not run on this result; use merge_poses")
        return self.nms

    @property
    def found(self) -> PoseResult:
        """Deprecated: use `proposals` and `poses` of the result itself."""
        warnings.warn("result.found is deprecated and will be removed in 0.2: use result.proposals and result.poses",
                      DeprecationWarning, stacklevel=2)
        return self


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A detector, a pose network and the recipe that combines them. ``pipeline(image)`` finds the people in an image.

    Attributes:
        detector: May be None if every call gives `proposals`.
        pose: The pose network.
        recipe: Which published program to follow.
        batch: Crops per forward of the pose network.
    """

    detector: Detector | None
    pose: PoseNetwork
    recipe: Recipe = RECIPES["demo"]
    batch: int = BATCH

    @overload
    def __call__(self, image: list | tuple, proposals: None = None, keep_crops: bool = False) -> list[PoseResult]: ...

    @overload
    def __call__(self, image: Any, proposals: Detections | None = None, keep_crops: bool = False) -> PoseResult: ...

    def __call__(self, image: Any, proposals: Detections | None = None,
                 keep_crops: bool = False) -> PoseResult | list[PoseResult]:
        """Find the people in an image, or in each image of a list.

        Args:
            image: A path, a PIL image, an (H, W, 3) array (float RGB from 0 to 1, as ``load_image`` returns it), or a
                list of these.
            proposals: Boxes from another detector; only with a single image.
            keep_crops: Keep each crop, also after the STN, and its heatmaps in ``result.traces``.

        Returns:
            A PoseResult, or a list of them for a list of images.

        Raises:
            InputError: The argument is not an image.
            FileError: The file cannot be read as an image.
        """
        if isinstance(image, list | tuple):
            if proposals is not None:
                raise InputError(f"proposals belong to one image, but {len(image)} images are given; call the pipeline "
                                 "once per image")
            return [self(one, keep_crops=keep_crops) for one in image]
        return merge_poses(self.estimate(image, proposals, keep_crops), self.recipe)

    def estimate(self, image: Any, proposals: Detections | None = None, keep_crops: bool = False) -> PoseResult:
        """Run the steps before the pose NMS on one image; arguments and errors as for a call."""
        image = as_image(image)
        if proposals is None:
            if self.detector is None:
                raise InputError("this pipeline has no detector; give it boxes: pipeline(image, proposals=...)")
            proposals = self.detector(image, self.recipe.threshold, self.recipe.rounding)
        if not isinstance(proposals, Detections):
            raise InputError("proposals must be Detections, with boxes (P, 4) and scores (P,), not "
                             f"'{type(proposals).__name__}'")
        size_wh = image.shape[1], image.shape[0]
        kept = inside(proposals, size_wh, self.recipe)
        traces: list[CropTrace] = []
        poses = estimate_poses(self.pose, image, grow_boxes(kept.boxes_xyxy, size_wh, self.recipe.growth),
                               self.recipe.geometry, self.batch, traces.append if keep_crops else None)
        return PoseResult(size_wh, kept, poses, len(proposals) - len(kept), tuple(traces))


def inside(detections: Detections, size_wh: tuple[int, int], recipe: Recipe) -> Detections:
    """Select the detections whose grown box contains a pixel of the image.

    Differs: the published programs stop at any other box.
    """
    grown = grow_boxes(detections.boxes_xyxy, size_wh, recipe.growth)
    return detections.select(can_crop(grown, size_wh, recipe.geometry))


def merge_poses(result: PoseResult, recipe: Recipe) -> PoseResult:
    """Run the pose NMS of a recipe on one image's poses.

    The demo measures distances relative to the boxes that it cropped, in single precision; the batch script relative
    to the detector's boxes, in double precision.
    """
    if recipe.nms == "demo":
        boxes, scores = result.grown(recipe), result.poses.scores
    else:
        boxes, scores = result.proposals.boxes_xyxy, result.poses.scores.astype(np.float64)
    nms = pose_nms(result.poses.joints_xy, scores, boxes, recipe.nms)
    return replace(result, nms=nms)


def load_pipeline(detector: tuple[str | Path, str | Path], pose: tuple[str | Path, ...], published: str = "demo",
                  threshold: float | None = None, device: torch.device | str = "cpu", batch: int = BATCH,
                  de_transform: str | None = None, allow_python: bool = False) -> Pipeline:
    """Load both networks.

    Args:
        detector: A deploy.prototxt and its caffemodel.
        pose: A deploy.prototxt and its caffemodel, or one .t7 file.
        published: Which published program to follow: "demo", "demo-test", "torch7" or "testres".
        threshold: Detections with a higher score are people; None takes the published program's value.
        device: Where the networks run.
        batch: Crops per forward of the pose network.
        de_transform: As for ``load_net``.
        allow_python: As for ``load_net``.

    Raises:
        RmpeError: A file cannot be read, or is not a detector or pose network.
    """
    pose = (pose,) if isinstance(pose, str | PathLike) else tuple(pose)
    for what, files, counts in (("detector", detector, (2,)), ("pose network", pose, (1, 2))):
        if isinstance(files, str | PathLike) or len(files) not in counts:
            raise InputError(f"the {what} is a prototxt and a caffemodel{', or one .t7' if 1 in counts else ''}; "
                             f"{files!r} is given")
    return Pipeline(load_detector(*detector, device=device, allow_python=allow_python),
                    load_pose_network(*pose, device=device, de_transform=de_transform, allow_python=allow_python),
                    get_recipe(published, threshold), batch)
