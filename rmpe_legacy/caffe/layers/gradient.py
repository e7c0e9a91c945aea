"""Gradients as Caffe's memory gives them: blobs that are overwritten in place, Backwards that abort.

In Caffe the top of an in-place layer is its bottom: one data array, one diff array. A Backward that reads its top
(Sigmoid) or, in place, its bottom (ReLU) gets what was written there last, by whichever layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Memory:
    """The data array of a blob, as a Backward will read it: None until an in-place layer overwrites it."""

    __slots__ = ("value",)

    def __init__(self):
        self.value: Tensor | None = None

    def read(self, saved: Tensor) -> Tensor:
        """What the array holds now; `saved` is what was written first."""
        return saved if self.value is None else self.value.reshape(saved.shape)

    def belongs_to(self, blob: Tensor) -> Tensor:
        """Tie this memory to a blob that a layer returns; the same blob."""
        blob.memories = [*getattr(blob, "memories", ()), self]
        return blob


def overwrite(old: Tensor, new: Tensor) -> None:
    """Tell whoever will read `old` in its Backward that an in-place layer has written `new` over it."""
    for memory in getattr(old, "memories", ()):
        memory.value = new.detach()  # without its history, or the graph would hold itself
    share(old, new)


def share(old: Tensor, new: Tensor) -> None:
    """Let `new` be the memory that `old` is: what is written over it goes for whoever reads either."""
    memories = getattr(old, "memories", ())
    if memories and new is not old:
        new.memories = [*getattr(new, "memories", ()), *memories]


class _Rewritten(torch.autograd.Function):
    """A blob with other values in its memory; its diff is still its own."""

    @staticmethod
    def forward(ctx: Any, blob: Tensor, values: Tensor) -> Tensor:
        return values.reshape(blob.shape).clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return dy, None


def rewritten(blob: Tensor, values: Tensor) -> Tensor:
    """A blob that shares its memory with one into which an in-place layer has written `values`, from then on.

    Differs: a layer that has read the blob before goes on with what it read; its published Backward, if it reads its
    bottom (Convolution), finds the new values.
    """
    after = _Rewritten.apply(blob, values.detach())
    share(blob, after)
    return after


class _Pointwise(torch.autograd.Function):
    """A top of the bottom's shape, whose gradient is computed from the values that the blobs hold by then."""

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
    """value(x), with the bottom's diff = back(bottom, top, top diff), each as Caffe's memory holds it in Backward."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return value(x)
    memory = Memory()
    return memory.belongs_to(_Pointwise.apply(x, value, back, memory, in_place))


class _Severed(torch.autograd.Function):
    """A top that depends on bottoms without a gradient to them; its own gradient goes on."""

    @staticmethod
    def forward(ctx: Any, top: Tensor, *bottoms: Tensor) -> Tensor:
        return top.view_as(top)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return dy, *(None,) * (len(ctx.needs_input_grad) - 1)


def severed(top: Tensor, *bottoms: Tensor) -> Tensor:
    """A top whose Backward aborts in Caffe (see Layer.refuses): it asks for a gradient, so that Net can refuse it."""
    return _Severed.apply(top, *bottoms) if any(b.requires_grad for b in bottoms) else top
