"""Indices, or values, of the largest entries. Source: argmax_layer.cpp of RMPE@5188c23."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count, rows, shape_text
from .gradient import severed
from .registry import register


@register("ArgMax")
class ArgMax(Layer):
    """The indices of the top_k largest entries, in descending order; of equal values the last comes first.

    With `axis`: along that axis; with out_max_val the values replace the indices. Without `axis`: over each sample,
    (N, 1, top_k), or with out_max_val indices and values, (N, 2, top_k); for a bottom of more than 3 axes, axes of 1
    are appended until the top has as many. There is no Backward.
    """

    params = ("argmax_param",)
    exact = True
    refuses = (0,)
    is_discontinuous = True
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("argmax_param")
        self.top_k, self.values = param.top_k, param.out_max_val
        self.along = self.axis(param.axis, len(bottom[0])) if param.has("axis") else None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) <= (self.along or 0):
            raise self.spec.error(f"needs a bottom with at least {(self.along or 0) + 1} axes, not "
                                  f"{shape_text(bottom[0])}")
        size = count(bottom[0][1:]) if self.along is None else bottom[0][self.along]
        if not 1 <= self.top_k <= size:
            raise self.spec.error(f"top_k is {self.top_k}; give 1 to {size}, the number of values")
        if self.along is None:
            self.shape = (bottom[0][0], 2 if self.values else 1, self.top_k, *(1,) * (len(bottom[0]) - 3))
        else:
            self.shape = (*bottom[0][: self.along], self.top_k, *bottom[0][self.along + 1 :])
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        along = 1 if self.along is None else self.along
        values = rows(x.detach()) if self.along is None else x.detach()
        place = self._places(values, along)
        if self.along is None and self.values:
            top = torch.stack((place.to(x.dtype), values.gather(1, place)), 1)
        else:
            top = values.gather(along, place) if self.values else place.to(x.dtype)
        return severed(top.reshape(self.shape), x)

    def _places(self, x: Tensor, along: int) -> Tensor:
        """Return the top_k indices along an axis. Flipping the axis makes the last of equal values come first."""
        turned = x.flip(along)
        if self.top_k == 1:
            place = turned.argmax(along, keepdim=True)
        else:
            place = torch.sort(turned, dim=along, descending=True, stable=True).indices.narrow(along, 0, self.top_k)
        return x.shape[along] - 1 - place
