"""Layers of shubhtuls/ViewpointsAndKeypoints@1d57050: fed data, and layers that refuse to run."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape
from .fed import COLORS, PictureLayer
from .registry import register
from .uncomputed import Uncomputed, UncomputedLoss


@register("MaskOutputs", form="")
class MaskOutputs(Uncomputed):
    """Scores of all classes and the numbers of classes -> the kernel_size scores of each's class. Source:
    mask_outputs_layer.cpp."""

    params = ("mask_outputs_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        return [(n, self.spec.get("mask_outputs_param").kernel_size, h, w)]


@register("EuclideanWeightedLoss", form="")
class EuclideanWeightedLoss(UncomputedLoss):
    """The Euclidean loss, where squares of differences times their targets count lambda times more. Source:
    euclidean_weighted_loss_layer.cpp."""

    params = ("euclidean_weight_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if self.nchw(bottom[0])[1:] != self.nchw(bottom[1])[1:]:
            raise self.spec.error("needs predictions and targets of one size")
        return super().reshape(*bottom)


@register("WindowPoseData", form="")
class WindowPoseData(PictureLayer):
    """Windows of images, their classes, three angles and three coarse angles, (batch_size, 1, 1, 1) each, fed. Source:
    window_pose_data_layer.cpp."""

    params = ("window_data_param", "transform_param")
    tops = 8

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(n, COLORS, h, w), *[(n, 1, 1, 1)] * 7]


@register("WindowMulticlassKeypointData", form="")
class WindowMulticlassKeypointData(PictureLayer):
    """Windows of images, keypoints' places (batch_size, K, 1, 1) and which count, fed. K is in the source; without it,
    it is what the network predicts. Source: window_multiclass_keypoint_data_layer.cpp."""

    params = ("window_data_param", "transform_param")
    tops = 3
    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        self.guesses = True  # at K, which only the source says
        return [(n, COLORS, h, w), (n, 1, 1, 1), (n, 1, 1, 1)]
