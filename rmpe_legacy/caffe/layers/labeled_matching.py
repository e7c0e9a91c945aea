"""Features compared with those of persons seen before. Sources: labeled_matching_layer.cpp and
unlabeled_matching_layer.cpp of He-Zhenwei/MAF@92c84ea, which has them from ShuangLI59/person_search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .base import Layer, Shape, count, rows, shape_text
from .gradient import severed
from .registry import register


class _Compared(torch.autograd.Function):
    """Products of features with stored ones, which Backward updates after it has computed the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stored: Tensor, update: Callable[[Tensor], None] | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.stored, ctx.update = stored, update
        return x @ stored.t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        x, = ctx.saved_tensors
        dx = dy @ ctx.stored
        if ctx.update is not None:
            ctx.update(x)
        return dx, None, None


class _Matching(Layer):
    """Base: features (N, ...) and labels (N,)."""

    bottoms = 2
    works_in_place = False
    refuses = unforced = (1,)

    def declare_features(self, bottom: Shape, rows: int, what: str) -> None:
        """Declare the stored features, zeros."""
        if not bottom:
            raise self.spec.error("needs rows of features; its bottom is one value")
        if rows < 1:
            raise self.spec.error(f"needs a {what} above 0")
        self.declare("features", (rows, count(bottom[1:])), learns=False)

    def check(self, *bottom: Shape) -> None:
        """Raise LayerError for features of another size, or too few labels."""
        if count(bottom[0][1:]) != self.declared[0].shape[1] or count(bottom[1]) < self.nchw(bottom[0])[0]:
            raise self.spec.error(f"needs features of {self.declared[0].shape[1]} values, and a label for each row; "
                                  f"its bottoms are {shape_text(bottom[0])} and {shape_text(bottom[1])}")

    def learned(self, index: int) -> bool:
        """Whether the prototxt lets Backward update a blob."""
        return index >= len(self.spec.params) or self.spec.params[index].lr_mult != 0


@register("LabeledMatching", form="")
class LabeledMatching(_Matching):
    """Products with the features of each of num_classes persons, (N, num_classes), and the labels, -1 for those that
    are no such person.

    Backward moves a person's features: momentum times what they were, and 1 - momentum times the row; its second blob
    counts the backward passes since then.
    """

    params = ("labeled_matching_param",)
    tops = 2

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("labeled_matching_param")
        self.declare_features(bottom[0], param.num_classes, "num_classes")
        self.declare("age", (param.num_classes,), learns=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(bottom[0][0], self.declared[0].shape[0]), bottom[1]]

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        features, age = self.blobs()
        index = label.detach().flatten()[: len(x)].trunc().to(torch.int64)
        momentum = self.spec.get("labeled_matching_param").momentum

        def update(values: Tensor) -> None:
            with torch.no_grad():
                age.add_(1)
                for person, row in zip(index.tolist(), values, strict=True):
                    if 0 <= person < len(age):
                        features[person] = (1 - momentum) * row + momentum * features[person]
                        age[person] = 0

        known = label.detach().clone()
        flat = known.view(-1)[: len(x)]
        flat[(index < 0) | (index >= len(age))] = -1
        scores = _Compared.apply(rows(x), features.detach(), update if self.learned(0) else None)
        return scores, severed(known, label)


@register("UnlabeledMatching", form="")
class UnlabeledMatching(_Matching):
    """Products with the features of the last queue_size persons without a label, (N, queue_size); Backward appends the
    rows whose label is -1, over the oldest."""

    params = ("unlabeled_matching_param",)
    tops = 1

    def setup(self, *bottom: Shape) -> None:
        self.declare_features(bottom[0], self.spec.get("unlabeled_matching_param").queue_size, "queue_size")
        self.next = 0  # where the next row goes

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check(*bottom)
        return [(bottom[0][0], self.declared[0].shape[0])]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        features, = self.blobs()
        unknown = label.detach().flatten()[: len(x)].trunc() == -1

        def update(values: Tensor) -> None:
            with torch.no_grad():
                for row in values[unknown]:
                    features[self.next] = row
                    self.next = (self.next + 1) % len(features)

        return _Compared.apply(rows(x), features.detach(), update if self.learned(0) else None)
