"""What detectors of hidden messages do before their networks: patterns of JPEG images, and rounding.

Sources: bdct_to_spatial_layer.cu and quant_trunc_abs_layer.cu of
GuanshuoXu/caffe_deep_learning_for_steganalysis@2139f17; dctrqt_caffe.patch of
tansq/hybrid_deep_learning_framework_for_jpeg_steganalysis@a88b4f2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .fed import FedLayer
from .gradient import pointwise
from .registry import register

BLOCK = 8  # side of a block of a JPEG image
BOSS = 512  # height and width of the images of BOSSBase, for which the published networks are
# The luminance table of the JPEG standard (ITU-T T.81, table K.1), which libjpeg scales by the quality
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)


@cache
def _inverse_cosines() -> np.ndarray:
    """The values of a block's row or column by its coefficients: (8, 8), orthonormal, float32."""
    mode, place = np.arange(BLOCK), np.arange(BLOCK).reshape(-1, 1)
    waves = np.cos(np.pi * mode * (2 * place + 1) / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    return np.where(mode == 0, np.sqrt(1 / BLOCK), waves).astype(np.float32)


@register("BdctToSpatial", form="")
class BdctToSpatial(Layer):
    """The coefficients of a JPEG image of quality 75 or 95, a channel for each of 64 modes, -> its pixels, neither
    rounded nor clipped: (N, 64, H, W) -> (N, 1, 8 * H, 8 * W)."""

    params = ("bdct_to_spatial_param",)
    works_in_place = False
    refuses = (0,)

    def setup(self, *bottom: Shape) -> None:
        quality = self.spec.get("bdct_to_spatial_param").quality
        if quality not in (75, 95):
            raise self.spec.error(f"takes quality 75 or 95, not {quality:g}")
        percent = int(200 - 2 * quality)
        self.steps = torch.tensor([float((step * percent + 50) // 100) for step in LUMINANCE])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, modes, h, w = self.nchw(bottom[0])
        if modes != BLOCK * BLOCK:
            raise self.spec.error(f"needs a bottom (N, 64, H, W), not {shape_text(bottom[0])}")
        return [(n, 1, BLOCK * h, BLOCK * w)]

    def patterns(self) -> Tensor:
        """The pixels of a block for each coefficient of 1: (64, 1, 8, 8), float32."""
        waves = torch.from_numpy(_inverse_cosines())
        of_modes = torch.einsum("yi,xj->ijyx", waves, waves).reshape(-1, 1, BLOCK, BLOCK)
        return of_modes * self.steps.view(-1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = self.nchw(tuple(x.shape))
        waves = torch.from_numpy(_inverse_cosines()).to(x)
        blocks = (x.reshape(n, -1, h, w) * self.steps.to(x).view(-1, 1, 1)).view(n, BLOCK, BLOCK, h, w)
        return torch.einsum("nijhw,yi,xj->nhywx", blocks, waves, waves).reshape(n, 1, BLOCK * h, BLOCK * w)


def _rounded(size: Tensor) -> Tensor:
    """Values that are not negative, to the nearest whole number; a half goes up."""
    whole = size.trunc()
    return torch.where(size - whole >= 0.5, whole + 1, whole)


@register("QuantTruncAbs", form="")
class QuantTruncAbs(Layer):
    """Rounds (QUANT), bounds by -threshold and threshold (TRUNC) and takes the absolute value (ABS), or what `process`
    names of these; only in place."""

    params = ("quant_trunc_abs_param",)
    refuses = (0,)
    exact = True
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("quant_trunc_abs_param")
        self.process, self.threshold = param.process, param.threshold
        if not self.in_place:
            raise self.spec.error("works in place only; give its top the name of its bottom")

    def forward(self, x: Tensor) -> Tensor:
        size = x.abs()
        if "QUANT" in self.process:
            size = _rounded(size)
        if "TRUNC" in self.process:
            size = size.clamp(max=self.threshold)
        return size if "ABS" in self.process else torch.where(x >= 0, size, -size)


@register("DctrQT", form="")
class DctrQT(Layer):
    """|x| / quantization_step, rounded, and at most threshold; its gradient is that of |x| / quantization_step."""

    params = ("dctrqt_param",)
    works_in_place = False
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("dctrqt_param")
        self.step, self.threshold = param.quantization_step, param.threshold
        if not self.step > 0:
            raise self.spec.error(f"quantization_step {self.step:g} is not above 0")

    def forward(self, x: Tensor) -> Tensor:
        return pointwise(x, lambda x: _rounded((x / self.step).abs()).clamp(max=self.threshold),
                         lambda x, y, dy: x.sign() * dy / self.step, self.in_place)


class _CoverAndStego(FedLayer):
    """Pairs of images with and without a message, and labels (batch_size,), fed."""

    tops = 2

    def shapes(self, n: int, image: Shape) -> Sequence[Shape]:
        """Both tops' shapes."""
        if n < 2 or n % 2:
            raise self.spec.error(f"batch_size {n} is not even and above 0")
        self.guesses = True
        return [(n, *image), (n,)]


@register("ImageDataSteganalysisJpegDct", form="")
class ImageDataSteganalysisJpegDct(_CoverAndStego):
    """Coefficients of JPEG images, (batch_size, 64, h / 8, w / 8); of 512 x 512 pixels unless others are passed."""

    params = ("image_data_steganalysis_jpeg_dct_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.shapes(self.spec.get("image_data_steganalysis_jpeg_dct_param").batch_size,
                           (BLOCK * BLOCK, BOSS // BLOCK, BOSS // BLOCK))


@register("ImageDataSteganalysisSpatial", form="")
class ImageDataSteganalysisSpatial(_CoverAndStego):
    """Gray images, (batch_size, 1, h, w); of 512 x 512 pixels unless others are passed."""

    params = ("image_data_steganalysis_spatial_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.shapes(self.spec.get("image_data_steganalysis_spatial_param").batch_size, (1, BOSS, BOSS))
