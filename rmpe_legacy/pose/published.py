"""Which of the published programs is followed, step by step: they grow, cut, round and merge differently."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rmpe_legacy.errors import RmpeError

from .decode import THRESHOLDS


@dataclass(frozen=True)
class Recipe:
    """The choices of one published program, each by the name that its step knows it by."""

    name: str
    threshold: float  # detections above it are people
    rounding: str  # of the detector's boxes, as for geometry.pixel_boxes
    growth: str  # as for geometry.grow_boxes
    geometry: str  # of crop, read-out and way back: "demo" or "torch7"
    nms: str  # as for nms.pose_nms

    def with_threshold(self, threshold: float | None) -> Recipe:
        """The same with another threshold; None leaves it."""
        if threshold is None:
            return self
        if not 0 <= threshold < 1:
            raise RmpeError(f"threshold {threshold:g} is not from 0 to below 1")
        return replace(self, threshold=threshold)


_RECIPES = (
    # demo.py and util/ of RMPE@5188c23: one program from picture to poses
    Recipe("demo", THRESHOLDS["demo"], "demo", "demo", "demo", "demo"),
    # The same over a test set, to be judged: the paper's threshold, and batch_nms.py, which keeps every person
    Recipe("demo-test", THRESHOLDS["paper"], "demo", "demo", "demo", "batch"),
    # The detector's notebook, then predict/main.lua and batch_nms.py of multi-human-pose@094e29b
    Recipe("torch7", THRESHOLDS["paper"], "notebook", "torch7", "torch7", "batch"),
    # The same as it was when the authors made the results they stored, testres.h5
    Recipe("testres", THRESHOLDS["paper"], "notebook", "testres", "torch7", "batch"),
)
RECIPES = {recipe.name: recipe for recipe in _RECIPES}


def recipe(published: str, threshold: float | None = None) -> Recipe:
    """The recipe of a name, one of RECIPES; threshold: another than its own."""
    if published not in RECIPES:
        raise RmpeError(f"published {published!r} is not one of {', '.join(map(repr, RECIPES))}")
    return RECIPES[published].with_threshold(threshold)
