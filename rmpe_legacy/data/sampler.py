"""SSD's batch samplers: boxes of the picture to train on, drawn at random until they meet a constraint.

Source: sampler.cpp of RMPE@5188c23 and of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.proto.message import Message

from .boxes import Boxes, coverage, jaccard
from .draws import CaffeRandom

F = np.float32


def check_sampler(sampler: Message) -> None:
    """RmpeError for a Sampler that Caffe refuses when it draws from it."""
    if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
        raise RmpeError(f"a sampler with scales {sampler.min_scale} to {sampler.max_scale}; 0 < min_scale <= max_scale "
                        "<= 1 is needed")
    if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio < np.finfo(F).max:
        raise RmpeError(f"a sampler with aspect ratios {sampler.min_aspect_ratio} to {sampler.max_aspect_ratio}; "
                        "0 < min_aspect_ratio <= max_aspect_ratio is needed")


def sample_boxes(samplers: Sequence[Message], boxes: Boxes, random: CaffeRandom) -> list[np.ndarray]:
    """Boxes (4,) that the samplers accept for a picture with these boxes. None of use_original_image: false."""
    found: list[np.ndarray] = []
    for batch_sampler in samplers:
        if batch_sampler.use_original_image:
            found += _samples(batch_sampler, boxes, random)
    return found


def _samples(batch_sampler: Message, boxes: Boxes, random: CaffeRandom) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for _ in range(batch_sampler.max_trials):
        if batch_sampler.has("max_sample") and len(found) >= batch_sampler.max_sample:
            break
        box = _draw(batch_sampler.sampler, random)
        if _accepted(box, boxes, batch_sampler.sample_constraint):
            found.append(box)
    return found


def _draw(sampler: Message, random: CaffeRandom) -> np.ndarray:
    """A box of random scale, aspect ratio and place inside the picture."""
    scale = random.uniform(sampler.min_scale, sampler.max_scale)
    square = np.float64(scale) ** 2
    least, most = F(square), F(1 / square)
    low, high = F(sampler.min_aspect_ratio), F(sampler.max_aspect_ratio)
    if sampler.descriptor.schema.dialect == "rmpe":
        low, high = max(low, least), min(high, most)
        if low > high:
            raise RmpeError(f"a sampler of scale {scale} cannot have an aspect ratio of {sampler.min_aspect_ratio} to "
                            f"{sampler.max_aspect_ratio}: only {least} to {most} fits into the picture")
        aspect = random.uniform(low, high)
    else:
        aspect = min(max(random.uniform(low, high), least), most)
    width, height = scale * np.sqrt(aspect), scale / np.sqrt(aspect)
    # Differs: where rounding makes a side longer than 1, Caffe aborts; here the box then begins at 0.
    x, y = random.uniform(0, max(F(1) - width, F(0))), random.uniform(0, max(F(1) - height, F(0)))
    return np.array([x, y, x + width, y + height], F)


def _accepted(box: np.ndarray, boxes: Boxes, constraint: Message) -> bool:
    """Whether any of the picture's boxes is as near as the constraint asks.

    Only the first kind that it has counts, of overlap, sample coverage and object coverage: Caffe notes a success
    when that one is met, and keeps it when a later one is not (sampler.cpp:41-78).
    """
    kinds = {
        "jaccard_overlap": jaccard(boxes, box),
        "sample_coverage": coverage(boxes, box, of_other=True),
        "object_coverage": coverage(boxes, box),
    }
    for kind, value in kinds.items():
        low, high = constraint.has(f"min_{kind}"), constraint.has(f"max_{kind}")
        if low or high:
            good = np.ones(len(boxes), bool)
            if low:
                good &= ~(value < F(getattr(constraint, f"min_{kind}")))
            if high:
                good &= ~(value > F(getattr(constraint, f"max_{kind}")))
            return bool(good.any())
    return True
