"""A dense conditional random field that labels pixels. Source: densecrf_layer.cpp and util/densecrf of
pathak22/caffe-ccnn@f62faf1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.errors import RmpeError

from .base import Layer, Shape, shape_text
from .permutohedral import Lattice
from .registry import register

STEPS = 10  # of mean field inference
TINY = 1e-20  # keeps a norm of 0 from dividing


def places(h: int, w: int) -> np.ndarray:
    """Column and row of each pixel, (h * w, 2) float32."""
    rows, columns = np.mgrid[:h, :w].astype(np.float32)
    return np.stack([columns.ravel(), rows.ravel()], 1)


@register("DenseCRF", form="")
class DenseCRF(Layer):
    """The likeliest class of each pixel after 10 steps of mean field inference: scores (N, C, H, W) and images
    (N, 3, H, W) -> (N, 1, H, W).

    Pixels are alike by place (x_gauss, y_gauss, weight wt_gauss) and by place and colour (*_bilateral). Colours are
    blue, green and red, cut to bytes. Nothing gets a gradient.
    """

    params = ("densecrf_param",)
    bottoms = 2
    works_in_place = False
    is_discontinuous = True
    refuses = unforced = (0, 1)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("densecrf_param")
        self.near = [param.x_gauss, param.y_gauss]
        self.alike = [getattr(param, f"{name}_bilateral") for name in "xyrgb"]
        if min(self.near + self.alike) <= 0:
            raise self.spec.error("needs x_gauss, y_gauss and all of *_bilateral above 0")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, image = bottom
        if len(scores) != 4 or image != (scores[0], 3, *scores[2:]) or scores[1] < 3:
            raise self.spec.error("needs scores (N, C, H, W) of 3 classes or more and images (N, 3, H, W); its bottoms "
                                  f"are {shape_text(scores)} and {shape_text(image)}")
        return [(scores[0], 1, *scores[2:])]

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        param, (h, w) = self.spec.get("densecrf_param"), scores.shape[2:]
        spatial = self._with_norm(places(h, w) / np.array(self.near, np.float32))
        labels = []
        for one, picture in zip(scores.detach(), image.detach(), strict=True):
            colors = (picture.cpu().trunc().long() & 255).flatten(1).flip(0).numpy().astype(np.float32)
            features = np.concatenate([places(h, w), colors.T], 1) / np.array(self.alike, np.float32)
            filters = ((param.wt_gauss, *spatial), (param.wt_bilateral, *self._with_norm(features)))
            unary = one.flatten(1)
            shares = unary.softmax(0)
            for _ in range(STEPS):
                shares = (unary + sum(weight * norm.to(shares) * lattice.filter(shares)
                                      for weight, lattice, norm in filters)).softmax(0)
            labels.append(shares.argmax(0).view(1, h, w))
        return torch.stack(labels).to(scores.dtype)

    def _with_norm(self, features: np.ndarray) -> tuple[Lattice, Tensor]:
        """A lattice, and what makes the weights of each pixel's neighbours add up to 1, (pixels,)."""
        try:
            lattice = Lattice(features)
        except RmpeError as error:
            raise self.spec.error(str(error)) from None
        return lattice, 1 / (lattice.filter(torch.ones(1, len(features)))[0] + TINY)
