"""The training losses of RefineDet's two stages. Source: multibox_loss_layer.cpp, bbox_util.cpp of
sfzhang15/RefineDet@52b6fe2."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.ops.boxes import decode_boxes

from .base import Shape
from .multibox_loss import Batch, MultiBoxLoss
from .registry import Choice, chooses, register
from .ssd_common import check_first_stage


@register("MultiBoxLoss", form="refinedet")
class RefinedMultiBoxLoss(MultiBoxLoss):
    """SSD's loss; with two more bottoms, that of the second stage: the first one's confidences (N, P * 2) and
    predictions (N, P * 4), which get no gradient.

    A prior whose confidence in an object is below objectness_score is not mined. With the first stage's predictions,
    each image's priors are first moved by these; HARD_EXAMPLE still mines by the loss of priors that were not moved.
    With num_classes 2, every label above 1 counts as 1.
    """

    params = ("multibox_loss_param", "loss_param")
    bottoms = (4, 6)
    caffe_source = "multibox_loss_layer.cpp"

    def setup(self, *bottom: Shape) -> None:
        self.moves = len(bottom) > 5
        super().setup(*bottom)
        self.least = self.spec.get("multibox_loss_param").objectness_score
        if self.moves and self.places != 1:
            raise self.spec.error("needs share_location with the first stage's predictions")
        if len(bottom) > 4 and self._suppression:
            raise self.spec.error("nms_param beside the first stage's confidences is not supported: the published code "
                                  "takes other priors than those that it suppressed")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = super().reshape(*bottom)
        check_first_stage(self, self.priors, bottom[0], bottom[4:])
        return shape

    @property
    def _decodes(self) -> bool:
        return self.moves or super()._decodes

    def _batch(self, loc: Tensor, conf: Tensor, prior: Tensor, gt: Tensor, *first: Tensor) -> Batch:
        if self.classes == 2:
            many = torch.zeros_like(gt, dtype=torch.bool).reshape(-1, 8)
            many[:, 1] = gt.detach().reshape(-1, 8)[:, 1] >= 2
            gt = torch.where(many.view(gt.shape), 1, gt.detach())
        batch = super()._batch(loc, conf, prior, gt)
        first = tuple(values.detach().cpu().float() for values in first)
        if first:
            likely = first[0].reshape(len(loc), self.priors, 2)[..., 1] >= self.least
            batch = dataclasses.replace(batch, minable=likely)
        if len(first) > 1:
            moved = decode_boxes(first[1].reshape(len(loc), self.priors, 4), batch.prior, self.param.code_type,
                                 self.param.encode_variance_in_target)
            batch = dataclasses.replace(batch, boxes=moved)
        return batch


@chooses("MultiBoxLoss")
def _choose_multibox_loss(spec: LayerSpec) -> Choice:
    """A first stage's score or predictions are RefineDet's."""
    own = "objectness_score" in spec.get("multibox_loss_param").fields or len(spec.bottom) > 4
    return Choice("refinedet") if own else Choice("", ("refinedet",))
