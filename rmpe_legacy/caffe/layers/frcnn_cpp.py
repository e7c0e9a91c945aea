"""Faster R-CNN's layers in C++, whose settings are in a file of their own: they have shapes.

Source: src/caffe/FRCNN/frcnn_*_layer.cpp of makefile/frcnn@8d9b9eb.
"""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape
from .fed import COLORS, PictureLayer, channels_beside
from .registry import register
from .uncomputed import Uncomputed

CLASSES = 21  # PASCAL VOC's


class _Configured(Uncomputed):
    """Base: the numbers depend on a file that the prototxt of the data layer names."""

    reason = ("depends on settings in a file of its own and is not computed here; remove the layer, leave it out with "
              "strict=False (--lenient), or stop before it with until=... (--until)")


@register("FrcnnRoiData", form="")
class FrcnnRoiData(PictureLayer):
    """Images (1, 3, 600, 1000), their sizes (1, 5, 1, 1) and boxes (1, 5, 1, 1), fed."""

    params = ("window_data_param", "transform_param")
    tops = (1, 3)
    assumed = (600, 1000)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(1, COLORS, h, w), (1, 5, 1, 1), (1, 5, 1, 1)][: self.top_count]


@register("FrcnnAnchorTarget", form="")
class FrcnnAnchorTarget(_Configured):
    """Labels, targets and weights of the anchors of a map of scores (1, 2 A, H, W)."""

    bottoms = (3, 4)
    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _, scores, h, w = self.nchw(bottom[0])
        anchors = scores // 2
        return [(1, 1, anchors * h, w), *[(1, 4 * anchors, h, w)] * 3]


@register("FrcnnProposal", form="")
class FrcnnProposal(_Configured):
    """Regions (R, 5, 1, 1), and perhaps their scores (R, 1, 1, 1)."""

    bottoms = 3
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 5, 1, 1), (1, 1, 1, 1)][: self.top_count]


@register("FrcnnProposalTarget", form="")
class FrcnnProposalTarget(_Configured):
    """Sampled regions (R, 5, 1, 1), labels (R, 1, 1, 1), targets and weights: of as many classes as the network
    predicts boxes of."""

    bottoms = 2
    tops = 5
    columns = 4 * CLASSES

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.columns = (channels_beside(self.spec.top[2], specs) if len(self.spec.top) > 2 else 0) or self.columns

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 5, 1, 1), (1, 1, 1, 1), *[(1, self.columns, 1, 1)] * 3]
