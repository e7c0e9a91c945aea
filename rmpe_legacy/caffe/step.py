"""``Step``: one layer in a network's forward pass, and how it is reshaped and run.

Source: Net::ForwardFromTo, AppendTop (net.cpp), Blob::Reshape (blob.cpp) of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.reading import first_line
from rmpe_legacy.wording import describe_error, shorten

from .layers import registry
from .layers.base import MAX_AXES, MAX_COUNT, Layer, Shape, count, shape_text, shapes_text
from .spec import LayerSpec

NOT_RESHAPED: tuple[Shape, ...] = ((-1,),)  # equals the shapes of no bottoms


@dataclass
class Step:
    """One layer in the forward pass."""

    layer: Layer
    bottom: tuple[str, ...]
    top: tuple[str, ...]
    free: tuple[str, ...] = ()  # blobs that no later step reads
    cut: tuple[int, ...] = ()  # bottoms without a gradient: propagate_down: false, labels
    cut_if_forced: tuple[int, ...] = ()  # the same with force_backward
    bottom_shapes: tuple[Shape, ...] = ()  # the shapes of the last reshape; NOT_RESHAPED if it failed
    top_shapes: tuple[Shape, ...] = ()
    alters: tuple[str, ...] = ()  # blobs under other names whose memory it overwrites by working in place
    is_plain: bool = False  # it has bottoms, and alters nothing
    is_single: bool = False  # it is plain, with one bottom and one top


def reshape_step(step: Step, bottom: tuple[Shape, ...]) -> None:
    """Reshape a layer for its bottoms' shapes, and store the shapes of its tops.

    Raises:
        LayerError: The bottoms do not fit, or a top would have a shape that Caffe's blobs cannot have.
    """
    step.bottom_shapes = NOT_RESHAPED  # an error may leave the layer half changed, so the next forward reshapes it
    with code_of(step.layer.spec, "reshape"):
        tops = tuple(tuple(shape) for shape in step.layer.reshape(*bottom))
        _check_tops(step, tops)
    step.bottom_shapes, step.top_shapes = bottom, tops


def _check_tops(step: Step, tops: Sequence[Shape]) -> None:
    if len(tops) != len(step.top):
        raise step.layer.spec.error(f"has {len(step.top)} tops, but gives {len(tops)}")
    for name, shape in zip(step.top, tops, strict=True):
        if len(shape) > MAX_AXES or not all(0 <= d <= MAX_COUNT for d in shape) or count(shape) > MAX_COUNT:
            raise step.layer.spec.error(f"its top '{shorten(name)}' would be {shape_text(shape)}; Caffe's blobs have "
                                        f"up to {MAX_COUNT} values and {MAX_AXES} axes")


@contextmanager
def code_of(spec: LayerSpec, method: str) -> Iterator[None]:
    """Raise a LayerError if a method that computes a layer's sizes fails. For a user's own layer it gives the line. A
    layer of ours fails only if a size is nan or infinite, and it has no error of its own for that: parameters such as
    nan and 1e38 occur in hostile files only."""
    try:
        yield
    except RmpeError:
        raise
    except (Exception, SystemExit) as error:
        if registry.is_users_own(spec.type):
            raise spec.error(f"its {method} fails: {describe_error(error)}") from error
        is_nan = isinstance(error, ValueError) and str(error).startswith("cannot convert float")
        if is_nan or isinstance(error, ArithmeticError):
            raise spec.error(f"its sizes cannot be computed ({first_line(error)}); check its parameters that are 0, "
                             "very large or not numbers, and the sizes of its bottoms") from error
        raise  # a bug of ours


def run_step(step: Step, bottoms: Sequence[Tensor], quick: bool = False) -> Sequence[Tensor]:
    """Run one layer, after reshaping it if its bottoms' shapes have changed; returns its tops.

    Args:
        step: The layer's step.
        bottoms: Its bottoms.
        quick: Nothing watches all modules of the process, so that a layer without hooks may be called directly.

    Raises:
        LayerError: The bottoms do not fit the layer, or torch cannot compute it.
    """
    shapes = tuple([bottom.shape for bottom in bottoms])
    if shapes != step.bottom_shapes:
        reshape_step(step, tuple(map(tuple, shapes)))
    layer = step.layer
    try:
        tops = layer.forward(*bottoms) if quick and not _is_watched(layer) else layer(*bottoms)
    except (Exception, SystemExit) as error:
        _raise_explained(step, bottoms, error)
    return _as_many(step, tops)


def run_single(step: Step, bottom: Tensor) -> Tensor:
    """Do as ``run_step`` with `quick` for a step with one bottom and one top: most of a network are such, and a small
    one notices the time that lists of one take."""
    if (bottom.shape,) != step.bottom_shapes:
        reshape_step(step, (tuple(bottom.shape),))
    layer = step.layer
    try:
        top = layer(bottom) if _is_watched(layer) else layer.forward(bottom)
    except (Exception, SystemExit) as error:
        _raise_explained(step, [bottom], error)
    return top if isinstance(top, Tensor) else _as_many(step, top)[0]


def _is_watched(layer: Layer) -> object:
    """Return something true if the layer has hooks or is compiled, so that it must be called as a module."""
    return layer._forward_hooks or layer._forward_pre_hooks or layer._compiled_call_impl


def _as_many(step: Step, tops: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Return what a layer's forward returned as a sequence. Raises LayerError if it is not a tensor for each top."""
    if isinstance(tops, Tensor):
        tops = (tops,)
    elif not (isinstance(tops, tuple | list) and all(isinstance(top, Tensor) for top in tops)):
        raise step.layer.spec.error(f"its forward returns {type(tops).__name__}; it must return a Tensor or a tuple of "
                                    "them")
    if len(tops) != len(step.top):
        raise step.layer.spec.error(f"its forward returns {len(tops)} tops, but the prototxt names {len(step.top)}")
    return tops


def _raise_explained(step: Step, bottoms: Sequence[Tensor], error: Exception | SystemExit) -> NoReturn:
    """Raise an error of a layer's forward again, as a LayerError if it is none of ours and no bug."""
    spec = step.layer.spec
    users = registry.is_users_own(spec.type)
    if isinstance(error, RmpeError) or not (users or isinstance(error, _TORCH_RAISES)) or (
            type(error).__module__.startswith(_COMPILERS)):
        raise error  # a bug of ours, or internal to torch.compile and torch.export
    raise spec.error(_refusal(step, bottoms, error, users)) from error


_TORCH_RAISES = (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError, MemoryError)
_COMPILERS = ("torch._", "torch.fx.")


def _refusal(step: Step, bottoms: Sequence[Tensor], error: Exception | SystemExit, users: bool) -> str:
    given = ", ".join(shape_text(tuple(bottom.shape)) for bottom in bottoms) or "no bottoms"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate" in str(error):
        tops = ", ".join(map(shape_text, step.top_shapes))
        return f"does not fit in memory: bottoms {given}, tops {tops}; give a smaller input, or fewer at once"
    if any(bottom.numel() == 0 for bottom in bottoms) and not users:
        return f"cannot compute empty bottoms, {given}; give at least one of everything"
    if users:
        return f"its forward fails on {given}: {describe_error(error)}"
    return f"torch cannot compute it on {given}: {shorten(first_line(error), 300)}"


def outputs_of(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the blobs that no later layer reads, in alphabetical order (net.cpp:256)."""
    outputs: set[str] = set()
    for step in steps:
        outputs.difference_update(step.layer.spec.bottom)
        outputs.update(step.layer.spec.top)
    return tuple(sorted(outputs))


def blobs_text(step: Step) -> str:
    """Return a layer's bottoms and tops: "data -> conv1 1 x 64 x 500 x 500"."""
    tops = shapes_text(dict(zip(step.top, step.top_shapes, strict=True)))
    bottoms = step.layer.spec.message.bottom
    return f"{', '.join(bottoms)} -> {tops}".rstrip() if bottoms else tops
