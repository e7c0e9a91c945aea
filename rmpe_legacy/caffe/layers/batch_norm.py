"""Batch normalisation without scale and bias, and NVCaffe's, which may have them.

Sources: batch_norm_layer.cpp of RMPE@5188c23 and BVLC@9b89154; of NVIDIA/caffe@87a2554; of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, shape_text
from .bn import AXES, MovingBN, Normalized
from .registry import Choice, chooses, register

LEAST_EPS = 1e-5  # of NVCaffe
STATISTICS = 3  # blobs before scale and bias


class _ByChannel(Layer):
    """Base: (N, C, ...) -> the same."""

    params = ("batch_norm_param",)

    def channels(self, bottom: Shape) -> Shape:
        """The shape of a blob with a value for each channel of the bottom."""
        if len(bottom) < 2:
            raise self.spec.error(f"needs a bottom with channels, (N, C, ...), not {shape_text(bottom)}")
        return bottom[1:2]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = self.declared[0].shape[0]
        if len(bottom[0]) < 2 or bottom[0][1] != channels:
            raise self.spec.error(f"was set up for {channels} channels; its bottom is {shape_text(bottom[0])}")
        return [bottom[0]]


@register("BatchNorm")
class BatchNorm(_ByChannel):
    """(x - mean) / sqrt(variance + eps) per channel: (N, C, ...) -> the same.

    The stored mean and variance are sums, to be divided by the third blob, the scale factor (0 gives 0). In TRAIN,
    or with use_global_stats: false, the batch's own statistics are used, and added to the stored sums.
    """

    def setup(self, *bottom: Shape) -> None:
        param, shape = self.spec.get("batch_norm_param"), self.channels(bottom[0])
        stored = self.spec.phase == "TEST"
        self.use_global_stats = param.use_global_stats if param.has("use_global_stats") else stored
        self.fraction, self.eps = param.moving_average_fraction, param.eps
        if self.spec.dialect != "rmpe" and any(p.lr_mult for p in self.spec.params):
            raise self.spec.error("its statistics are not learned; set lr_mult: 0 in each param, or remove the params")
        for name, of_blob in (("mean", shape), ("variance", shape), ("scale_factor", (1,))):
            self.declare(name, of_blob, learns=False)

    def learns(self, index: int) -> bool:
        """In dialect rmpe lr_mult stays 1, so Caffe runs Backward for the layers below; the others set it to 0."""
        return self.spec.dialect == "rmpe" and super().learns(index)

    def forward(self, x: Tensor) -> Tensor:
        lead = (1, -1) + (1,) * (x.dim() - 2)
        if self.use_global_stats:
            mean, variance, factor = (blob.detach() for blob in self.blobs())
            factor = torch.where(factor == 0, 0, 1 / factor)
            mean, deviation = mean * factor, self.deviation(variance * factor)
            return (x - mean.view(lead)).div_(deviation.view(lead))
        return self._of_the_batch(x)

    def deviation(self, variance: Tensor) -> Tensor:
        """What values are divided by."""
        return (variance + self.eps).sqrt()

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
        return (x - mean) / self.deviation(variance)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Add the batch's statistics to the stored sums; `variance` is the unbiased estimate."""
        stored_mean, stored_variance, factor = self.blobs()
        factor.mul_(self.fraction).add_(1)
        stored_mean.mul_(self.fraction).add_(mean)
        stored_variance.mul_(self.fraction).add_(variance)


@register("BatchNorm", form="nvidia")
class NvidiaBatchNorm(_ByChannel):
    """(x - mean) / sqrt(variance + eps) per channel, then with scale_bias * scale + bias: (N, C, ...) -> the same.

    Blobs: the moving mean and variance, which TEST uses as they are; a factor, which nothing reads; with scale_bias, or
    a filler of either, scale and bias, which learn whatever lr_mult says. TRAIN normalises by the batch's own mean and
    variance, whatever use_global_stats says; the first two batches replace the moving ones. As on a CPU, the moving
    variance has eps in it. An eps below 1e-5 is 1e-5.
    Differs: Backward in TEST uses the moving statistics; the published code uses what the last batch in TRAIN left.
    """

    def setup(self, *bottom: Shape) -> None:
        param, shape = self.spec.get("batch_norm_param"), self.channels(bottom[0])
        self.fraction, self.eps = param.moving_average_fraction, max(param.eps, LEAST_EPS)
        self.batches = 0
        self.declare("mean", shape, learns=False)
        self.declare("variance", shape, learns=False)
        self.declare("scale_factor", (1,), 1.0, learns=False)
        if param.scale_bias or param.has("scale_filler") or param.has("bias_filler"):
            self.declare("scale", shape, param.scale_filler if param.has("scale_filler") else 1.0)
            self.declare("bias", shape, param.bias_filler if param.has("bias_filler") else 0.0)

    def learns(self, index: int) -> bool:
        return index >= STATISTICS

    def forward(self, x: Tensor) -> Tensor:
        lead = (1, -1) + (1,) * (x.dim() - 2)
        mean, variance, _, *affine = self.blobs()
        if self.spec.phase == "TRAIN":
            axes = (0, *range(2, x.dim()))
            now = x.mean(axes), ((x - x.mean(axes).view(lead)) ** 2).mean(axes)
            self._remember(mean, variance, now[0], now[1] + self.eps)
            mean, variance = now
        y = (x - mean.view(lead)) * ((variance + self.eps) ** -0.5).view(lead)
        return y * affine[0].view(lead) + affine[1].view(lead) if affine else y

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, new_mean: Tensor, new_variance: Tensor) -> None:
        """Average the batch's statistics into the moving ones."""
        kept = self.fraction if self.batches > 1 else 0.0
        self.batches += 1
        for moving, new in ((mean, new_mean), (variance, new_variance)):
            moving.mul_(kept).add_(new * (1 - kept))


@register("BatchNorm", form="nvidia15")
class Nvidia15BatchNorm(MovingBN):
    """BatchNorm as NVCaffe 0.15 stored it for cuDNN. Blobs, each (1, C, 1, 1): scale, bias, moving mean and variance;
    and a factor that nothing reads, (1, 1, 1, 1).

    The blobs' order is that of the published weights of yedmed/steganalysis_with_CNN_Yedroudj-Net@43ef244.
    """

    params = ("batch_norm_param",)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("batch_norm_param")
        self.momentum, self.eps = param.moving_average_fraction, max(param.eps, LEAST_EPS)
        scale = param.scale_filler if param.has("scale_filler") else 1.0
        bias = param.bias_filler if param.has("bias_filler") else 0.0
        self.declare_blobs(bottom[0], ("scale", scale), bias, frozen=False)
        self.declare("factor", (1, 1, 1, 1), learns=False)

    def channel_blobs(self) -> list[Tensor]:
        return super().channel_blobs()[:4]


@register("BatchNorm", form="synopsys")
class DarknetBatchNorm(BatchNorm):
    """(x - mean) / (sqrt(variance) + eps) per channel, as darknet has it: (N, C, ...) -> the same.

    Backward takes the quotients for normalised, as published. Differs: with use_global_stats: false in TEST, the
    published code divides by what the last forward left.
    """

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return BatchNorm if spec.get("batch_norm_param").add_eps_before_sqrt else cls

    def deviation(self, variance: Tensor) -> Tensor:
        return variance.sqrt() + self.eps

    def _of_the_batch(self, x: Tensor) -> Tensor:
        channels, m = x.shape[1], count(x.shape) // x.shape[1]
        seen = x.detach().reshape(len(x), channels, 1, -1)
        mean = seen.mean(AXES, keepdim=True)
        variance = ((seen - mean) ** 2).mean(AXES, keepdim=True)
        self._remember(mean.flatten(), variance.flatten() * (m / max(1, m - 1)))
        same = torch.ones_like(mean), torch.zeros_like(mean)
        return Normalized.apply(x.reshape(seen.shape), *same, mean, 1 / self.deviation(variance)).view(x.shape)


@chooses("BatchNorm")
def _choose(spec: LayerSpec) -> Choice:
    """Scale and bias in the layer are NVCaffe's, in the form of its dialect; another place of eps is synopsys's."""
    param = spec.get("batch_norm_param")
    if "add_eps_before_sqrt" in param.fields:
        return Choice("synopsys")
    own = any(name in param.fields for name in ("scale_bias", "scale_filler", "bias_filler"))
    return Choice("nvidia", ("nvidia15",)) if own else Choice("", ("nvidia", "synopsys"))
