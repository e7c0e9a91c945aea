"""How far masks agree. Source: segmentation_evaluate_layer.cpp of eric612/MobileNet-YOLO@69b4441."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .gradient import severed
from .registry import register


@register("SegmentationEvaluate", form="")
class SegmentationEvaluate(Layer):
    """Scores (N, C, H, W) and masks of their size -> (1, 1, 1, C): for each class of the first image, intersection over
    union of what lies above `threshold`; 0 where nothing is common.

    Only the first image counts, as published. Differs: masks of another size are refused; the published code resizes
    the scores, cut to bytes.
    """

    params = ("segmentation_evaluate_param",)
    bottoms = 2
    works_in_place = False
    not_exportable = JUDGES

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("segmentation_evaluate_param")
        if not param.has("num_classes"):
            raise self.spec.error("needs num_classes")
        self.threshold = param.threshold

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or not bottom[0][0] or bottom[1] != bottom[0]:
            raise self.spec.error("needs two blobs (N, C, H, W) of the same size, not "
                                  + " and ".join(map(shape_text, bottom)))
        return [(1, 1, 1, bottom[0][1])]

    def forward(self, scores: Tensor, masks: Tensor) -> Tensor:
        found, true = (x.detach()[0].flatten(1) > self.threshold for x in (scores, masks))
        common, either = (found & true).sum(1), (found | true).sum(1)
        share = torch.where(common > 0, common / either.clamp(min=1), 0).to(scores)
        return severed(share.view(1, 1, 1, -1), scores, masks)
