"""SINet's layers, which have shapes and refuse to run. Sources: the layers of xw-hu/SINet@0ef178f.

SINet pools the features of every region, sends small and large regions through branches of their own, and how many go
where depends on the values: here each branch has one region.
"""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed, UncomputedLoss


@register("CAROIPooling", form="")
class CARoiPooling(Uncomputed):
    """The largest features of each region, where small regions are enlarged first: (N, C, H, W) and regions (R, 5) ->
    (R, C, pooled_h, pooled_w). Source: caroi_pooling_layer.cpp."""

    params = ("caroi_pooling_param",)
    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("caroi_pooling_param")
        if not (param.pooled_h and param.pooled_w) or not bottom[1]:
            raise self.spec.error("needs features, regions, and pooled_h and pooled_w above 0")
        return [(bottom[1][0], self.nchw(bottom[0])[1], param.pooled_h, param.pooled_w)]


@register("ROISplit", form="")
class RoiSplit(Uncomputed):
    """Regions (R, 5) -> how many are small and large, (2, 1, 1, 1), and the branch and index of each, (R, 2, 1, 1).
    Source: roi_split_layer.cpp."""

    params = ("roi_split_param",)
    bottoms = 1
    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _branches(self.spec, self.spec.get("roi_split_param").branch_num)
        return [(2, 1, 1, 1), (self.nchw(bottom[0])[0], 2, 1, 1)]


@register("ROIFeatureSplit", form="")
class RoiFeatureSplit(Uncomputed):
    """Features of regions (R, C, H, W), and what ROISplit gives -> features of each branch. Source:
    roi_feature_split_layer.cpp."""

    params = ("roi_feature_split_param",)
    bottoms = 3
    tops = (2, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        branches = _branches(self.spec, self.spec.get("roi_feature_split_param").branch_num)
        if self.top_count != branches:
            raise self.spec.error(f"has {branches} branches, but {self.top_count} tops")
        return [(1, *self.nchw(bottom[0])[1:])] * branches


@register("LabelSplit2", form="")
class LabelSplit(Uncomputed):
    """What ROISplit gives, and labels, targets and two kinds of weights of regions -> the same of each of two branches.
    Source: label_split2_layer.cpp."""

    bottoms = 6
    tops = 8
    branches = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, *self.nchw(shape)[1:]) for shape in bottom[2:]] * self.branches


@register("LabelSplit3", form="")
class LabelSplitInThree(LabelSplit):
    """The same, of three branches. Source: label_split3_layer.cpp."""

    tops = 12
    branches = 3


@register("Detection", form="")
class Detection(UncomputedLoss):
    """Compares scores and boxes at each place with a map of targets: (1, 1, 1, 2), both losses and that of the boxes.
    Source: detection_layer.cpp."""

    params = ("detection_param", "loss_param")
    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, targets = (self.nchw(shape) for shape in bottom)
        if (scores[0], *scores[2:]) != (targets[0], *targets[2:]):
            raise self.spec.error(f"needs scores and targets for the same places, not {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        return [(1, 1, 1, 2)]


@register("ProposalTarget", form="sinet")
class DrawnTargets(Uncomputed):
    """Regions (R, 5) and boxes (G, 7) -> batch_size regions (B, 5, 1, 1), labels (B, 1, 1, 1), and targets and two
    kinds of weights (B, 4 * classes, 1, 1). Source: proposal_target_layer.cpp."""

    params = ("proposal_target_param",)
    bottoms = 2
    tops = 5

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("proposal_target_param")
        if count(bottom[0][1:]) != 5 or count(bottom[1][1:]) != 7:
            raise self.spec.error("needs regions (R, 5) and boxes (G, 7); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(param.batch_size, columns, 1, 1) for columns in (5, 1, *[4 * param.cls_num] * 3)]


@chooses("ProposalTarget")
def _choose(spec: LayerSpec) -> Choice:
    """SINet has the moments of targets in the layer's own message, and five tops."""
    own = {"bbox_mean", "bbox_std"} & {*spec.get("proposal_target_param").fields}
    return Choice("sinet") if own or len(spec.top) == 5 else Choice("", ("sinet",))


@register("SmoothL1Loss2", form="")
class SmoothL1OfBranch(UncomputedLoss):
    """SmoothL1Loss of the regions of one branch; the last bottom says how many these are. Source:
    smooth_L1_loss2_layer.cpp."""

    params = ("smooth_l1_split_param",)
    bottoms = 5


@register("SoftmaxWithLoss2", form="")
class SoftmaxOfBranch(UncomputedLoss):
    """SoftmaxWithLoss of the regions of one branch; the last bottom says how many these are. Source:
    softmax_loss2_layer.cpp."""

    params = ("softmax_split_param", "loss_param")
    bottoms = 3
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(), bottom[0]][: self.top_count]


def _branches(spec: LayerSpec, number: int) -> int:
    """How many branches there are: 2 or 3."""
    if number not in (2, 3):
        raise spec.error(f"branch_num must be 2 or 3, not {number}")
    return number
