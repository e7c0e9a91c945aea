"""Capsules: vectors of a few values, whose length says how likely something is. Sources: {squash,capsule_reshape,
capsule_len,margin_loss,capsule_mask}_layer.{cpp,cu} of chenzhenhua986/CAFFE-CapsNet@cb0e272."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import Layer, Shape, count, shape_text
from .loss import Loss, given
from .registry import register

TINY = 1e-7  # added to a squared length


class _Capsules(Layer):
    """Base: rows cut into capsules."""

    works_in_place = False


def dividing(layer: Layer, bottom: Shape, field: str) -> int:
    """Return a field of the layer's message. Raises LayerError unless it divides the values in a row of the bottom."""
    size = getattr(layer.spec.get(layer.params[0]), field)
    if size < 1 or not bottom or count(bottom[1:]) % size or not count(bottom[1:]):
        raise layer.spec.error(f"needs a {field} above 0 that divides the values in a row of its bottom, which is "
                               f"{shape_text(bottom)}; it is {size}")
    return size


class _Squashed(torch.autograd.Function):
    """x * (1 - exp(-r)) / r with the length r of a capsule; Backward has the diagonal of the derivative alone.

    In place, it computes that from what has been written over x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, in_place: bool) -> Tensor:
        length = _Squashed.length(x)
        y = x * ((1 - torch.exp(-length)) / length).to(x)
        ctx.save_for_backward(y if in_place else x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        x, = ctx.saved_tensors
        length = _Squashed.length(x)
        square, fall = length * length, torch.exp(-length)
        along = fall / square - 1 / (length * square) + fall / (length * square)
        return dy * (x * x * along.to(x) + (1 / length - fall / length).to(x)), None

    @staticmethod
    def length(x: Tensor) -> Tensor:
        """How long each capsule of (N, capsules, values) is, (N, capsules, 1), in double precision, as published."""
        return (((x * x).sum(2, keepdim=True) + TINY).double() + TINY).sqrt()


@register("Squash", form="")
class Squash(_Capsules):
    """Shortens each capsule of capsule_dim values to a length of 1 - exp(-length): (N, ...) -> the same.

    As published, the gradient of a value takes no notice of the others in its capsule. `a` is not read.
    """

    params = ("squash_param",)
    works_in_place = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        dividing(self, bottom[0], "capsule_dim")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        size = self.spec.get("squash_param").capsule_dim
        parts = x.reshape(len(x), count(tuple(x.shape[1:])) // size, size)
        return _Squashed.apply(parts, self.in_place).reshape(x.shape)


@register("CapsuleReshape", form="")
class CapsuleReshape(_Capsules):
    """Maps to capsules: (N, G * capsule_dim, H, W) -> (N, G * H * W, capsule_dim), whose values are a place's channels.

    Differs: the code for CPUs is empty; this is that for GPUs.
    """

    params = ("capsule_reshape_param",)
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        size = self.spec.get("capsule_reshape_param").capsule_dim
        if len(bottom[0]) < 2 or size < 1 or bottom[0][1] % size or not count(bottom[0][1:]):
            raise self.spec.error("needs a capsule_dim above 0 that divides the channels of its bottom, "
                                  f"{shape_text(bottom[0])}; it is {size}")
        return [(bottom[0][0], count(bottom[0][1:]) // size, size)]

    def forward(self, x: Tensor) -> Tensor:
        size = self.spec.get("capsule_reshape_param").capsule_dim
        return x.reshape(len(x), x.shape[1] // size, size, -1).transpose(2, 3).reshape(len(x), -1, size)


def _lengths(x: Tensor, capsules: int) -> Tensor:
    """(N, ...) -> the length of each of its capsules, (N, capsules)."""
    parts = x.reshape(len(x), capsules, -1)
    return ((parts * parts).sum(2) + TINY).sqrt()


@register("CapsuleLen", form="")
class CapsuleLen(_Capsules):
    """(N, ...) -> (N, num_class), how long each capsule is."""

    params = ("capsule_len_param",)
    refuses = (0,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes = dividing(self, bottom[0], "num_class")
        return [(bottom[0][0], classes)]

    def forward(self, x: Tensor) -> Tensor:
        return _lengths(x, self.spec.get("capsule_len_param").num_class)


@register("CapsuleMask", form="")
class CapsuleMask(_Capsules):
    """Keeps the last of class_num capsules, and sets the others to 0: (N, ...) -> the same. It looks for the longest;
    as published, it finds the last."""

    params = ("capsule_mask_param",)
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        dividing(self, bottom[0], "class_num")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        classes = self.spec.get("capsule_mask_param").class_num
        last = torch.zeros(classes, 1, dtype=x.dtype, device=x.device)
        last[-1] = 1
        return (x.reshape(len(x), classes, -1) * last).reshape(x.shape)


@register("MarginLoss", form="")
class MarginLoss(Loss):
    """Capsules (N, ...) of num_class classes and labels (N,) -> the mean of max(0, m_upper_bound - length)^2 of the own
    class, and lambda * max(0, length - m_lower_bound)^2 of the others.

    As published, the gradient takes no notice of N and of the loss weight.
    """

    params = ("margin_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        dividing(self, bottom[0], "num_class")
        if count(bottom[1]) < bottom[0][0]:
            raise self.spec.error(f"needs a label for each row; its labels are {shape_text(bottom[1])}")
        return [()]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        param = self.spec.get("margin_param")
        values, classes, factor = x.detach(), param.num_class, getattr(param, "lambda")
        length = _lengths(values, classes)
        own = label.detach().flatten()[: len(x)].trunc().view(-1, 1) == torch.arange(classes, device=x.device)
        short, long = (param.m_upper_bound - length).clamp(min=0), (length - param.m_lower_bound).clamp(min=0)
        loss = torch.where(own, short * short, factor * long * long).sum() / len(x)
        slope = (torch.where(own, -2 * short, factor * 2 * long) / length).unsqueeze(2)
        parts = values.reshape(len(x), classes, -1)
        return given(loss, lambda: ((parts * slope).reshape(values.shape), None), x, label, weighted=False)
