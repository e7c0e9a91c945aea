"""Batch normalization by cuDNN. Source: cudnn_batch_norm_layer.cu of hujie-frank/GENet@ae791f8."""

from __future__ import annotations

from torch import Tensor

from .base import Shape
from .bn import MovingBN
from .registry import register

LEAST_EPS = 1e-5  # CUDNN_BN_MIN_EPSILON


@register("CuDNNBatchNorm", form="")
class CuDNNBatchNorm(MovingBN):
    """Normalizes each channel by the batch's mean and variance in TRAIN, which it also averages; by the averages in
    TEST or if frozen: (N, C), (N, C, H) or (N, C, H, W) -> the same.

    Blobs: scale, bias, moving mean, moving variance. The variance is averaged with N - 1 values as the divisor. Frozen,
    scale and bias do not learn. An eps below 1e-5 is 1e-5. Differs: Backward in TEST, if not frozen, uses the averages;
    the published code uses what the last batch in TRAIN left.
    """

    params = ("cudnn_batch_norm_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("cudnn_batch_norm_param")
        self.momentum, self.eps = param.momentum, max(param.eps, LEAST_EPS)
        self.declare_blobs(bottom[0], ("scale", param.scale_filler), param.bias_filler, param.frozen)

    def normalized(self, x: Tensor) -> Tensor:
        self.values = x.numel() // max(1, x.shape[1])
        if self.spec.phase == "TEST" and not self.frozen:
            slope, bias, mean, variance = self.channel_blobs()
            return (x - mean) * self.stored(variance) * slope + bias
        return super().normalized(x)

    def kept(self, variance: Tensor) -> Tensor:
        return variance * (self.values / max(1, self.values - 1))
