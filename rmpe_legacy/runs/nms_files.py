"""``rmpe nms``: the published pose NMS on files, as batch_nms.py of multi-human-pose@094e29b runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmpe_legacy.errors import PoseFileError, RmpeError
from rmpe_legacy.files import is_same_file
from rmpe_legacy.pose.alphapose_nms import alphapose_nms
from rmpe_legacy.pose.crop import grow_boxes
from rmpe_legacy.pose.formats import check_formats, write_formats
from rmpe_legacy.pose.joints import MPII16, JointSet
from rmpe_legacy.pose.nms import PUBLISHED, NmsParameters, pose_nms
from rmpe_legacy.pose.people import people_in
from rmpe_legacy.pose.results import Proposals

from .result_files import RESULTS, read_image_sizes, read_poses, read_proposals, write_persons


@dataclass(frozen=True)
class NmsSummary:
    """What ``rmpe nms`` read and wrote."""

    images: int
    proposals: int
    persons: int
    dropped: int  # persons that the demo variant dropped for their low score
    files: tuple[Path, ...]

    def __str__(self) -> str:
        dropped = f", {self.dropped} dropped for their low score" if self.dropped else ""
        return (f"{self.images} images, {self.proposals} proposals: {self.persons} persons{dropped}; wrote "
                f"{', '.join(path.name for path in self.files)} to {self.files[0].parent}")


def run_nms(proposals: str | Path, poses: str | Path, output: str | Path, variant: str = "batch",
            image_sizes: str | Path | None = None, parameters: NmsParameters = PUBLISHED,
            joints: JointSet = MPII16, formats: Sequence[str] = ()) -> NmsSummary:
    """Merge the poses of a proposals folder into persons and write the four result files.

    Args:
        proposals: A folder with index.txt, score.txt and test-bbox.h5.
        poses: The pose network's testres.h5.
        output: The folder for pred.txt, scores.txt, scores-proposals.txt and index.txt; created if missing.
        variant: "batch" or "demo"; or "alphapose", for poses of any joints.
        image_sizes: A text file with ``name width height`` per line. The published demo measures distances relative
            to the grown boxes that it cropped; with this file the folder's boxes are grown in the same way, without
            it they are used as they are.
        parameters: The parameters of the published pose NMS; "alphapose" has its own.
        joints: The joint set of the poses.
        formats: Further result formats to write, of pose.formats.FORMATS.

    Raises:
        RmpeError: A file is missing, damaged or does not match the others. Nothing is written.
    """
    source, target = Path(proposals), Path(output)
    if is_same_file(target, source):
        raise RmpeError(f"{target}: the results would overwrite the index.txt of the proposals; "
                        "choose another output folder")
    if image_sizes is not None and variant != "demo":
        raise RmpeError(f"{image_sizes}: image sizes are for the demo variant, which grows the boxes; {variant!r} "
                        "uses the detector's boxes as they are")
    if joints != MPII16 and variant != "alphapose":
        raise RmpeError(f"the pose NMS {variant!r} is published for MPII's 16 joints, not for {joints.name}; use "
                        "--variant alphapose")
    check_formats(formats, joints)
    found, network = read_proposals(source), read_poses(poses, len(joints))
    if len(network) != len(found):
        raise PoseFileError(f"{poses}: has {len(network)} poses, but {source} has {len(found)} boxes; "
                            "give the poses estimated in these boxes")
    boxes = found.boxes_xyxy if image_sizes is None else _grown(found, image_sizes)
    if variant == "alphapose":
        result = alphapose_nms(network.joints_xy, network.scores, boxes, ranges=found.ranges)
    else:
        result = pose_nms(network.joints_xy, network.scores, boxes, variant, parameters, found.ranges)
    write_persons(target, result.persons, found, variant)
    write_formats(target, formats, people_in(found, result.persons, variant, joints))
    return NmsSummary(len(found.images), len(found), len(result.persons), len(result.dropped),
                      tuple(target / name for name in RESULTS))


def _grown(proposals: Proposals, image_sizes: str | Path) -> np.ndarray:
    """Grow the boxes as the demo does, clipped to their images."""
    sizes = read_image_sizes(image_sizes)
    boxes = proposals.boxes_xyxy.copy()
    for name, (first, end) in zip(proposals.images, proposals.ranges.tolist(), strict=True):
        if name not in sizes:
            raise PoseFileError(f"{image_sizes}: has no size for {name}")
        boxes[first:end] = grow_boxes(proposals.boxes_xyxy[first:end], sizes[name], "demo")
    return boxes
