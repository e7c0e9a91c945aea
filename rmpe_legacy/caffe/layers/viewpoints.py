"""Layers of shubhtuls/ViewpointsAndKeypoints@1d57050: the scores of a class, a loss, and fed data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .fed import COLORS, PictureLayer
from .loss import Loss, given
from .registry import register


@register("MaskOutputs", form="")
class MaskOutputs(Layer):
    """Scores (N, classes * kernel_size, H, W) and the classes' numbers (N, ...) -> each's own kernel_size scores, (N,
    kernel_size, H, W). Source: mask_outputs_layer.cpp.

    Differs: a class that has no scores raises; the published code reads outside its blobs.
    """

    params = ("mask_outputs_param",)
    bottoms = 2
    works_in_place = False
    exact = True
    unforced = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.size = self.spec.get("mask_outputs_param").kernel_size
        n, channels, h, w = self.nchw(bottom[0])
        self.classes = channels // self.size if self.size else 0
        if not self.classes or count(bottom[1]) < n:
            raise self.spec.error(f"needs kernel_size of 1 to {channels}, its first bottom's channels, and a class for "
                                  f"each of {n} rows; its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(n, self.size, h, w)]

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        x = x.reshape(self.nchw(tuple(x.shape)))
        own = classes.detach().reshape(-1)[: len(x)].long()
        self.check_classes(own, self.classes)
        channels = own.unsqueeze(1) * self.size + torch.arange(self.size, device=x.device)
        return x[torch.arange(len(x), device=x.device).unsqueeze(1), channels]


@register("EuclideanWeightedLoss", form="")
class EuclideanWeightedLoss(Loss):
    """Half the sum of squares of d = a - b, and lambda times those of d * b, over the number of rows. Source:
    euclidean_weighted_loss_layer.cpp.

    As published, Backward has b where the derivative has its square.
    """

    params = ("euclidean_weight_param",)
    refuses = ()

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if self.nchw(bottom[0]) != self.nchw(bottom[1]):
            raise self.spec.error("needs predictions and targets of one size; its bottoms are "
                                  f"{' and '.join(map(shape_text, bottom))}")
        return super().reshape(*bottom)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        goal, weight = b.detach().reshape(a.shape), getattr(self.spec.get("euclidean_weight_param"), "lambda")
        apart, n = a.detach() - goal, len(a)
        loss = (apart.square().sum() + weight * (apart * goal).square().sum()) / n / 2
        return given(loss, lambda: ((apart + weight * apart * goal) / n, None), a, b)


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
