"""Pooling that may add up. Source: sum_pooling_layer.cpp of ChaojianYu/Hierarchical-Bilinear-Pooling@034e848."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .pooling import Pooling
from .registry import register


@register("SumPooling", form="")
class SumPooling(Pooling):
    """Pooling's MAX and AVE, or with pool SUM the sum of each window, which takes no padding."""

    params = ("sum_pooling_param",)
    methods = ("MAX", "AVE", "SUM")

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.method != "SUM" or not x.shape[1]:
            return super().forward(x)
        return F.avg_pool2d(F.pad(x, self.windows.margin(x.shape[2:])), self.windows.kernel, self.windows.stride,
                            divisor_override=1)
