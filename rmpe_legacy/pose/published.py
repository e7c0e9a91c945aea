"""The published programs, step by step: they grow, crop, round and merge differently."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike

from rmpe_legacy.errors import OptionError

from .decode import THRESHOLDS


@dataclass(frozen=True)
class Recipe:
    """The choices of one published program, each under the name that its step uses."""

    name: str
    program: str  # what published it
    threshold: float  # detections with a higher score are people
    rounding: str  # of the detector's boxes, see crop.pixel_boxes
    growth: str  # see crop.grow_boxes
    geometry: str  # of cropping, decoding and un-cropping: "demo", "torch7" or "alphapose"
    nms: str  # see nms.pose_nms; or "alphapose", see alphapose_nms, for poses of any joints

    def with_threshold(self, threshold: float | None) -> Recipe:
        """Return a copy with another threshold; None changes nothing.

        Raises:
            OptionError: The threshold is not in [0, 1).
        """
        if threshold is None:
            return self
        if not 0 <= threshold < 1:
            raise OptionError(f"the threshold is {threshold:g}; it must be at least 0 and less than 1")
        return replace(self, threshold=threshold)


_RECIPES = (
    # demo.py and util/ of RMPE@5188c23: one program from image to poses
    Recipe("demo", "demo.py", THRESHOLDS["demo"], "demo", "demo", "demo", "demo"),
    # The same for evaluation on a test set: the paper's threshold, and batch_nms.py, which keeps every person
    Recipe("demo-test", "demo.py, for a test set", THRESHOLDS["paper"], "demo", "demo", "demo", "batch"),
    # The detector's notebook, then predict/main.lua and batch_nms.py of multi-human-pose@094e29b
    Recipe("torch7", "predict/main.lua", THRESHOLDS["paper"], "notebook", "torch7", "torch7", "batch"),
    # The same as of when the authors made the results they stored, testres.h5
    Recipe("testres", "the authors' stored results", THRESHOLDS["paper"], "notebook", "testres", "torch7", "batch"),
    # The authors' successor, AlphaPose@c60106d: its crops and pose NMS, for pose networks of any joints
    Recipe("alphapose", "AlphaPose, for any joints", THRESHOLDS["alphapose"], "demo", "alphapose", "alphapose",
           "alphapose"),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def default_published(pose: str | PathLike) -> str:
    """Return the published program that suits a pose network, by the name of its weights file."""
    return "alphapose" if str(pose).lower().endswith(".onnx") else "demo"


def get_recipe(published: str, threshold: float | None = None) -> Recipe:
    """Return the recipe with this name, optionally with another threshold.

    Raises:
        RmpeError: There is no such recipe, or the threshold is not in [0, 1).
    """
    if published not in RECIPES:
        raise OptionError(f"published {published!r} is not one of {', '.join(map(repr, RECIPES))}")
    return RECIPES[published].with_threshold(threshold)
