"""Finds the sizes of a network's blobs for other batches, heights and widths of its inputs.

No formula is derived: the layers are set up for several sizes, and what their shapes do there decides. A layer that
cannot be set up for another size names itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rmpe_legacy.caffe.layers.base import Layer, Shape, shape_text
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.caffe.wiring import wire_quietly
from rmpe_legacy.errors import NetError, RmpeError

AXES = {"batch": 0, "height": 2, "width": 3}  # of an input N x C x H x W
# What is added to a height or width, in the order in which it is tried: odd sizes find what rounds, the rest is for
# networks that need multiples of a power of 2.
_LITTLE = (1, 3, 5, 2, 4, 8, 16, 32, 64)
_MUCH = (37, 36, 32, 48, 64, 128, 256)
_BATCHES = (1, 3, 2)


def axes_text(axes: Iterable[str]) -> str:
    """Return axes as words: "batch, height and width"."""
    *others, last = axes
    return f"{', '.join(others)} and {last}" if others else last


def before(layer: Layer) -> str:
    """Return the argument of --until that leaves out a layer: its bottom, unless it overwrites that."""
    spec = layer.spec
    return next((bottom for bottom in spec.bottom[:1] if bottom not in spec.top), "BLOB")


@dataclass(frozen=True)
class Sizes:
    """The network's steps at its own sizes, and set up for others.

    Attributes:
        axes: Which axes of the inputs can have any size.
        own: Each one's size in the prototxt.
        elsewhere: The steps for other sizes. In the last two, all axes differ.
    """

    axes: tuple[str, ...]
    own: Mapping[str, int]
    steps: Sequence[Step]
    elsewhere: tuple[Sequence[Step], ...]

    def inputs(self) -> tuple[dict[str, Shape], ...]:
        """Return the shapes of the inputs for which a conversion is compared: all axes differ."""
        return tuple({top: shape for step in steps if step.layer.spec.type == "Input"
                      for top, shape in zip(step.top, step.top_shapes, strict=True)} for steps in self.elsewhere[-2:])


def at_other_sizes(steps: Sequence[Step], axes: Collection[str]) -> Sizes:
    """Set up the network's layers for other sizes of these axes of its inputs.

    Raises:
        NetError: The network has no such axis, or a layer fits one size of it only.
    """
    wanted = tuple(axis for axis in AXES if axis in axes)
    own = _own_sizes(steps, wanted)
    tried = _Tried(steps, own)
    little, much = {}, {}
    for axis in wanted:
        if axis == "batch":
            little[axis], much[axis] = [batch for batch in _BATCHES if batch != own[axis]][:2]
        else:
            little[axis], much[axis] = (tried.first(axis, more) for more in (_LITTLE, _MUCH))
    single = [tried.at({axis: size}) for sizes in (little, much) for axis, size in sizes.items()]
    joint = [tried.at({"batch": one, "height": low, "width": high}) for one, low, high in (
        (little.get("batch"), little.get("height"), much.get("width")),
        (much.get("batch"), much.get("height"), little.get("width")))]
    return Sizes(wanted, own, steps, (*single, *joint))


def _own_sizes(steps: Sequence[Step], axes: Sequence[str]) -> dict[str, int]:
    shapes = [shape for step in steps if step.layer.spec.type == "Input" for shape in step.top_shapes]
    first = {"batch": next((shape for shape in shapes if shape), None)}
    image = next((shape for shape in shapes if len(shape) == 4), None)
    if missing := [axis for axis in axes if first.get(axis, image) is None]:
        raise NetError(f"--dynamic {missing[0]}: the network has no input with a {missing[0]}; leave it out")
    return {axis: first.get(axis, image)[AXES[axis]] for axis in axes}  # type: ignore[index]


class _Tried:
    """Sets up the layers for sizes of the inputs, and checks that their parameters stay as they are."""

    def __init__(self, steps: Sequence[Step], own: Mapping[str, int]):
        self.steps, self.own = steps, own

    def first(self, axis: str, more: Sequence[int]) -> int:
        """Return the first size of an axis that every layer accepts. Raises NetError if there is none."""
        first: NetError | None = None
        odd = sorted(more, key=lambda step: (self.own[axis] + step) % 2 == 0)
        for step in (*odd[: len(more) // 3], *more):
            try:
                self.at({axis: self.own[axis] + step})
                return self.own[axis] + step
            except _UnfitError as error:
                first = first or error
        assert first is not None
        raise NetError(str(first))

    def at(self, asked: Mapping[str, int | None]) -> list[Step]:
        """Return the steps for these sizes, with the network's own parameters."""
        sizes = {axis: size for axis, size in asked.items() if size is not None}
        specs = [_resized(step, self.own, sizes) if step.layer.spec.type == "Input" else step.layer.spec
                 for step in self.steps]
        words = axes_text(sizes)
        try:
            steps = wire_quietly(specs)
        except RmpeError as error:
            where = ", ".join(f"{axis} {size} in place of {self.own[axis]}" for axis, size in sizes.items())
            raise _UnfitError(f"{error} (tried with {where}). Leave {words} out of --dynamic, or convert the layers "
                              "before that one, with --until BLOB") from None
        for step, other in zip(self.steps, steps, strict=True):
            mine, theirs = ([d.shape for d in s.layer.declared] for s in (step, other))
            if mine != theirs:
                at = next(i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
                raise step.layer.spec.error(
                    f"cannot be converted with a dynamic {words}: its {step.layer.declared[at].name}, "
                    f"{shape_text(mine[at])}, fits only one size. Leave {words} out of --dynamic, or convert the "
                    f"layers before it, with --until {before(step.layer)}")
            other.layer._parameters = step.layer._parameters
        return steps


class _UnfitError(NetError):
    """A layer refuses a size; it may accept another."""


def _resized(step: Step, own: Mapping[str, int], sizes: Mapping[str, int]) -> LayerSpec:
    """Return an Input layer's spec with other sizes wherever it has the network's own.

    The batch is the first axis of any input; height and width are those of inputs of 4 axes.
    """
    spec = step.layer.spec
    param = spec.get("input_param")
    shapes = []
    for shape in param.shape:
        dims = list(shape.dim)
        for axis, size in sizes.items():
            at = AXES[axis]
            if (at == 0 or len(dims) == 4) and len(dims) > at and dims[at] == own[axis]:
                dims[at] = size
        shapes.append(shape.replace(dim=dims))
    return replace(spec, message=spec.message.replace(input_param=param.replace(shape=shapes)))


def dims_of(sizes: Sizes) -> tuple[list[dict[str, tuple[int | str, ...]]], dict[str, tuple[int, ...]]]:
    """Return the shapes of each step's tops with a symbol for every size that varies.

    Sizes that are equal for all inputs share one symbol.

    Returns:
        For each step, blob -> sizes or symbols; and symbol -> its size in the prototxt and for the other inputs.

    Raises:
        LayerError: A top has another number of axes for other sizes of the inputs.
    """
    per_step = zip(sizes.steps, *sizes.elsewhere, strict=True)
    symbols: dict[tuple[int, ...], str] = {}
    shapes: list[dict[str, tuple[int | str, ...]]] = []
    for steps in per_step:
        shapes.append({})
        for i, blob in enumerate(steps[0].top):
            everywhere = [step.top_shapes[i] for step in steps]
            if len({len(shape) for shape in everywhere}) > 1:
                raise steps[0].layer.spec.error(f"cannot be converted with a dynamic {axes_text(sizes.axes)}: its "
                                                f"top has a different number of axes for other sizes")
            shape: list[int | str] = []
            for axis, column in enumerate(zip(*everywhere, strict=True)):
                if len(set(column)) == 1:
                    shape.append(column[0])
                    continue
                if column not in symbols:
                    symbols[column] = _name(sizes, column, blob, axis, set(symbols.values()))
                shape.append(symbols[column])
            shapes[-1][blob] = tuple(shape)
    return shapes, {symbol: column for column, symbol in symbols.items()}


def _name(sizes: Sizes, column: tuple[int, ...], blob: str, axis: int, taken: set[str]) -> str:
    """Return a symbol: N, H or W for a size of the inputs, 3N for three times the batch, else blob and axis."""
    for word in sizes.axes:
        values = [_own_sizes(steps, (word,))[word] for steps in (sizes.steps, *sizes.elsewhere)]
        letter = "N" if word == "batch" else word[0].upper()
        times = column[0] // values[0] if values[0] else 0
        if times and column == tuple(times * value for value in values) and (times == 1 or word == "batch"):
            return letter if times == 1 else f"{times}{letter}"
    name, n = f"{blob}[{axis}]", 2
    while name in taken:
        name, n = f"{blob}[{axis}]_{n}", n + 1
    return name
