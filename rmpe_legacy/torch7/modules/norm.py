"""Normalisation: batch, and across channels. Sources: BatchNormalization.lua and lib/THNN/generic of nn@8726825."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.errors import NetError

from .base import Fields, Module, torch7_class

_DIMS = {"BatchNormalization": 2, "SpatialBatchNormalization": 4, "VolumetricBatchNormalization": 5}


@torch7_class(*(f"{lib}.{name}" for lib in ("nn", "cudnn") for name in _DIMS))
class BatchNormalization(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias per channel: (N, C, ...) -> the same.

    Evaluation mode uses the running statistics; nn then also accepts a single sample, (C, ...). Training mode uses
    those of the batch and updates the running ones; nn, since 2017-08-03, only for batches of more than one.
    """

    uses_train = True

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.dims = _DIMS[self.class_name.partition(".")[2]]
        self.eps, self.momentum = fields.number("eps", 1e-5), fields.number("momentum", 0.1)
        mean, var = fields.tensor("running_mean"), self._running_var(fields)
        if mean is None or var is None or mean.shape != var.shape or mean.dim() != 1:
            raise fields.error("running_mean and running_var must be two vectors of one length")
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", var)
        self.weight = fields.parameter("weight", tuple(mean.shape))
        self.bias = fields.parameter("bias", tuple(mean.shape))

    @staticmethod
    def _running_var(fields: Fields) -> Tensor | None:
        """Files before version 2 contain running_std, which despite its name is 1 / sqrt(var + eps)."""
        inverse = fields.tensor("running_std") if fields.version < 2 else None
        return fields.tensor("running_var") if inverse is None else inverse.pow(-2) - fields.number("eps", 1e-5)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == self.dims - 1 and not self.training and not self.is_cudnn:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        self.output_shape(tuple(x.shape))
        learning = self.training and (self.is_cudnn or len(x) > 1)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, learning, self.momentum,
                            self.eps)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the input shape, if it is supported."""
        if len(shape) != self.dims or shape[1] != len(self.running_mean):
            raise NetError(f"{self.class_name}: takes {self.dims} dimensions, or one less in evaluation mode, and "
                           f"{len(self.running_mean)} channels, not {list(shape)}")
        return shape


@torch7_class("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN")
class SpatialCrossMapLRN(Module):
    """x / (k + alpha / size * (sum of squares over `size` channels around))^beta: (N, C, H, W) or (C, H, W)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.size = fields.integer("size", 5)
        self.alpha, self.beta = fields.number("alpha", 1e-4), fields.number("beta", 0.75)
        self.k = fields.number("K" if fields.has("K") else "k", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.local_response_norm(x.unsqueeze(0) if x.dim() == 3 else x, self.size, self.alpha, self.beta,
                                     self.k).view(x.shape)


@torch7_class("nn.Normalize")
class Normalize(Module):
    """Each row divided by its p-norm, with eps under the root: (N, C) or (C,)."""

    def __init__(self, fields: Fields):
        super().__init__(fields)
        self.p, self.eps = fields.number("p"), fields.number("eps", 1e-10)

    def forward(self, x: Tensor) -> Tensor:
        if self.p == float("inf"):
            return x / (x.abs().amax(-1, keepdim=True) + self.eps)
        return x / (x.abs().pow(self.p).sum(-1, keepdim=True) + self.eps).pow(1 / self.p)


