"""The published programs, step by step: they grow, crop, round and merge differently."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rmpe_legacy.errors import RmpeError

from .decode import THRESHOLDS


@dataclass(frozen=True)
class Recipe:
    """The choices of one published program, each under the name that its step uses."""

    name: str
    threshold: float  # detections with a higher score are people
    rounding: str  # of the detector's boxes, see crop.pixel_boxes
    growth: str  # see crop.grow_boxes
    geometry: str  # of cropping, decoding and un-cropping: "demo" or "torch7"
    nms: str  # see nms.pose_nms

    def with_threshold(self, threshold: float | None) -> Recipe:
        """Return a copy with another threshold; None changes nothing."""
        if threshold is None:
            return self
        if not 0 <= threshold < 1:
            raise RmpeError(f"threshold {threshold:g} is not from 0 to below 1")
        return replace(self, threshold=threshold)


_RECIPES = (
    # demo.py and util/ of RMPE@5188c23: one program from image to poses
    Recipe("demo", THRESHOLDS["demo"], "demo", "demo", "demo", "demo"),
    # The same for evaluation on a test set: the paper's threshold, and batch_nms.py, which keeps every person
    Recipe("demo-test", THRESHOLDS["paper"], "demo", "demo", "demo", "batch"),
    # The detector's notebook, then predict/main.lua and batch_nms.py of multi-human-pose@094e29b
    Recipe("torch7", THRESHOLDS["paper"], "notebook", "torch7", "torch7", "batch"),
    # The same as of when the authors made the results they stored, testres.h5
    Recipe("testres", THRESHOLDS["paper"], "notebook", "testres", "torch7", "batch"),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def get_recipe(published: str, threshold: float | None = None) -> Recipe:
    """Return the recipe with this name, optionally with another threshold. Raises RmpeError for an unknown name."""
    if published not in RECIPES:
        raise RmpeError(f"published {published!r} is not one of {', '.join(map(repr, RECIPES))}")
    return RECIPES[published].with_threshold(threshold)
