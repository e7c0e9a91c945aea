"""Batch normalisation without scale and bias. Source: batch_norm_layer.cpp of RMPE@5188c23 and BVLC@9b89154."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .base import Layer, Shape, count, shape_text
from .registry import register


@register("BatchNorm")
class BatchNorm(Layer):
    """(x - mean) / sqrt(variance + eps) per channel: (N, C, ...) -> the same.

    The stored mean and variance are sums, to be divided by the third blob, the scale factor (0 gives 0). In TRAIN,
    or with use_global_stats: false, the batch's own statistics are used, and added to the stored sums.
    """

    params = ("batch_norm_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("batch_norm_param")
        if len(bottom[0]) < 2:
            raise self.spec.error(f"needs a bottom with channels, (N, C, ...), not {shape_text(bottom[0])}")
        stored = self.spec.phase == "TEST"
        self.use_global_stats = param.use_global_stats if param.has("use_global_stats") else stored
        self.fraction, self.eps = param.moving_average_fraction, param.eps
        if self.spec.dialect != "rmpe" and any(p.lr_mult for p in self.spec.params):
            raise self.spec.error("its statistics are not learned; set lr_mult: 0 in each param, or remove the params")
        for name, shape in (("mean", bottom[0][1:2]), ("variance", bottom[0][1:2]), ("scale_factor", (1,))):
            self.declare(name, shape, learns=False)

    def learns(self, index: int) -> bool:
        """In dialect rmpe lr_mult stays 1, so Caffe runs Backward for the layers below; the others set it to 0."""
        return self.spec.dialect == "rmpe" and super().learns(index)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.declared[0].shape[0]
        if len(bottom[0]) < 2 or bottom[0][1] != channels:
            raise self.spec.error(f"was set up for {channels} channels; its bottom is {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        lead = (1, -1) + (1,) * (x.dim() - 2)
        if self.use_global_stats:
            mean, variance, factor = (blob.detach() for blob in self.blobs())
            factor = torch.where(factor == 0, 0, 1 / factor)
            mean, deviation = mean * factor, (variance * factor + self.eps).sqrt()
            return (x - mean.view(lead)).div_(deviation.view(lead))
        return self._of_the_batch(x)

    def _of_the_batch(self, x: Tensor) -> Tensor:
        channels, m = x.shape[1], count(x.shape) // x.shape[1]
        if m == 1:  # torch rejects a single value per channel
            self._remember(x.detach().flatten(), torch.zeros_like(x).flatten())
            return x - x
        if not self.eps > 0:  # torch rejects it
            return self._by_hand(x, m)
        mean, variance = x.new_zeros(channels), x.new_ones(channels)
        y = functional.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=self.eps)
        self._remember(mean, variance)
        return y

    def _by_hand(self, x: Tensor, m: int) -> Tensor:
        axes = (0, *range(2, x.dim()))
        mean = x.mean(axes, keepdim=True)
        variance = ((x - mean) ** 2).mean(axes, keepdim=True)
        self._remember(mean.detach().flatten(), variance.detach().flatten() * (m / (m - 1)))
        return (x - mean) / (variance + self.eps).sqrt()

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Add the batch's statistics to the stored sums; `variance` is the unbiased estimate."""
        stored_mean, stored_variance, factor = self.blobs()
        factor.mul_(self.fraction).add_(1)
        stored_mean.mul_(self.fraction).add_(mean)
        stored_variance.mul_(self.fraction).add_(variance)
