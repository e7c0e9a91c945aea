"""A loss of windows beyond the image. Source: st_loss_layer.cu of daerduoCarey/SpatialTransformerLayer@cf2a461."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import MAX_PADDED, Layer, Shape, count, shape_text
from .loc_loss import beyond
from .registry import register


@register("STLoss", form="")
class STLoss(Layer):
    """theta (N, 6) -> a scalar: half the mean squared distance of the points of an output_H x output_W grid from the
    image, which goes from -1 to 1 both ways.
    """

    params = ("st_loss_param",)
    is_loss = True
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("st_loss_param")
        self.size = param.output_H, param.output_W
        if min(self.size) < 1:
            raise self.spec.error("needs output_H and output_W, both above 0")
        if count(self.size) > MAX_PADDED:
            raise self.spec.error(f"its grid of {shape_text(self.size)} points is too large; lower output_H and "
                                  "output_W")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or count(bottom[0][1:]) != 6:
            raise self.spec.error(f"needs a bottom (N, 6), not {shape_text(bottom[0])}")
        return [()]

    def grid(self) -> Tensor:
        """Return x, y and 1 of each point of the grid, (3, H * W); x goes down, as published."""
        x, y = (torch.arange(n, dtype=torch.float64) * 2 / n - 1 for n in self.size)
        points = torch.stack(torch.meshgrid(x, y, indexing="ij")).flatten(1)
        return torch.cat([points, torch.ones_like(points[:1])]).float()

    def forward(self, theta: Tensor) -> Tensor:
        points = theta.reshape(-1, 2, 3) @ self.grid().to(theta)
        return beyond(points, 1).square().sum() / 2 / (len(theta) * count(self.size))
