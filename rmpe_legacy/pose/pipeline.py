"""RMPE on one image: detect people, estimate a pose in each box, merge the poses into persons."""

from __future__ import annotations

import base64
import warnings
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from rmpe_legacy.caffe.inputs import usable_device
from rmpe_legacy.errors import InputError, RmpeError
from rmpe_legacy.wording import html_text, pluralize

from .alphapose_nms import alphapose_nms
from .crop import can_crop, grow_boxes
from .demo_models import DE_TRANSFORM, DEMO_NOTE, demo_model
from .detect import Detector, load_detector
from .detector_options import DetectorOptions
from .draw import draw_people, encode_image, write_image
from .estimate import BATCH, CropTrace, PoseNetwork, estimate_poses, load_pose_network
from .formats import alphapose, coco_results
from .image_argument import to_image, to_images
from .joints import MPII16, JointSet, read_joint_set
from .nms import NmsResult, pose_nms
from .people import People, people_in
from .published import RECIPES, Recipe, default_published, get_recipe
from .results import Detections, Poses, Proposals

if TYPE_CHECKING:
    from .onnx_network import InputOptions


@dataclass(frozen=True, eq=False)
class PoseResult:
    """The result for one image: P proposals, a pose for each, and the persons that the pose NMS made of them."""

    size_wh: tuple[int, int]
    proposals: Detections
    poses: Poses
    beyond: int = 0  # detections that contain no pixel of the image; they are not among the proposals
    traces: tuple[CropTrace, ...] = ()  # one per proposal if asked for
    nms: NmsResult | None = None  # None if the pose NMS was not run (rmpe detect, rmpe pose)
    joints: JointSet = MPII16
    people: People | None = None  # the persons as the properties below give them; None without pose NMS
    image: np.ndarray | None = None  # (H, W, 3) float32 RGB from 0 to 1; None in results that were read from a file

    @property
    def keypoints(self) -> np.ndarray:
        """The joints of K people, (K, J, 3): x and y in pixels, score; x and y are NaN where a joint was not found."""
        return self._people().keypoints

    @property
    def scores(self) -> np.ndarray:
        """The score of each person, (K,): the mean of the joints' scores, or AlphaPose's with its recipe."""
        return self._people().scores

    @property
    def boxes(self) -> np.ndarray:
        """The detection that each person was built around, (K, 4): xmin, ymin, xmax, ymax in pixels."""
        return self._people().boxes_xyxy

    def to_coco(self, image_id: int = 1) -> list[dict[str, Any]]:
        """Return the people as COCO results: dicts with image_id, category_id, keypoints, score."""
        return coco_results.entries(self._people(), image_id)

    def to_alphapose(self) -> list[dict[str, Any]]:
        """Return the people as AlphaPose's results: dicts with image_id (the file name), keypoints, score, box, idx."""
        return alphapose.entries(self._people())

    def plot(self, path: str | Path | None = None) -> np.ndarray:
        """Draw the skeletons on the image: (H, W, 3) uint8 RGB.

        Args:
            path: Also write the drawing there, as .png or .jpg.

        Raises:
            InputError: The image is not at hand, because the result was read from a file.
            FileError: The drawing cannot be written.
        """
        if self.image is None:
            raise InputError("this result has no image to draw on, because it was read from a file")
        pixels = np.rint(np.clip(self.image, 0, 1) * 255).astype(np.uint8)
        drawing = draw_people(pixels, self._people())
        if path is not None:
            write_image(path, drawing)
        return drawing

    def _people(self) -> People:
        if self.people is None:
            raise InputError("this result has no persons: the pose NMS was not run")
        return self.people

    def _repr_html_(self) -> str:
        """Notebooks show the drawing and the number of people."""
        if self.people is None or self.image is None:
            return f"<pre>{html_text(repr(self))}</pre>"
        persons = pluralize(len(self.people), "person")
        data = base64.b64encode(encode_image(self.plot(), ".jpg")).decode("ascii")
        return (f'<figure><img style="max-width: 100%" src="data:image/jpeg;base64,{data}" alt="skeletons of '
                f'{persons}"><figcaption>{html_text(self.people.image)}: {persons}, '
                f"{pluralize(len(self.proposals), 'detection')}</figcaption></figure>")

    def __repr__(self) -> str:
        persons = "poses not merged" if self.people is None else pluralize(len(self.people), "person")
        width, height = self.size_wh
        return (f"PoseResult({width} x {height} pixels, {pluralize(len(self.proposals), 'detection')}, {persons}, "
                f"{self.joints.name})")

    def grown(self, recipe: Recipe) -> np.ndarray:
        """Return the boxes that were cropped, (P, 4) int64, in pixels."""
        return grow_boxes(self.proposals.boxes_xyxy, self.size_wh, recipe.growth)

    @property
    def nms_result(self) -> NmsResult:
        """Return the result of the pose NMS.

        Raises:
            InputError: The pose NMS was not run.
        """
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

    def __post_init__(self) -> None:
        if self.recipe.nms != "alphapose" and len(self.pose.joints) != len(MPII16):
            joints = self.pose.joints
            raise RmpeError(f"{self.pose.name}: has the {len(joints)} joints of {joints.name}, and the pose NMS of "
                            f"{self.recipe.name} is published for MPII's {len(MPII16)}; use --published alphapose")

    @overload
    def __call__(self, image: list | tuple, proposals: None = None, keep_crops: bool = False) -> list[PoseResult]: ...

    @overload
    def __call__(self, image: Any, proposals: Detections | None = None, keep_crops: bool = False) -> PoseResult: ...

    def __call__(self, image: Any, proposals: Detections | None = None,
                 keep_crops: bool = False) -> PoseResult | list[PoseResult]:
        """Find the people in an image, or in each image of a list.

        Args:
            image: A path; a PIL image; an (H, W, 3) RGB array of uint8 or of floats from 0 to 1; a tensor (3, H, W) of
                these; a list of images, or a batch of tensors (N, 3, H, W). See ``image_argument.to_image``.
            proposals: Boxes from another detector; only with a single image.
            keep_crops: Keep each crop, also after the STN, and its heatmaps in ``result.traces``.

        Returns:
            A PoseResult, or a list of them for a list of images.

        Raises:
            InputError: The argument is not an image.
            FileError: The file cannot be read as an image.
        """
        images = to_images(image)
        if images is not None:
            if proposals is not None:
                raise InputError(f"proposals belong to one image, but {len(images)} images are given; call the "
                                 "pipeline once per image")
            return [self(one, keep_crops=keep_crops) for one in images]
        pixels = to_image(image)
        result = merge_poses(self.estimate(pixels, proposals, keep_crops), self.recipe)
        return replace(result, people=_people_of(result, self.recipe, _name_of(image)), image=pixels)

    def estimate(self, image: Any, proposals: Detections | None = None, keep_crops: bool = False) -> PoseResult:
        """Run the steps before the pose NMS on one image; arguments as for a call.

        Raises:
            InputError: The pipeline has no detector and `proposals` is None, or an argument has the wrong type.
            FileError: The image cannot be read.
        """
        image = to_image(image)
        if proposals is None:
            if self.detector is None:
                raise InputError("this pipeline has no detector; give it boxes: pipeline(image, proposals=...)")
            proposals = self.detector(image, self.recipe.threshold, self.recipe.rounding)
        if not isinstance(proposals, Detections):
            raise InputError("proposals must be Detections, with boxes (P, 4) and scores (P,), not "
                             f"'{type(proposals).__name__}'")
        size_wh = image.shape[1], image.shape[0]
        grown = grow_boxes(proposals.boxes_xyxy, size_wh, self.recipe.growth)
        keep = can_crop(grown, size_wh, self.recipe.geometry)
        kept = proposals.select(keep)
        traces: list[CropTrace] = []
        poses = estimate_poses(self.pose, image, grown[keep], self.recipe.geometry, self.batch,
                               traces.append if keep_crops else None)
        return PoseResult(size_wh, kept, poses, len(proposals) - len(kept), tuple(traces), joints=self.pose.joints)

    def for_another_thread(self) -> Pipeline:
        """Return a pipeline that may run at the same time as this one; they share the weights."""
        detector = None if self.detector is None else self.detector.for_another_thread()
        return replace(self, detector=detector, pose=self.pose.for_another_thread())


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
    if recipe.nms == "alphapose":
        nms = alphapose_nms(result.poses.joints_xy, result.poses.scores, result.proposals.boxes_xyxy)
        return replace(result, nms=nms)
    if recipe.nms == "demo":
        boxes, scores = result.grown(recipe), result.poses.scores
    else:
        boxes, scores = result.proposals.boxes_xyxy, result.poses.scores.astype(np.float64)
    nms = pose_nms(result.poses.joints_xy, scores, boxes, recipe.nms)
    return replace(result, nms=nms)


def _name_of(image: Any) -> str:
    """The file name that results call an image by."""
    path = image if isinstance(image, str | PathLike) else getattr(image, "filename", "")
    return Path(path).name if path else "image"


def _people_of(result: PoseResult, recipe: Recipe, name: str) -> People | None:
    if result.nms is None:
        return None
    proposals = Proposals((name,), np.array([[0, len(result.proposals)]]), result.proposals.boxes_xyxy,
                          result.proposals.scores.astype(np.float64))
    return people_in(proposals, result.nms.persons, recipe.nms, result.joints, [result.size_wh])[0]


def load_pipeline(detector: tuple[str | Path, str | Path] | None = None,
                  pose: str | Path | tuple[str | Path, ...] | None = None, published: str | None = None,
                  threshold: float | None = None, device: torch.device | str = "cpu", batch: int = BATCH,
                  de_transform: str | None = None, allow_python: bool = False, joints: JointSet | str | None = None,
                  onnx_input: InputOptions | None = None, detector_options: DetectorOptions | None = None,
                  engine: str = "exact") -> Pipeline:
    """Load both networks: ``people = load_pipeline()("photo.jpg"); people.plot("out.png")``.

    Without files, the small networks of the package are loaded. They were trained on synthetic people, so their results
    on photographs are wrong; a warning says so.

    Args:
        detector: A deploy.prototxt and its caffemodel.
        pose: A deploy.prototxt and its caffemodel, one .t7 file, or one .onnx file.
        published: Which published program to follow: "demo" (the default), "demo-test", "torch7", "testres", or
            "alphapose" (the default for an .onnx file).
        threshold: Detections with a higher score are people; None takes the published program's value.
        device: Where the networks run.
        batch: Crops per forward of the pose network.
        de_transform: As for ``load_net``.
        allow_python: As for ``load_net``.
        joints: The joints of an .onnx pose network: a JointSet, its name, or a JSON file; "coco17" by default.
        onnx_input: How crops become the input of an .onnx pose network.
        detector_options: Which class of the detector is person, and how images become its input.
        engine: What runs the networks: "exact", or a faster one, see ``Net.compiled``.

    Raises:
        RmpeError: A file cannot be read, or is not a detector or pose network, or the device cannot be used.
    """
    device = usable_device(str(device))
    if detector is None or pose is None:
        warnings.warn(DEMO_NOTE, stacklevel=2)
    if pose is None:
        pose, de_transform = demo_model("pose"), de_transform or DE_TRANSFORM
    detector = demo_model("detector") if detector is None else detector
    pose = (pose,) if isinstance(pose, str | PathLike) else tuple(pose)
    for what, files, counts in (("detector", detector, (2,)), ("pose network", pose, (1, 2))):
        if isinstance(files, str | PathLike) or len(files) not in counts:
            raise InputError(f"the {what} is a prototxt and a caffemodel"
                             f"{', or one .t7 or .onnx' if 1 in counts else ''}; {files!r} is given")
    if published is None:
        published = default_published(pose[0])
    joints = read_joint_set(joints) if isinstance(joints, str | PathLike) else joints
    return Pipeline(load_detector(*detector, device=device, allow_python=allow_python, options=detector_options,
                                  engine=engine),
                    load_pose_network(*pose, device=device, de_transform=de_transform, allow_python=allow_python,
                                      joints=joints, onnx_input=onnx_input, engine=engine),
                    get_recipe(published, threshold), batch)
