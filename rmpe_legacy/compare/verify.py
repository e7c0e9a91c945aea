"""Compares two networks: runs both on the same inputs and compares them blob by blob."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from rmpe_legacy.caffe.layers.base import Shape, shape_text
from rmpe_legacy.errors import NetError
from rmpe_legacy.formats.base import (
    Arrays,
    ExactRunner,
    PiecewiseRunner,
    Runner,
    RunResult,
    SampleRunner,
    ScalingRunner,
    TypicalRunner,
    check_shapes,
)
from rmpe_legacy.formats.npz import StoredRunner
from rmpe_legacy.formats.torch7 import Torch7Runner
from rmpe_legacy.text_table import text_table
from rmpe_legacy.wording import pluralize, shorten_list

TOLERANCE = 1e-4  # relative to a blob's largest value: sums of thousands of products in another order, in many layers
SEED = 1701
RANGE = (-1.0, 1.0)  # of random inputs
NOISE = 5  # multiple of A's own rounding error that is accepted if it exceeds the tolerance
NUDGE = 1e-6  # relative; what rounding may change in a value
MAX_NOISE = 1e-2  # relative; larger differences are never attributed to rounding
DRAWS = 30  # how often a network may set values to 0 at random until a blob has one that A and B both keep
_CHANCE = 6  # standard deviations between two numbers of values that are dropped at random
_PIECE = 1 << 16  # values compared at a time, so that what is computed on the way stays in the cache
_SMALLEST = float(np.finfo(np.float32).eps)  # probabilities below float32 eps are treated as 0
_COARSE = 2.0**-24 / TOLERANCE  # those below, if they are rounded to multiples of 2^-24, which then is TOLERANCE


@dataclass(frozen=True)
class Difference:
    """The difference of one blob between A and B."""

    blob: str
    made_by: str  # the layers that compute it
    shapes: tuple[Shape, Shape]
    absolute: float = np.inf  # the largest difference; inf if shapes, or positions of NaN and infinity, differ
    relative: float = np.inf  # relative to A's largest value
    allowed: float = TOLERANCE  # accepted value of `relative`
    ulp: float = np.inf  # in units in the last place (single precision) of the larger value

    @property
    def is_same(self) -> bool:
        """Whether the difference is accepted; NaN is not."""
        return self.relative <= self.allowed


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison."""

    a: str
    b: str
    inputs: str  # description of the inputs
    tolerance: float
    differences: tuple[Difference, ...]  # in A's order of computation
    only_a: tuple[str, ...]  # outputs that B lacks
    only_b: tuple[str, ...]
    given: tuple[str, ...] = ()  # blobs that B's layers read as A has them
    scaled: tuple[str, ...] = ()  # blobs that layers of both read scaled, because the network overflows
    overflows: bool = False  # A has infinity or NaN all the same
    typical: tuple[str, ...] = ()  # blobs in whose place layers of both read typical values

    @property
    def first(self) -> Difference | None:
        """The first blob that differs."""
        return next((d for d in self.differences if not d.is_same), None)

    @property
    def same(self) -> bool:
        return self.first is None

    @property
    def sentence(self) -> str:
        """The verdict as one line."""
        worst = max(self.differences, key=lambda d: d.relative)
        if self.first is None:
            noisy = sum(d.relative > self.tolerance for d in self.differences)
            more = f", or {NOISE} times A's own rounding error, as for {noisy} of them" if noisy else ""
            given = f"; layers that read {shorten_list(self.given)} were given A's values" if self.given else ""
            if self.scaled:
                given += (f"; the network overflows, so {shorten_list(self.scaled)} were scaled to a range of 1 before "
                          "layers read them")
            if self.typical:
                given += f"; layers that read {shorten_list(self.typical)} were given typical values"
            one = len(self.differences) == 1
            differ, their = ("differs", "its") if one else ("differ", "their")
            return (f"the same: {pluralize(len(self.differences), 'blob')} {differ} by {worst.relative:.2g} of {their} "
                    f"range at most ({worst.blob}); {self.tolerance:g} is accepted{more}{given}")
        apart = sum(not d.is_same for d in self.differences)
        by = f", computed by {self.first.made_by}" if self.first.made_by else ""
        return (f"not the same: {apart} of {len(self.differences)} blobs differ by more than {self.tolerance:g} of "
                f"their range; the first is {self.first.blob}{by}: {difference_text(self.first)}")

    def __str__(self) -> str:
        return report(self)


def verify(a: Runner, b: Runner, inputs: Mapping[str, np.ndarray] | None = None, tolerance: float = TOLERANCE,
           limits: tuple[float, float] = RANGE, seed: int = SEED, extra_batch: int = 0,
           shapes: Mapping[str, Shape] | None = None) -> Verdict:
    """Run both networks on the same inputs and compare all common blobs, by name.

    For probabilities (the top of a Softmax or Sigmoid) the logarithms are compared too, because saturated values hide
    differences. A blob that differs by more than `tolerance` is accepted if the difference is at most NOISE times A's
    own rounding error, found by running A in double precision if that is possible.

    A layer that picks rows by comparing values, such as regions by score and overlap, can turn a last bit into other
    rows. If the two differ, such layers of B and those behind them are run on A's values, if B can do that: then
    each blob is compared by what B makes of the same values. If that does not explain the difference, the same is done
    for other layers that compare or round values, and for Softmax and Sigmoid, which amplify differences of large
    numbers. If they differ still, and what A picks is infinite or is changed by rounding alone, as without training,
    where scores may be all the same, the layers that pick rows are run on typical values in both.

    Layers that read what another sets to 0 at random are given A's values too. Such a blob is compared where both have
    a value, for which each network is run up to DRAWS times, and by the number of zeros.

    A network that overflows, as one with untrained BatchNorms does, would hide differences behind infinity. Then blobs
    of a range far from 1 are scaled before further layers read them, in both networks, if B can do that; and layers
    that pick rows read typical values.

    Args:
        a: The reference.
        b: The network to compare with it.
        inputs: name -> array. Missing inputs are taken from stored blobs, or are random (see ``random_input``).
        tolerance: Largest accepted difference of a blob relative to its range.
        limits: Range of random inputs.
        seed: Seed of random inputs.
        extra_batch: Added to the batch size of random inputs.
        shapes: Shapes of random inputs in place of the networks' own.

    Raises:
        NetError: The two cannot be compared.
    """
    values, description = _inputs(a, b, dict(inputs or {}), limits, seed, extra_batch, shapes or {})
    for side in (a, b):
        check_shapes(side, values)
    return _Comparison(a, b, values, tolerance, seed).verdict(description)


class _Comparison:
    """What both networks compute, and on which values; see ``verify``."""

    def __init__(self, a: Runner, b: Runner, values: Arrays, tolerance: float, seed: int):
        self.a, self.b, self.values, self.tolerance, self.seed = a, b, values, tolerance, seed
        self.scaled: Arrays = {}  # see Verdict
        self.given: Arrays = {}
        self.typical: Arrays = {}
        self.ran_a = self._run_a()
        self.ran_b = b.run(values, _shapes(self.ran_a))
        if isinstance(a, ScalingRunner) and isinstance(b, PiecewiseRunner) and not _is_finite(self.ran_a):
            self.ran_a, self.scaled = a.run_scaled(values, self.ran_b.blobs.keys())
            self._pick_from_typical()
            self.ran_b = b.run_from(values, _shapes(self.ran_a), {**self.typical, **self.scaled})
        if self.ran_a.random and isinstance(b, PiecewiseRunner):
            self.given = self._a_values(self.ran_a.random)
            self.ran_b = self._run_from_given(b)
        if not isinstance(b, StoredRunner) and isinstance(a, StoredRunner):
            blobs, order = self.ran_a.blobs, [*self.ran_b.blobs, *self.ran_a.blobs]
            self.ran_a = replace(self.ran_a, makers=self.ran_b.makers, blobs={k: blobs[k] for k in order if k in blobs})
        self.made = {*self.ran_a.outputs, *self.ran_b.outputs}  # includes an input that a layer overwrites

    def verdict(self, inputs: str) -> Verdict:
        """Compare in stages until one finds no difference. inputs: their description."""
        verdict: Verdict | None = None
        for differences in self.stages():
            stage = Verdict(self.a.title, self.b.title, inputs, self.tolerance, tuple(differences), (), (),
                            tuple(self.given), tuple(self.scaled), not _is_finite(self.ran_a), tuple(self.typical))
            # A later stage that still finds the first difference says nothing new, and hides what follows from it.
            if (verdict is None or stage.first is None or verdict.first is None
                    or stage.first.blob != verdict.first.blob):
                verdict = stage
            if stage.same:
                break
        assert verdict is not None  # there is a stage
        if not {d.blob for d in verdict.differences} & self.made:
            raise NetError(f"{self.a.title} and {self.b.title} have no output name in common "
                           f"({', '.join(self.ran_a.outputs)} and {', '.join(self.ran_b.outputs)}), so they cannot be "
                           "compared")
        only_a, only_b = (tuple(blob for blob in one.outputs if blob not in other.blobs)
                          for one, other in ((self.ran_a, self.ran_b), (self.ran_b, self.ran_a)))
        return replace(verdict, only_a=only_a, only_b=only_b)

    def _pick_from_typical(self) -> None:
        """Let layers that pick rows read typical values: of scores behind scaled blobs, which are all much alike, they
        may pick millions."""
        if not isinstance(self.a, TypicalRunner):
            return
        self.typical = self.a.typical_blobs(self.ran_b.blobs.keys() - self.values.keys(),
                                            np.random.default_rng(self.seed))
        if self.typical:
            self.scaled = {blob: value for blob, value in self.scaled.items() if blob not in self.typical}
            self.ran_a = self.a.run_from(self.values, _shapes(self.ran_a), {**self.typical, **self.scaled})

    def stages(self) -> Iterator[list[Difference]]:
        """Yield the differences, each time with more blobs that B reads as A has them; at least once."""
        b = self.b
        if not isinstance(b, PiecewiseRunner):
            yield self._judged(self._differences())
            return
        few, more = (self._a_values(self.ran_a.random | blobs)
                     for blobs in (self.ran_a.turning, self.ran_a.turning | self.ran_a.steep))
        yield from self._given_stages(b, few, more)
        if not self.typical and isinstance(self.a, TypicalRunner) and (typical := self.a.typical_blobs(
                self.ran_b.blobs.keys() - self.values.keys() - self.scaled.keys(), np.random.default_rng(self.seed))):
            if not self._is_undecided(self.a, typical):
                return
            self.typical = typical
            self.ran_a = self.a.run_from(self.values, _shapes(self.ran_a), {**typical, **self.scaled})
            self.given = self._a_values(self.ran_a.random | self.ran_a.turning | self.ran_a.steep)
            self.ran_b = self._run_from_given(b)
            yield self._judged(self._differences())

    def _given_stages(self, b: PiecewiseRunner, few: Arrays, more: Arrays) -> Iterator[list[Difference]]:
        """Yield the differences without further blobs of A, with `few` and with `more`.

        A's own rounding error takes a run in double precision, so a stage that it cannot explain, before the last one,
        is yielded only if that does not explain it either.
        """
        put_off: list[tuple[Arrays, list[Difference]]] = []
        first = self.given
        for given in (first, few, more):
            if given.keys() != self.given.keys():
                self.given = given
                self.ran_b = self._run_from_given(b)
            elif given is not first:
                continue
            differences = self._differences()
            if all(d.is_same for d in differences):
                yield differences
            elif given is first and few.keys() != first.keys():
                continue  # other rows are likely, which the next stage excludes
            elif given.keys() != more.keys() and any(not (d.is_same or d.relative <= MAX_NOISE) for d in differences):
                put_off = [(given, differences)]
            else:
                for self.given, found in [*put_off, (given, differences)]:
                    yield self._judged(found)

    def _run_a(self) -> RunResult:
        """Run A; again while a blob of random zeros is 0 throughout."""
        for _ in range(DRAWS):
            ran = self.a.run(self.values, None)
            if all(ran.blobs[blob].any() for blob in ran.random if blob in ran.blobs):
                break
        return ran

    def _run_from_given(self, b: PiecewiseRunner) -> RunResult:
        """Run B on the blobs that it is given; again while a blob of random zeros has no value that both keep."""
        for _ in range(DRAWS):
            ran = b.run_from(self.values, _shapes(self.ran_a), {**self.given, **self.typical, **self.scaled})
            if all(blob not in ran.blobs or _share_values(self.ran_a.blobs[blob], ran.blobs[blob])
                   for blob in self.ran_a.random):
                break
        return ran

    def _is_undecided(self, a: TypicalRunner, blobs: Collection[str]) -> bool:
        """Whether A picks something infinite from its own values of these blobs, or rounding changes what it picks."""
        picked = [blob for blob in a.picked if blob in self.ran_a.blobs]
        if not all(bool(np.isfinite(self.ran_a.blobs[blob]).all()) for blob in picked):
            return True
        random = np.random.default_rng(self.seed)
        nudged = {blob: (value * (1 + NUDGE * random.uniform(-1, 1, value.shape))).astype(np.float32)
                  for blob, value in self.ran_a.blobs.items() if blob in blobs}
        again = a.run_from(self.values, _shapes(self.ran_a), {**nudged, **self.scaled})
        return any(not d.relative <= self.tolerance for blob in picked
                   for d in _compare(blob, self.ran_a, again, self.tolerance))

    def _a_values(self, blobs: Collection[str]) -> dict[str, np.ndarray]:
        return _given(blobs, self.ran_a, self.ran_b, {*self.values, *self.scaled, *self.typical})

    def _differences(self) -> list[Difference]:
        return [replace(d, allowed=self.tolerance) for blob in self.ran_a.blobs
                if blob in self.ran_b.blobs and (blob in self.made or blob not in self.values)
                for d in _compare(blob, self.ran_a, self.ran_b, self.tolerance)]

    def _judged(self, differences: list[Difference]) -> list[Difference]:
        """Accept differences of the size of A's own rounding error."""
        if all(d.is_same for d in differences):
            return differences
        return _allow_for_rounding(differences, self.a, self.ran_a, self.values,
                                   {**self.given, **self.typical, **self.scaled})


def _given(blobs: Collection[str], a: RunResult, b: RunResult, known: Collection[str]) -> dict[str, np.ndarray]:
    """Return A's values of these blobs; of what a blob is made from, if B does not have it."""
    left, given = list(blobs), {}
    seen = set(left)
    while left:
        blob = left.pop()
        if blob in b.blobs:
            if blob not in known:
                given[blob] = a.blobs[blob]
            continue
        more = set(a.made_from.get(blob, ())) - seen
        left += more
        seen |= more
    return {blob: given[blob] for blob in a.blobs if blob in given}


def _shapes(ran: RunResult) -> dict[str, Shape]:
    return {blob: value.shape for blob, value in ran.blobs.items()}


def _is_finite(ran: RunResult) -> bool:
    return all(bool(np.isfinite(value).all()) for value in ran.blobs.values())


def _allow_for_rounding(differences: list[Difference], a: Runner, ran: RunResult, inputs: Arrays, given: Arrays
                        ) -> list[Difference]:
    """Accept differences of the size of A's own rounding error, which a run in double precision shows.

    A SpatialTransformer amplifies the last bits of its theta, and the layers behind it inherit the difference.
    """
    if not isinstance(a, ExactRunner):
        return differences
    own: dict[str, float] = {}

    def see(blob: str, exact: np.ndarray) -> None:
        if (rounded := ran.blobs.get(blob)) is not None and blob not in ran.random:
            own[blob] = difference(blob, "", exact, rounded).relative
            if blob in ran.saturating and exact.shape == rounded.shape:
                smallest = _COARSE if blob in ran.coarse else _SMALLEST
                own[f"log({blob})"] = difference(blob, "", *(_log(p, smallest) for p in (exact, rounded))).relative

    a.exact(inputs, given, see)
    noise = {blob: relative for blob, relative in own.items() if np.isfinite(relative)}  # else it is no rounding
    return [replace(d, allowed=max(d.allowed, min(NOISE * noise.get(d.blob, 0.0), MAX_NOISE))) for d in differences]


def common_inputs(a: Runner, b: Runner) -> dict[str, Shape]:
    """Return the inputs of two networks. A's shapes win over B's, except those inferred for a Torch7 file."""
    known: dict[str, Shape] = {}
    for side in sorted((b, a), key=lambda side: not isinstance(side, Torch7Runner)):
        known |= side.inputs() or {}
    return known


def _inputs(a: Runner, b: Runner, given: dict[str, np.ndarray], limits: tuple[float, float], seed: int,
            extra_batch: int, other: Mapping[str, Shape]) -> tuple[Arrays, str]:
    shapes = common_inputs(a, b) | dict(other)
    description = [f"{name} given" for name in given]
    for side in (a, b):
        if isinstance(side, StoredRunner):
            stored = {name: np.asarray(side.blobs[name], np.float32) for name in shapes
                     if name in side.blobs and name not in given}
            given |= stored
            description += [f"{name} from {side.title}" for name in stored]
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        if name not in given:
            if not shape:
                raise NetError(f"input {name!r} has no shape in the prototxt; give it with --input")
            typical = [side.typical(name, random) for side in (a, b) if isinstance(side, SampleRunner)]
            if (value := next((value for value in typical if value is not None), None)) is not None:
                given[name] = value
                description.append(f"{name} {shape_text(value.shape)} with typical values")
                continue
            shape = (shape[0] + extra_batch, *shape[1:])
            given[name] = random_input(random, shape, limits)
            description.append(f"{name} {shape_text(shape)} random in {limits[0]:g} to {limits[1]:g}, seed {seed}")
    if not given and {} not in (a.inputs(), b.inputs()):  # a network whose layers make all blobs has no inputs
        raise NetError(f"neither {a.title} nor {b.title} names its inputs; give them with --input")
    for name, value in given.items():
        if not np.isfinite(value).all():
            raise NetError(f"input {name!r} has values that are nan or infinite, which hide differences; give others")
    return given, "; ".join(description) or "no inputs"


def random_input(random: np.random.Generator, shape: Shape, limits: tuple[float, float] = RANGE) -> np.ndarray:
    """Return a random input, float32 in the given shape: uniform noise, or for N x C x H x W noise with a spectrum like
    that of photographs.

    Photographs vary more at coarse scales than at fine ones. In white noise neighbouring pixels differ so much that
    sampling would amplify the last bit of a coordinate.
    """
    values = random.uniform(-1, 1, shape)
    if len(shape) == 4 and min(shape[2:]) > 1:
        cell = 2
        while cell < max(shape[2:]):
            coarse = random.uniform(-cell, cell, (*shape[:2], *(-(-size // cell) + 1 for size in shape[2:])))
            values += F.interpolate(torch.from_numpy(coarse), shape[2:], mode="bilinear", align_corners=True).numpy()
            cell *= 2
        values /= np.abs(values).max()
    low, high = limits
    return (low + (high - low) * (values + 1) / 2).astype(np.float32)


def _compare(blob: str, a: RunResult, b: RunResult, tolerance: float) -> list[Difference]:
    made_by = a.makers.get(blob) or b.makers.get(blob, "")
    x, y = a.blobs[blob], b.blobs[blob]
    if blob in a.detections | b.detections and x.shape == y.shape:
        y = in_order_of(x, y, tolerance)
    if blob in a.random and x.shape == y.shape:
        y = _where_both_keep(x, y)
    differences = [difference(blob, made_by, x, y)]
    if blob in a.saturating | b.saturating and x.shape == y.shape:
        smallest = _COARSE if blob in a.coarse | b.coarse else _SMALLEST
        differences.append(difference(f"log({blob})", made_by, *(_log(p, smallest) for p in (x, y))))
    return differences


def _share_values(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two blobs of one shape with random zeros have a value at the same place, if x has one at all."""
    return x.shape != y.shape or not x.any() or bool(((x != 0) & (y != 0)).any())


def _where_both_keep(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return y, but with x wherever one of them is 0; unless no value is left to compare, or they differ in how many
    values are 0, by more than six standard deviations of what chance does."""
    more = np.count_nonzero(x == 0) - np.count_nonzero(y == 0)
    if abs(more) > _CHANCE * math.sqrt(x.size / 2) or not _share_values(x, y):
        return y
    return np.where((x == 0) | (y == 0), x, y)


def in_order_of(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """Reorder detections b, (..., 7 or more), like a where equal scores leave the order undefined.

    A row is image, label, score, four corners and perhaps more. Consecutive rows of one image and label whose scores
    are within `tolerance` are paired by smallest difference; all others keep their positions.
    """
    rows, others = (each.reshape(-1, a.shape[-1]) for each in (a, b))
    tied = (rows[1:, :2] == rows[:-1, :2]).all(axis=1) & (np.abs(np.diff(rows[:, 2])) <= tolerance)
    starts = np.flatnonzero(np.concatenate([[True], ~tied])) if len(rows) else np.empty(0, int)
    order = np.arange(len(rows))
    for begin, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        left = list(range(begin, end))
        for i in range(begin, end) if len(left) > 1 else ():
            apart = np.abs(others[left] - rows[i]).max(axis=1)
            order[i] = left.pop(int(np.argmin(apart)))
    return others[order].reshape(b.shape)


def _log(p: np.ndarray, smallest: float) -> np.ndarray:
    return np.log(np.maximum(p.astype(np.float64), smallest))


def difference(blob: str, made_by: str, a: np.ndarray, b: np.ndarray) -> Difference:
    """Compute the difference of b from a, arrays of the same shape. Values that are not finite must be equal."""
    if a.shape != b.shape:
        return Difference(blob, made_by, (a.shape, b.shape))
    flat = a.ravel(), b.ravel()
    absolute = largest = ulp = 0.0
    for begin in range(0, a.size, _PIECE):
        with np.errstate(invalid="ignore"):  # of a signalling NaN
            x, y = (np.asarray(each[begin : begin + _PIECE], np.float64) for each in flat)
        finite = np.isfinite(x)
        if not finite.all():
            if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
                return Difference(blob, made_by, (a.shape, b.shape))
            x, y = x[finite], y[finite]
        with np.errstate(invalid="ignore"):
            apart, size = np.abs(x - y), np.abs(x)
        if np.isnan(apart).any():
            return Difference(blob, made_by, (a.shape, b.shape))
        with np.errstate(over="ignore"):
            units = np.spacing(np.maximum(np.maximum(size, np.abs(y)), np.finfo(np.float32).tiny).astype(np.float32))
        absolute, largest = max(absolute, float(apart.max(initial=0))), max(largest, float(size.max(initial=0)))
        with np.errstate(divide="ignore"):
            ulp = max(ulp, float((apart / units).max(initial=0)))
    relative = float(np.divide(absolute, largest)) if largest else np.inf if absolute else 0.0
    return Difference(blob, made_by, (a.shape, b.shape), absolute, relative, ulp=ulp)


def report(verdict: Verdict) -> str:
    """Format the comparison as text: the verdict, then one line per blob."""
    rows = [("blob", "largest difference", "relative", "ulp", "computed by")]
    for d in verdict.differences:
        mark = "" if d.is_same else "  <- first difference" if d is verdict.first else "  <-"
        if np.isinf(d.absolute) and d.shapes[0] != d.shapes[1]:
            rows.append((d.blob, difference_text(d), "", "", d.made_by + mark))
        else:
            rows.append((d.blob, f"{d.absolute:.3g}", f"{d.relative:.3g}", f"{d.ulp:.3g}", d.made_by + mark))
    notes = [f"only in {side}: {', '.join(blobs)}"
             for side, blobs in ((verdict.a, verdict.only_a), (verdict.b, verdict.only_b)) if blobs]
    return "\n".join([f"A  {verdict.a}", f"B  {verdict.b}", f"run on  {verdict.inputs}", "", verdict.sentence, *notes,
                      "", *text_table(rows)])


def difference_text(d: Difference) -> str:
    if d.shapes[0] != d.shapes[1]:
        return f"{shape_text(d.shapes[0])} and {shape_text(d.shapes[1])}"
    if np.isinf(d.absolute):
        return "NaN or infinity at different positions"
    return f"{d.absolute:.3g}, relative {d.relative:.3g}"


def arrays_same(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Return whether arrays have the same types, shapes and bits."""
    return len(a) == len(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


__all__ = ["RANGE", "SEED", "TOLERANCE", "Arrays", "Difference", "Verdict", "report", "verify"]
