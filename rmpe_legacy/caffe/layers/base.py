"""``Layer``, the base class: reads a layer's spec, declares its parameters, and computes its tops from its bottoms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rmpe_legacy.caffe.proto.blobs import StoredBlob
from rmpe_legacy.caffe.proto.caffemodel import blob_from_proto
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError, RmpeError
from rmpe_legacy.wording import printable

from .fillers import fill

JUDGES = "compares with labels"  # `not_exportable` of losses and of layers that measure accuracy

Shape = tuple[int, ...]
MAX_AXES = 32  # of one blob: kMaxBlobAxes (blob.hpp:13)
FLT_MAX = float(np.finfo(np.float32).max)  # the largest float32
MAX_COUNT = (1 << 31) - 1  # values in one blob, as Blob::Reshape checks (blob.cpp:29)
MAX_PADDED = 1 << 24  # values that a bottom may have with its padding, however small it is itself: 64 MB
PADDED_TIMES = 64  # and those of a larger one, in terms of its own
Count = int | tuple[int, int | None]  # an exact number, or (minimum, maximum); a maximum of None is no limit


@dataclass(frozen=True)
class Declared:
    """A parameter that a layer declared."""

    name: str  # its key in the state dict
    shape: Shape
    filler: Message  # its initial values
    learns: bool  # False: a statistic, which gets no gradient


class Layer(nn.Module):
    """Base class of Caffe layers. A subclass sets the class attributes below and overrides up to three methods:

    - ``setup(*bottom_shapes)``, called once: checks the parameters and declares the blobs (Caffe's LayerSetUp).
    - ``reshape(*bottom_shapes)``, called when a bottom's shape changes: checks it and returns the tops' shapes.
    - ``forward(*bottoms)``: returns the tops, one Tensor or a tuple. Gradients come from autograd unless a
      subclass uses a function with a Backward of its own.

    Layers are functional: one that works in place in the prototxt takes and returns tensors like any other.
    """

    params: tuple[str, ...] = ()  # the fields of LayerParameter that the type reads, its own message first
    if TYPE_CHECKING:  # nn.Module says Tensor | Module, which is wrong for the plain attributes that a subclass sets

        def __getattr__(self, name: str) -> Any: ...

    bottoms: Count = 1
    tops: Count = 1
    equal_counts = False  # True: as many tops as bottoms
    is_constant = False  # True: without bottoms, its tops are the same in each forward; so they are no inputs
    is_loss = False  # True: the first top has loss weight 1, and is created if the prototxt names no top
    refuses: tuple[int, ...] = ()  # bottoms whose gradient Caffe's Backward refuses: labels, indices
    unforced: tuple[int, ...] = ()  # bottoms that force_backward does not apply to (AllowForceBackward is false)
    works_in_place = True  # False: in place, Caffe aborts or computes garbage
    # True: the tops share the first bottom's data, under other names and shapes; None: known after setup or reshape
    shares_data: bool | None = False
    shares_diff = False  # True: they share its diff too
    exact = False  # True: its values are Caffe's to the bit, since it rounds nothing or rounds as Caffe does
    range01 = False  # True: its top holds probabilities; comparisons look at their logarithms too
    is_coarse = False  # True: of range01, but values near 0 are rounded to multiples of 2^-24, and so have few digits
    caffe_source = ""  # the file in Caffe's src/caffe/layers, where it is not named after the type
    # True: it picks rows by comparing values, so that a last bit can change which, and how many there are
    chooses_rows = False
    is_discontinuous = False  # True: a last bit of a bottom can change a value altogether, as it compares or rounds
    # True: the prototxt does not tell the shapes of its tops, so layers that read them may ask for others. With
    # `guesses`, it does not tell the size of its images either
    assumes = False
    guesses = False
    # True: a forward goes on from the state that the last one left, which ONNX and model.py do not keep; has `reset`
    keeps_state = False
    lost = "begins each run with a state of 0"  # what that means for what is written, as a sentence about the layer
    drops_at_random = False  # True: each forward draws which values become 0
    not_exportable = ""  # why the type cannot be written as ONNX or model.py, for the error message; "" if it can
    fields: Mapping[str, Sequence[str]] | None = None  # of a user's own layer: see docs/layers.md
    dialects: tuple[str, ...] = ()  # set by @register
    form = ""  # of a type that some forks have in another form: which, set by @register

    def __init__(self, spec: LayerSpec):
        super().__init__()
        self.spec = spec
        self.declared: list[Declared] = []
        self.left_out: list[LayerError] = []  # one error for each option that was ignored
        # True: it may share a parameter that another layer has in another shape
        self.is_permissive = any(param.share_mode == "PERMISSIVE" for param in spec.params)

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        """The class that loads this one layer, for a type that has others for some of its layers."""
        return cls

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> LayerError | None:
        """Return why this layer cannot be loaded, whatever its bottoms are; None if it can."""
        return None

    def connect(self, earlier: Sequence[Any]) -> None:
        """Look at the Steps before this layer's, for the few whose parameters depend on them. Called before setup."""

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        """Look at all layers of the network, for the few whose tops' shapes depend on later ones. Called first."""

    def begin_iteration(self, iteration: int) -> None:
        """Take note of the solver's iteration, which a few layers depend on. Called before each training iteration."""

    def setup(self, *bottom: Shape) -> None:
        """Check the layer's parameters and declare its blobs.

        Args:
            bottom: The bottoms' shapes.

        Raises:
            LayerError: A parameter is missing or wrong.
        """

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        """Return the tops' shapes; by default, each has the first bottom's.

        Args:
            bottom: The bottoms' shapes.

        Raises:
            LayerError: The layer does not accept bottoms of these shapes.
        """
        return [bottom[0]] * self.top_count

    @property
    def written_as(self) -> str:
        """The name by which exporters know the layer: its type, and for a fork's type also its form."""
        return f"{self.spec.type}={self.form}" if self.form else self.spec.type

    @property
    def top_count(self) -> int:
        """Number of tops; a loss whose top has no name has one too."""
        least = self.tops if isinstance(self.tops, int) else self.tops[0]
        return max(len(self.spec.top), least if self.is_loss else 0)

    @property
    def in_place(self) -> bool:
        """Whether the first top has the first bottom's name."""
        return bool(self.spec.bottom and self.spec.top) and self.spec.bottom[0] == self.spec.top[0]

    def declare(self, name: str, shape: Shape, filler: Message | float = 0.0, learns: bool = True) -> None:
        """Declare the next parameter.

        Args:
            name: Its key in the state dict.
            shape: Its shape.
            filler: A FillerParameter, or a constant.
            learns: False for a statistic, which gets no gradient.

        Raises:
            LayerError: Caffe's blobs cannot have this shape.
        """
        if not isinstance(filler, Message):
            schema = load_schema(self.spec.dialect)
            filler = Message(schema["FillerParameter"], {"type": "constant", "value": filler})
        if len(shape) > MAX_AXES or any(size < 0 for size in shape):
            raise self.spec.error(f"its parameter {name} would be {shape_text(shape)}; a blob has at most {MAX_AXES} "
                                  "axes, and no negative size")
        self.declared.append(Declared(name, tuple(shape), filler, learns))

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Return sensible values for a bottom whose numbers have a meaning, such as boxes; None if any values will do.

        Args:
            index: The bottom's index.
            bottom: The shapes of all bottoms.
            rng: Source of random numbers.

        Returns:
            An array in the bottom's shape, or None.
        """
        return None

    def set_aside(self, reason: str) -> None:
        """Refuse an option that is not supported but changes no blob; with strict=False, record it in `left_out`
        instead.

        Raises:
            LayerError: The network is loaded with strict=True.
        """
        if self.spec.strict:
            raise self.spec.error(reason)
        self.left_out.append(self.spec.error(reason))

    def blobs(self) -> list[Tensor]:
        """Return the parameters in Caffe's order, each in its declared shape."""
        values, own = [], self._parameters
        for declared in self.declared:
            value = own.get(declared.name)  # much faster than getattr, which finds the others: parametrized ones
            if value is None:
                value = getattr(self, declared.name)
            values.append(value.view(declared.shape) if self.is_permissive else value)
        return values

    def make(self, index: int, stored: StoredBlob | None) -> nn.Parameter:
        """Create a declared parameter, float32: a copy of the stored blob, or filled by its filler if there is none.

        Raises:
            LayerError: The stored blob has another shape, or the parameter does not fit in memory.
        """
        declared = self.declared[index]
        if stored is None and index < len(self.spec.message.blobs):
            stored = self.from_prototxt(index)
        if stored is not None:
            self.check_fits(index, stored)
        try:
            value = torch.empty(declared.shape)
        except (RuntimeError, MemoryError):
            raise self.spec.error(f"its parameter {declared.name}, {shape_text(declared.shape)}, does not fit in "
                                  "memory; check num_output and the input's size") from None
        if stored is not None:
            stored.copy_to(value.view(-1).numpy())  # torch's copy is slow from unaligned memory
        else:
            try:
                fill(value, declared.filler)
            except RmpeError as error:
                raise self.spec.error(str(error)) from None
        param = nn.Parameter(value, declared.learns and self.learns(index))
        self.register_parameter(declared.name, param)
        return param

    def learns(self, index: int) -> bool:
        """Whether the prototxt lets this parameter learn: lr_mult is not 0, or param_propagate_down says so, which
        longriyao/caffe_colorizer@ee73fce has (caffe/param_down/net.cpp:182-189)."""
        if index >= len(self.spec.params):
            return True
        param = self.spec.params[index]
        return param.lr_mult != 0 if param.propagate_down is None else param.propagate_down

    def check_arity(self) -> None:
        """Check the number of bottoms and tops.

        Raises:
            LayerError: The type does not take as many, or cannot work in place.
        """
        spec = self.spec
        for what, names, count in (("bottom", spec.bottom, self.bottoms), ("top", spec.top, self.tops)):
            least, most = _limits(count)
            if what == "top" and self.is_loss:
                least = 0
            if len(names) < least or (most is not None and len(names) > most):
                takes = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
                raise spec.error(f"takes {takes} {what}{'' if takes == '1' else 's'}, but is given {len(names)}")
        if not self.works_in_place and any(b == t for b, t in zip(spec.bottom, spec.top, strict=False)):
            raise spec.error("cannot work in place; give its top another name")
        if self.equal_counts and len(spec.bottom) != len(spec.top):
            raise spec.error(f"needs as many tops as bottoms, but is given {len(spec.top)} and {len(spec.bottom)}")

    @classmethod
    def takes(cls, spec: LayerSpec) -> bool:
        """Whether the type takes as many bottoms and tops as a layer has."""
        ends = ((len(spec.bottom), _limits(cls.bottoms)), (len(spec.top), _limits(cls.tops)))
        return all(least <= n and (most is None or n <= most) for n, (least, most) in ends)

    def axis(self, axis: int, dims: int, what: str = "axis") -> int:
        """Return the index, from 0, of an axis of a bottom with `dims` axes; a negative `axis` counts from the end.

        Raises:
            LayerError: There is no such axis; the message calls the field `what`.
        """
        if not -dims <= axis < dims:
            raise self.spec.error(f"{what} {axis} is outside a bottom with {dims} axes")
        return axis % dims

    def either_axis(self, param: Message, name: str, old: str, dims: int) -> int:
        """Return the index of an axis from the field `name`, or from `old`, the field that older files use.

        Raises:
            LayerError: Both fields are set, or the bottom has no such axis.
        """
        if param.has(name) and param.has(old):
            raise self.spec.error(f"give {name} or {old}, not both")
        return self.axis(getattr(param, old), dims, old) if param.has(old) else self.axis(getattr(param, name), dims)

    def check_padded(self, bottom: Shape, padded: Sequence[int]) -> None:
        """Check the axes that a bottom has with its padding, the last ones, before memory is taken for it.

        Raises:
            LayerError: The padding is large, and out of all proportion to the bottom: no network has such.
        """
        whole = (*bottom[: len(bottom) - len(padded)], *padded)
        if count(whole) > max(MAX_PADDED, PADDED_TIMES * count(bottom)):
            raise self.spec.error(f"with its padding, a bottom of {shape_text(bottom)} would be {shape_text(whole)}; "
                                  "lower kernel_size, stride and pad")

    def check_windows(self, bottom: Shape, grid: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> None:
        """Check how far a grid of windows along the last axes reaches, padding included, as ``check_padded`` does."""
        self.check_padded(bottom, [(n - 1) * s + k for n, s, k in zip(grid, stride, kernel, strict=True)])

    def check_classes(self, labels: Tensor, classes: int) -> None:
        """Check integer labels of any shape.

        Raises:
            LayerError: A label is not in 0 to classes - 1.
        """
        if labels.numel() and not 0 <= labels.min() <= labels.max() < classes:
            raise self.spec.error(f"its labels go from {labels.min()} to {labels.max()}; its classes go from 0 to "
                                  f"{classes - 1}")

    def from_prototxt(self, index: int) -> StoredBlob:
        """Return a parameter that is stored in the prototxt itself.

        Raises:
            LayerError: The stored blob is malformed.
        """
        try:
            return blob_from_proto(self.spec.message.blobs[index])
        except RmpeError as error:
            raise self.spec.error(f"blob {index} in the prototxt: {error}") from None

    def nchw(self, shape: Shape) -> tuple[int, int, int, int]:
        """Return a shape as Caffe's num(), channels(), height() and width() do: missing axes are 1.

        Raises:
            LayerError: The shape has more than four axes.
        """
        if len(shape) > 4:
            raise self.spec.error(f"takes bottoms of at most 4 axes, not {shape_text(shape)}")
        n, c, h, w = (*shape, 1, 1, 1, 1)[:4]
        return n, c, h, w

    def extra_repr(self) -> str:
        return printable(f"{self.spec.name}: {self.spec.type}")

    def check_fits(self, index: int, stored: StoredBlob) -> None:
        """Check that a stored blob has the declared shape.

        Raises:
            LayerError: It has another shape.
        """
        declared = self.declared[index]
        if not stored.fits(declared.shape):
            raise self.spec.error(
                f"its blob {index} ({declared.name}) is {shape_text(declared.shape)}, but {shape_text(stored.shape)} "
                "in the weights; load the weights of this network, or rename the layer to initialise it anew")


def _limits(count: Count) -> tuple[int, int | None]:
    return (count, count) if isinstance(count, int) else count


def shape_text(shape: Shape) -> str:
    """Format a shape as Caffe's log does, without the count: 2 x 3 x 4."""
    if len(shape) > MAX_AXES:
        return f"{shape_text(shape[:MAX_AXES])} x ... ({len(shape)} axes)"
    return " x ".join(map(str, shape)) or "a single value"


def shapes_text(shapes: Mapping[str, Shape]) -> str:
    """Format blobs and their shapes: data 1 x 3 x 8 x 8, label 1."""
    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in shapes.items())


def ranked(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Draw an array of this shape with different values between 0 and 1, float64."""
    size = count(shape)
    return ((rng.permutation(size) + 0.5) / max(size, 1)).reshape(shape)


def rows(x: Tensor) -> Tensor:
    """Return (N, ...) as (N, K); N and K may be 0."""
    return x.reshape(len(x), count(x.shape[1:]))


def count(shape: Shape) -> int:
    """Number of values in a blob of this shape."""
    return math.prod(shape)
