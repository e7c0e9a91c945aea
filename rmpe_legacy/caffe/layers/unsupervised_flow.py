"""Losses of optical flow that is learnt without labels: an image warped by the flow is compared with the one before.

Sources: {charbonnier_loss,ssim_loss}_layer.{cpp,cu} of bryanyzhu/Hidden-Two-Stream@f7f684a.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .loss import Loss
from .registry import register


@register("CharbonnierLoss", form="")
class CharbonnierLoss(Layer):
    """The sum of ((beta x)^2 + epsilon^2)^alpha over the number of places: a bottom (N, C, H, W) -> (1, 1, 1, 1).

    A second bottom, a mask, multiplies the terms; the number of places is then, as published, N times the sum of the
    mask, cut to a whole number. The mask may have more channels than the bottom: its first values count, as they lie in
    memory. It gets no gradient.
    """

    params = ("charbonnier_loss_param",)
    bottoms = (1, 2)
    is_loss = True
    works_in_place = False
    not_exportable = JUDGES

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, mask = bottom[0], bottom[-1]
        if len(x) != 4 or len(mask) != 4 or (mask[0], *mask[2:]) != (x[0], *x[2:]) or mask[1] < x[1]:
            raise self.spec.error("needs a bottom (N, C, H, W) and perhaps a mask of this size with as many channels; "
                                  f"its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(1, 1, 1, 1)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        param = self.spec.get("charbonnier_loss_param")
        terms = ((param.beta * x).square() + param.epsilon * param.epsilon) ** param.alpha
        places: int | Tensor = len(x) * x.shape[2] * x.shape[3]
        if mask is not None:
            mask = mask.detach()
            terms = mask.reshape(-1)[: x.numel()].view(x.shape) * terms
            places = (len(x) * mask.abs().sum().double()).trunc().to(x.dtype)
        return (terms.abs().sum() / places).view(1, 1, 1, 1)


@register("SSIMLoss", form="")
class SsimLoss(Loss):
    """How unlike two images (N, C, H, W) are in structure: 1 less the similarity, summed over channels and windows,
    over N.

    Windows of kernel_size, `stride` apart, are weighted by a Gaussian whose middle is kernel_size / 2; those that reach
    beyond the image are cut, and their weights' sum is then below 1. The second image gets no gradient.
    """

    params = ("ssim_loss_param",)
    refuses = ()

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("ssim_loss_param")
        if not all(param.has(name) and getattr(param, name) > 0 for name in ("kernel_size", "stride", "c1", "c2")):
            raise self.spec.error("needs kernel_size, stride, c1 and c2, all above 0")
        self.size, self.stride = param.kernel_size, param.stride
        sigma = float(torch.tensor(2 * self.size, dtype=torch.float32) / 12)
        line = torch.exp(-(torch.arange(self.size, dtype=torch.float64) - self.size / 2) ** 2 / (2 * sigma * sigma))
        window = line[:, None] * line
        self.register_buffer("window", window / window.sum(), persistent=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[1] != bottom[0] or min(bottom[0][2:]) <= self.size - self.stride:
            raise self.spec.error("needs two bottoms (N, C, H, W) of one shape, less than a stride smaller than "
                                  f"{self.size} x {self.size}; they are {shape_text(bottom[0])} and "
                                  f"{shape_text(bottom[1])}")
        return super().reshape(*bottom)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        param, y = self.spec.get("ssim_loss_param"), y.detach()
        mean_x, mean_y = self._mean(x), self._mean(y)
        spread = self._mean(x * x) - mean_x * mean_x + (self._mean(y * y) - mean_y * mean_y)
        common = self._mean(x * y) - mean_x * mean_y
        level = (2 * (mean_x * mean_y) + param.c1) / (mean_x * mean_x + mean_y * mean_y + param.c1)
        structure = (2 * common + param.c2) / (spread + param.c2)
        return (level.numel() - (level * structure).sum()) / len(x)

    def _mean(self, x: Tensor) -> Tensor:
        """The weighted mean of each window, summed in double precision as the published weights are."""
        n, c, h, w = x.shape
        more = [(-(size - self.size)) % self.stride for size in (h, w)]
        padded = F.pad(x.reshape(n * c, 1, h, w).double(), [0, more[1], 0, more[0]])
        mean = F.conv2d(padded, self.window.to(padded.device).view(1, 1, self.size, self.size), stride=self.stride)
        return mean.to(x.dtype).view(n, c, *mean.shape[2:])
