"""Python losses that compare two images: by their differences, by their structure, or by both.

Source: loss.py of guanlongzhao/single-image-dehazing@b0d622f, as it runs under Python 2. The gradients do not depend on
the top's diff.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Shape, shape_text
from .known_python import known_python, number, parameters
from .loss import given
from .pyloss import PyLoss


@known_python(("pyloss", "L1"), ("loss", "L1"))
class PyL1(PyLoss):
    """The mean of the absolute differences."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        difference = (x - label).detach()
        slope = difference.sign() / difference.numel()
        return given((difference.abs().sum() / difference.numel()).view(1), lambda: (slope, -slope), x, label,
                     weighted=False)


@known_python(("pyloss", "L2"), ("loss", "L2"))
class PyL2(PyLoss):
    """Half the mean of the squared differences."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        difference = (x - label).detach()
        slope = difference / difference.numel()
        return given((difference.square().sum() / difference.numel() / 2).view(1), lambda: (slope, -slope), x, label,
                     weighted=False)


class _Structure(PyLoss):
    """Base: 1 less the mean similarity of square images (N, C, W, W), W odd, around their middle.

    Means, variances and the covariance are weighted by Gaussians of the widths `sigma` of param_str, in double
    precision. The similarity is that of the means, at the last width, times those of the structure at all widths. The
    label gets no gradient.
    """

    sigma: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    channels = 3  # 0: any number

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.c1 = number(self.spec, values, "C1", 0.01) ** 2
        self.c2 = number(self.spec, values, "C2", 0.03) ** 2
        sigma = values.get("sigma", self.sigma)
        self.sigma = tuple(sigma) if isinstance(sigma, list | tuple) else (sigma,)
        several = len(type(self).sigma) > 1
        if (several != isinstance(sigma, list | tuple) and "sigma" in values) or not self.sigma or not all(
                isinstance(width, int | float) and width > 0 for width in self.sigma):
            raise self.spec.error(f"its param_str needs 'sigma': {'numbers' if several else 'a number'} above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        top = super().reshape(*bottom)
        if len(bottom[0]) != 4 or bottom[0][2] != bottom[0][3] or bottom[0][3] % 2 == 0:
            raise self.spec.error("needs square images (N, C, W, W) with an odd W; its bottoms are "
                                  + shape_text(bottom[0]))
        if self.channels and bottom[0][1] != self.channels:
            raise self.spec.error(f"needs images with {self.channels} channels; its bottoms are "
                                  + shape_text(bottom[0]))
        return top

    def windows(self, width: int, device: torch.device) -> Tensor:
        """The Gaussians, (widths, 1, 1, W, W), each with the sum 1."""
        at = torch.arange(-(width // 2), width // 2 + 1, dtype=torch.float64, device=device)
        row = (-at.square() / (2 * torch.tensor(self.sigma, dtype=torch.float64, device=device).view(-1, 1) ** 2)).exp()
        window = row.unsqueeze(2) * row.unsqueeze(1)
        return (window / window.sum((1, 2), keepdim=True)).view(-1, 1, 1, width, width)

    def dissimilarity(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """1 less the mean similarity, and its gradient for x."""
        def mean(values: Tensor) -> Tensor:
            return (w * values).sum((3, 4), keepdim=True)

        mean_x, mean_y = mean(x), mean(y)
        spread = mean(x.square()) - mean_x.square() + mean(y.square()) - mean_y.square() + self.c2
        level = mean_x.square() + mean_y.square() + self.c1
        of_means = (2 * mean_x * mean_y + self.c1) / level
        of_structure = (2 * (mean(x * y) - mean_x * mean_y) + self.c2) / spread
        slope = (2 * w * (mean_y - mean_x * of_means) / level)[-1]
        by_structure = 2 / spread * w * ((y - mean_y) - of_structure * (x - mean_x))
        slope = slope + (by_structure / of_structure).sum(0) * of_means[-1]
        product = of_structure.prod(0)
        places = len(x) * x.shape[1]
        return 1 - (of_means[-1] * product).sum() / places, -slope * product / places

    def loss(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and its gradient for x, in double precision."""
        return self.dissimilarity(x, y, w)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        loss, slope = self.loss(x.detach().double(), label.detach().double(), self.windows(x.shape[3], x.device))
        slope = slope.to(x.dtype)
        return given(loss.to(x.dtype).view(1), lambda: (slope, None), x, label, weighted=False)


@known_python(("pyloss", "SSIM"), ("loss", "SSIM"))
class PySsim(_Structure):
    """Structural dissimilarity of images with 3 channels, at one width."""

    sigma = (5.0,)


@known_python(("pyloss", "MSSSIM"), ("loss", "MSSSIM"))
class PyMsSsim(_Structure):
    """Structural dissimilarity of images with 3 channels, at several widths."""


class _Mixed(_Structure):
    """Base: `alpha` of the structural dissimilarity at several widths, and the rest of differences weighted by the last
    Gaussian."""

    channels = 0
    alpha = 0.025

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.alpha = number(self.spec, parameters(self.spec), "alpha", self.alpha)

    @staticmethod
    def cost(difference: Tensor) -> tuple[Tensor, Tensor]:
        """What a difference costs, and the derivative."""
        raise NotImplementedError

    def loss(self, x: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        of_structure, slope = self.dissimilarity(x, y, w)
        cost, derivative = (values * w[-1] / (len(x) * x.shape[1]) for values in self.cost(x - y))
        return (self.alpha * of_structure + (1 - self.alpha) * cost.sum(),
                self.alpha * slope + (1 - self.alpha) * derivative)


@known_python(("pyloss", "MSSSIML1"), ("loss", "MSSSIML1"))
class PyMsSsimL1(_Mixed):
    """Structural dissimilarity at several widths and absolute differences."""

    @staticmethod
    def cost(difference: Tensor) -> tuple[Tensor, Tensor]:
        return difference.abs(), difference.sign()


@known_python(("pyloss", "MSSSIML2"), ("loss", "MSSSIML2"))
class PyMsSsimL2(_Mixed):
    """Structural dissimilarity at several widths and half the squared differences."""

    alpha = 0.1

    @staticmethod
    def cost(difference: Tensor) -> tuple[Tensor, Tensor]:
        return difference.square() / 2, difference
