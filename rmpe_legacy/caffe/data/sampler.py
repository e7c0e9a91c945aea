"""SSD's batch samplers: random boxes of the image for training, drawn until they meet a constraint.

Source: sampler.cpp of RMPE@5188c23 and of weiliu89/caffe@4817bf8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.errors import RmpeError

from .boxes import Boxes, coverage, jaccard
from .caffe_random import CaffeRandom, uniform_of

F = np.float32
DRAWS = 4  # a trial's random numbers: scale, aspect ratio, left, top
AT_ONCE = 64  # trials
_KINDS: dict[str, Callable[[Boxes, np.ndarray], np.ndarray]] = {
    "jaccard_overlap": jaccard,
    "sample_coverage": partial(coverage, of_others=True),
    "object_coverage": coverage,
}


def check_sampler(sampler: Message) -> None:
    """Check a Sampler for values that Caffe refuses when it draws from it.

    Raises:
        RmpeError: A range is empty or out of bounds.
    """
    if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
        raise RmpeError(f"a sampler with scales {sampler.min_scale} to {sampler.max_scale}; expected 0 < min_scale <= "
                        "max_scale <= 1")
    if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio < np.finfo(F).max:
        raise RmpeError(f"a sampler with aspect ratios {sampler.min_aspect_ratio} to {sampler.max_aspect_ratio}; "
                        "expected 0 < min_aspect_ratio <= max_aspect_ratio")


def sample_boxes(samplers: Sequence[Message], boxes: Boxes, random: CaffeRandom) -> list[np.ndarray]:
    """Return the boxes (4,) that the samplers accept for an image with these boxes.

    Samplers with use_original_image: false are ignored.
    """
    found: list[np.ndarray] = []
    for batch_sampler in samplers:
        if batch_sampler.use_original_image:
            found += _samples(batch_sampler, boxes, random)
    return found


def _samples(batch_sampler: Message, boxes: Boxes, random: CaffeRandom) -> list[np.ndarray]:
    """Run many trials at a time, consuming the same random numbers as one by one."""
    found: list[np.ndarray] = []
    wanted = batch_sampler.max_sample if batch_sampler.has("max_sample") else batch_sampler.max_trials
    trials = batch_sampler.max_trials
    while trials > 0 and len(found) < wanted:
        drawn, good = _draw(batch_sampler.sampler, random.peek(DRAWS * min(trials, AT_ONCE)).reshape(-1, DRAWS))
        drawn = drawn[: len(good) if good.all() else int(np.argmin(good))]
        plain = len(drawn) > 0
        if not plain:  # boost draws one of its numbers again, so the next draws are not where they would be
            drawn = _draw_one(batch_sampler.sampler, random)[None]
        accepted = _accepted(drawn, boxes, batch_sampler.sample_constraint)
        made = _until(accepted, wanted - len(found))
        if plain:
            random.skip(DRAWS * made)
        found += list(drawn[:made][accepted[:made]])
        trials -= made
    return found


def _until(accepted: np.ndarray, count: int) -> int:
    """How many trials it takes to find `count` samples; all of them if there are fewer."""
    places = np.flatnonzero(accepted)
    return int(places[count - 1]) + 1 if len(places) >= count else len(accepted)


def _draw(sampler: Message, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws (T, 4) -> boxes (T, 4); and which of them need no further draws, (T,)."""
    good = np.ones(len(raw), bool)

    def uniform(k: int, low, high) -> np.ndarray:
        value, kept = uniform_of(raw[:, k], low, high)
        np.logical_and(good, kept & (low <= high), out=good)
        return value

    return _box(sampler, uniform), good


def _draw_one(sampler: Message, random: CaffeRandom) -> np.ndarray:
    """One box (4,), drawing each of its numbers until boost takes it."""

    def uniform(_: int, low, high) -> np.float32:
        if low > high:
            raise RmpeError(f"a sampler of scales {sampler.min_scale} to {sampler.max_scale} cannot have aspect "
                            f"ratios of {sampler.min_aspect_ratio} to {sampler.max_aspect_ratio}: such boxes do not "
                            "fit into the image")
        return random.uniform(low, high)

    return _box(sampler, uniform)


def _box(sampler: Message, uniform: Callable) -> np.ndarray:
    """Boxes (..., 4) of random scale, aspect ratio and place; uniform(k, low, high) gives each its k-th number."""
    scale = uniform(0, F(sampler.min_scale), F(sampler.max_scale))
    square = np.float64(scale) ** 2
    least, most = F(square), F(1 / square)
    low, high = F(sampler.min_aspect_ratio), F(sampler.max_aspect_ratio)
    if sampler.descriptor.schema.dialect == "rmpe":
        aspect = uniform(1, np.maximum(low, least), np.minimum(high, most))
    else:
        aspect = np.minimum(np.maximum(uniform(1, low, high), least), most)
    with np.errstate(invalid="ignore"):  # of boxes that are not used
        w, h = scale * np.sqrt(aspect), scale / np.sqrt(aspect)
    # Differs: where rounding makes a side longer than 1, Caffe aborts; here the box then begins at 0.
    x, y = uniform(2, F(0), np.maximum(F(1) - w, F(0))), uniform(3, F(0), np.maximum(F(1) - h, F(0)))
    return np.stack([x, y, x + w, y + h], axis=-1)


def _accepted(samples: np.ndarray, boxes: Boxes, constraint: Message) -> np.ndarray:
    """(M,): whether any of the image's boxes is as near to each sample (M, 4) as the constraint asks.

    Only the first kind that it has counts, of overlap, sample coverage and object coverage: Caffe notes a success
    when that one is met, and keeps it when a later one is not (sampler.cpp:41-78).
    """
    for kind, near in _KINDS.items():
        low, high = constraint.has(f"min_{kind}"), constraint.has(f"max_{kind}")
        if low or high:
            value = near(boxes, samples)
            good = np.ones(value.shape, bool)
            if low:
                good &= ~(value < F(getattr(constraint, f"min_{kind}")))
            if high:
                good &= ~(value > F(getattr(constraint, f"max_{kind}")))
            return np.any(good, axis=1)
    return np.ones(len(samples), bool)
