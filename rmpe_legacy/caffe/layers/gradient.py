"""Gradients that depend on Caffe's memory: blobs overwritten in place, and Backwards that abort.

In Caffe, an in-place layer's top and bottom are one blob, with one data and one diff array. A Backward that reads its
top (Sigmoid), or its bottom in place (ReLU), reads whatever a layer wrote there last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Memory:
    """A blob's data as Backward will read it; `value` is None until an in-place layer overwrites the blob."""

    __slots__ = ("value",)

    def __init__(self):
        self.value: Tensor | None = None

    def read(self, saved: Tensor) -> Tensor:
        """Return the current values, in the blob's shape; `saved` are those of the layer that wrote the blob first."""
        return saved if self.value is None else self.value.reshape(saved.shape)

    def belongs_to(self, blob: Tensor) -> Tensor:
        """Attach this memory to a blob that a layer returns; returns the blob."""
        _attach(blob, [self])
        return blob


_MEMORIES = "memories"  # the attribute of a tensor that holds them


def _memories(blob: Tensor) -> Sequence[Memory]:
    return getattr(blob, _MEMORIES, ())


def _attach(blob: Tensor, memories: Sequence[Memory]) -> None:
    setattr(blob, _MEMORIES, [*_memories(blob), *memories])


def overwrite(old: Tensor, new: Tensor) -> None:
    """Record that an in-place layer wrote `new` over `old`, of one shape, for every Backward that will read `old`."""
    for memory in _memories(old):
        memory.value = new.detach()  # detached, or the graph would hold a reference to itself
    share(old, new)


def share(old: Tensor, new: Tensor) -> None:
    """Let `new` share the memory of `old`, possibly in another shape: readers of both see later writes to `new`."""
    memories = _memories(old)
    if memories and new is not old:
        _attach(new, memories)


class _Rewritten(torch.autograd.Function):
    """Replace a blob's values; its gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, blob: Tensor, values: Tensor) -> Tensor:
        return values.reshape(blob.shape).clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy, None


def rewritten(blob: Tensor, values: Tensor) -> Tensor:
    """Return a blob as it is after an in-place layer wrote `values` into memory that the blob shares.

    Differs: a layer that read the blob before the write keeps the values it read; its published Backward, if it reads
    its bottom (Convolution), gets the new values.
    """
    after = _Rewritten.apply(blob, values.detach())
    share(blob, after)
    return after


class _Pointwise(torch.autograd.Function):
    """An element-wise function whose gradient uses the values in Caffe's memory at the time of Backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Callable[[Tensor], Tensor],
                back: Callable[[Tensor, Tensor, Tensor], Tensor], memory: Memory, in_place: bool) -> Tensor:
        y = value(x)
        ctx.save_for_backward(y if in_place else x, y)
        ctx.back, ctx.memory, ctx.in_place = back, memory, in_place
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        top = ctx.memory.read(y)
        return ctx.back(top if ctx.in_place else x, top, dy), None, None, None, None


def pointwise(x: Tensor, value: Callable[[Tensor], Tensor], back: Callable[[Tensor, Tensor, Tensor], Tensor],
              in_place: bool = False) -> Tensor:
    """Return value(x); its gradient is back(bottom, top, top's diff), read from Caffe's memory during Backward."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return value(x)
    memory = Memory()
    return memory.belongs_to(_Pointwise.apply(x, value, back, memory, in_place))


class _Severed(torch.autograd.Function):
    """Connect a top to bottoms that get no gradient from it."""

    @staticmethod
    def forward(ctx: Any, top: Tensor, *bottoms: Tensor) -> Tensor:
        return top.view_as(top)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return dy, *(None,) * (len(ctx.needs_input_grad) - 1)


def severed(top: Tensor, *bottoms: Tensor) -> Tensor:
    """Mark a top whose Backward aborts in Caffe (Layer.refuses), so that Net can raise if a gradient is requested."""
    return _Severed.apply(top, *bottoms) if any(b.requires_grad for b in bottoms) else top
