"""A block of a DenseNet in one layer. Source: DenseBlock_layer.cpp of senlinuc/caffe_ocr@81642f6."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer, Shape, shape_text
from .registry import register

MOST_STEPS = 1000  # and maps that each adds; published ones have up to 40
EPS = 1e-5


@register("DenseBlock", form="")
class DenseBlock(Layer):
    """numTransition times batch normalisation, ReLU and a convolution of 3 x 3 to growthRate maps, which are added to
    the bottom's: (N, C, H, W) -> (N, C + numTransition * growthRate, H, W). With use_BC, a convolution of 1 x 1,
    normalisation and ReLU go before each.

    Kernels are turned by 180 degrees, against Caffe's own. It computes in TEST; in TRAIN it has a shape, and refuses.
    """

    params = ("denseblock_param",)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("denseblock_param")
        steps, grown, first = param.numTransition, param.growthRate, self.channels(bottom[0])
        if not 1 <= steps <= MOST_STEPS or not 1 <= grown <= MOST_STEPS:
            raise self.spec.error(f"needs numTransition and growthRate from 1 to {MOST_STEPS}")
        channels = [first + step * grown for step in range(steps)]
        narrow = [4 * grown] * steps
        inner = narrow if param.use_BC else channels
        self._declare("filter", [(grown, n, 3, 3) for n in inner], param.Filter_Filler)
        self._declare_norm("", channels)
        if param.use_BC:
            self._declare("narrow_filter", [(4 * grown, n, 1, 1) for n in channels], param.Filter_Filler)
            self._declare_norm("narrow_", narrow)
        self.declare("norm_factor", (1,), learns=False)

    def _declare(self, name: str, shapes: Sequence[Shape], filler: Message | float, learns: bool = True) -> None:
        for number, shape in enumerate(shapes):
            self.declare(f"{name}_{number}", shape, filler, learns=learns)

    def _declare_norm(self, prefix: str, channels: Sequence[int]) -> None:
        param, shapes = self.spec.get("denseblock_param"), [(1, n, 1, 1) for n in channels]
        self._declare(f"{prefix}scale", shapes, param.BN_Scaler_Filler)
        self._declare(f"{prefix}shift", shapes, param.BN_Bias_Filler)
        self._declare(f"{prefix}mean", shapes, 0.0, learns=False)
        self._declare(f"{prefix}variance", shapes, 1.0, learns=False)

    def channels(self, bottom: Shape) -> int:
        """Those of a bottom. Raises LayerError unless it is (N, C, H, W)."""
        if len(bottom) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom)}")
        return bottom[1]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (n, _, h, w) = self.spec.get("denseblock_param"), bottom[0]
        return [(n, self.channels(bottom[0]) + param.numTransition * param.growthRate, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        if self.spec.phase != "TEST":
            raise self.spec.error("its training is not supported; load the network in phase TEST, or stop before it "
                                  "with until=... (--until)")
        for convolutions in self.steps():
            y = x
            for filters, *norm in convolutions:
                y = F.conv2d(self._normed(y, *norm), filters, padding=filters.shape[2] // 2)
            x = torch.cat([x, y], 1)
        return x

    def steps(self) -> list[list[tuple[Tensor, ...]]]:
        """Of each step its convolutions, one or with use_BC two: filters as torch has them, and scale, shift, mean and
        variance of the normalisation before."""
        param, blobs = self.spec.get("denseblock_param"), self.blobs()
        steps, factor = param.numTransition, blobs[-1].item()
        by = 1 / factor if factor else 0.0
        found = []
        for step in range(steps):
            filters, *norms = blobs[step:-1:steps]
            kernels = [filters.flip(2, 3), *norms[4:5]][::-1]  # those of 1 x 1 go first
            found.append([(kernel, *norm[:2], norm[2] * by, norm[3] * by) for kernel, norm in zip(
                kernels, (norms[:4], norms[5:]), strict=False)])
        return found

    @staticmethod
    def _normed(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return (scale * ((x - mean) / (variance + EPS).sqrt()) + shift).relu()
