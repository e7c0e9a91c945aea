"""Attention as TransferNet has it. Sources: linear_sum_layer.cpp, filter_sum_layer.cu and scale_layer.cpp of
maga33/TransferNet@aaa32d7."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register


@register("LinearSum", form="")
class LinearSum(Layer):
    """(N, C, ...) and weights (N, 1, ...) -> (N, C): the weighted sum over all places."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, weight = bottom
        if len(x) < 2 or weight != (x[0], 1, *x[2:]):
            raise self.spec.error("needs weights (N, 1, ...) for a bottom (N, C, ...); its bottoms are "
                                  f"{shape_text(x)} and {shape_text(weight)}")
        return [x[:2]]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return (x.flatten(2) @ weight.flatten(2).transpose(1, 2)).flatten(1) if x.dim() > 2 else x * weight


@register("FilterSum", form="")
class FilterSum(Layer):
    """(N, C, H, W) and weights (N, C) -> (N, 1, H, W): the weighted sum over the channels.

    Backward is the GPU's: the published CPU code's sums absolute values, under the comment "this part is wrong".
    """

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, weight = bottom
        if len(x) != 4 or weight[:2] != x[:2] or any(size != 1 for size in weight[2:]):
            raise self.spec.error("needs weights (N, C) for a bottom (N, C, H, W); its bottoms are "
                                  f"{shape_text(x)} and {shape_text(weight)}")
        return [(x[0], 1, *x[2:])]

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return (weight.reshape(len(x), 1, -1) @ x.flatten(2)).view(len(x), 1, *x.shape[2:])


@register("Scale", form="transfernet")
class ScaleByFactor(Layer):
    """With scale_factor, each bottom times this number; else (N, C, ...) times a second bottom (N, 1, ...)."""

    params = ("scale_param",)
    bottoms = (1, None)
    tops = (1, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("scale_param")
        self.factor = param.scale_factor if param.has("scale_factor") else None
        if self.factor is not None:
            if len(bottom) != self.top_count:
                raise self.spec.error(f"needs as many tops as bottoms, but is given {self.top_count} and {len(bottom)}")
            return bottom
        if len(bottom) != 2 or self.top_count != 1 or bottom[1] != (*bottom[0][:1], 1, *bottom[0][2:]):
            raise self.spec.error("needs scale_factor, or one top and a second bottom with one channel; its bottoms "
                                  f"are {' and '.join(map(shape_text, bottom))}")
        return [bottom[0]]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self.factor is None:
            return (bottoms[0] * bottoms[1],)
        return tuple(x * self.factor for x in bottoms)


@chooses("Scale")
def _choose(spec: LayerSpec) -> Choice:
    """scale_factor is TransferNet's; without it, its layer needs two bottoms. Limits of the scale are happynear's."""
    param = spec.get("scale_param")
    if param.has("scale_factor"):
        return Choice("transfernet")
    if any(name in param.fields for name in ("min_value", "max_value")):
        return Choice("happynear")
    return Choice("", ("happynear", "transfernet") if len(spec.bottom) == 2 else ("happynear",))
