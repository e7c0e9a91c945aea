"""Layers of gidariss/caffe_LocNet@0083b42 that have shapes, and refuse to run."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed, UncomputedLoss


@register("RegionPooling", form="locnet")
class RingPooling(Uncomputed):
    """The largest values between an outer and an inner rectangle: maps (N, C, H, W) and regions (R, 9) -> (R, C,
    pooled_h, pooled_w). Source: region_pooling_layer.cpp."""

    params = ("region_pooling_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("region_pooling_param")
        if not (param.pooled_h and param.pooled_w):
            raise self.spec.error("needs pooled_h and pooled_w above 0")
        return [(self.nchw(bottom[1])[0], self.nchw(bottom[0])[1], param.pooled_h, param.pooled_w)]


@chooses("RegionPooling")
def _choose(spec: LayerSpec) -> Choice:
    """The size of the tops is LocNet's."""
    param = spec.get("region_pooling_param")
    own = any(name in param.fields for name in ("pooled_h", "pooled_w", "offset"))
    return Choice("locnet") if own else Choice("", ("locnet",))


@register("SigmoidCrossEntropyLossWeighted", form="")
class SigmoidCrossEntropyLossWeighted(UncomputedLoss):
    """SigmoidCrossEntropyLoss with a weight for each value. Source: sigmoid_cross_entropy_loss_weighted_layer.cpp."""

    bottoms, tops = 3, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len({count(shape) for shape in bottom}) > 1:
            raise self.spec.error("needs scores, targets and weights of one size; its bottoms are "
                                  f"{', '.join(map(shape_text, bottom))}")
        return super().reshape(*bottom)
