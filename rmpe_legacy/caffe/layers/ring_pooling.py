"""Max pooling between two rectangles. Source: region_pooling_layer.{cpp,cu} of gidariss/caffe_LocNet@0083b42."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .roi import whole
from .roi_pooling import ROIPooling

VALUES = 9  # of a region: its image and two rectangles


@register("RegionPooling", form="locnet")
class RingPooling(ROIPooling):
    """The largest value above 0 in each bin of each ring, else 0: (N, C, H, W), (R, 9) -> (R, C, pooled_h, pooled_w).

    A region is an image and the x1, y1, x2, y2 of an outer and an inner rectangle; what lies inside the inner one does
    not count. A rectangle that ends before it begins is the place halfway.
    """

    params = ("region_pooling_param",)
    not_exportable = "leaves a part out of each region, which ONNX's MaxRoiPool cannot"

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("region_pooling_param")
        self.scale, self.offset, self.pooled = param.spatial_scale, param.offset, (param.pooled_h, param.pooled_w)
        if min(self.pooled) < 1:
            raise self.spec.error("needs pooled_h and pooled_w, both above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        features, rings = bottom
        if len(features) != 4 or len(rings) < 2 or count(rings[1:]) != VALUES:
            raise self.spec.error(f"needs features (N, C, H, W) and regions of {VALUES} values each; its bottoms are "
                                  f"{shape_text(features)} and {shape_text(rings)}")
        return [(rings[0], features[1], *self.pooled)]

    def corners(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the last place (R, 2) of the outer rectangles on the map, rows before columns."""
        first = ((boxes[:, [1, 0]] + 1 + self.offset) * self.scale).double().add(0.5).floor()
        last = ((boxes[:, [3, 2]] + 1 - self.offset) * self.scale).double().sub(0.5).ceil()
        ends_early, halfway = first > last, ((first + last) / 2).trunc()
        return torch.where(ends_early, halfway, first).to(boxes), torch.where(ends_early, halfway, last).to(boxes)

    def seen(self, features: Tensor, region: Tensor) -> Tensor:
        """The features of an image without those inside the inner rectangle, whose own edge counts."""
        edge = (whole(place[0]).tolist() for place in self.corners(region[None, 4:]))
        inside = [slice(max(first + 1, 0), max(last, 0)) for first, last in zip(*edge, strict=True)]
        ring = features.clone()
        ring[:, inside[0], inside[1]] = -torch.inf
        return ring

    def forward(self, x: Tensor, rings: Tensor) -> Tensor:
        return super().forward(x, rings).relu()


@chooses("RegionPooling")
def _choose(spec: LayerSpec) -> Choice:
    """The size of the tops is LocNet's."""
    param = spec.get("region_pooling_param")
    own = any(name in param.fields for name in ("pooled_h", "pooled_w", "offset"))
    return Choice("locnet") if own else Choice("", ("locnet",))
