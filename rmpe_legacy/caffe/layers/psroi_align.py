"""Position-sensitive means of interpolated samples inside boxes. Source: psroi_align_layer.cu of
afantideng/R-FCN-PSROIAlign@cd4b283."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .base import Shape
from .registry import register
from .roi import PositionSensitiveLayer


@register("PSROIAlign", form="")
class PSROIAlign(PositionSensitiveLayer):
    """The mean of sample_num^2 samples in each bin, of the channel that belongs to the bin:
    (N, output_dim * group^2, H, W), (R, 5) -> (R, output_dim, group, group).

    A region is at least 0.1 wide and high; its bins are cut at the map, and samples behind the cut count as 0.

    The published gradient goes to the whole numbers of rows and columns within one of a sample, between the bin's
    rounded edges. A sample that was left out stands at (0, 0), as in memory that was zero. Differs: the published layer
    never clears that memory, so that such a sample may stand where one of the last forward stood.
    """

    params = ("psroi_align_param",)
    is_discontinuous = True
    above_0 = ("output_dim", "group_size", "sample_num")

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.samples = self.spec.get("psroi_align_param").sample_num

    def forward(self, x: Tensor, rois: Tensor) -> Tensor:
        images, boxes = self.regions(x, rois)
        rows, columns = (self._places(boxes, axis, extent) for axis, extent in ((1, x.shape[2]), (0, x.shape[3])))
        return _Align.apply(x, torch.tensor(images, device=x.device), rows, columns)

    def _places(self, boxes: Tensor, axis: int, extent: int) -> _Places:
        """Where the samples of bins lie along an axis of the map."""
        begin = boxes[:, axis] * self.scale
        step = ((boxes[:, axis + 2] + 1) * self.scale - begin).clamp(min=0.1)[:, None] / self.group
        k = torch.arange(self.group, dtype=boxes.dtype, device=boxes.device)
        edges = [(n * step + begin[:, None]) for n in (k, k + 1)]
        first, last = (edge.clamp(0, extent - 1)[..., None] for edge in edges)
        i = torch.arange(1, self.samples + 1, dtype=boxes.dtype, device=boxes.device)
        at = first + i * (step / (self.samples + 1))[..., None]
        whole = torch.arange(extent, device=boxes.device)
        low, high = edges[0].floor().clamp(0, extent)[..., None], edges[1].ceil().clamp(0, extent)[..., None]
        return _Places(at, (at < last) & (last > first), (whole >= low) & (whole < high), extent)


@dataclass(frozen=True)
class _Places:
    """Along one axis, for each region and bin (R, G): samples `at` (R, G, S), which of them count, and which places of
    the map (R, G, extent) get a gradient."""

    at: Tensor
    inside: Tensor
    window: Tensor
    extent: int

    def weights(self, at: Tensor) -> Tensor:
        """How much of each place a sample is, (..., extent); of nan nothing."""
        places = torch.arange(self.extent, dtype=at.dtype, device=at.device)
        return (1 - (at[..., None] - places).abs()).clamp(min=0).nan_to_num()


class _Align(torch.autograd.Function):
    """The samples' mean, with the published gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, images: Tensor, rows: _Places, columns: _Places) -> Tensor:
        ctx.shape, ctx.images, ctx.rows, ctx.columns = x.shape, images, rows, columns
        group = rows.at.shape[1]
        maps = x.view(len(x), -1, group, group, *x.shape[2:])[images]
        y = (rows.weights(rows.at) * rows.inside[..., None]).sum(2)
        z = (columns.weights(columns.at) * columns.inside[..., None]).sum(2)
        return torch.einsum("rdghyx,rgy,rhx->rdgh", maps, y, z) / rows.at.shape[2] ** 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns = ctx.rows, ctx.columns
        both = rows.inside[:, :, None, :, None] & columns.inside[:, None, :, None, :]  # (R, G, G, S, S)
        y = rows.weights(rows.at[:, :, None, :, None] * both) * rows.window[:, :, None, None, None]
        z = columns.weights(columns.at[:, None, :, None, :] * both) * columns.window[:, None, :, None, None]
        spread = torch.einsum("rghijy,rghijx->rghyx", y, z) / rows.at.shape[2] ** 2
        given = torch.einsum("rdgh,rghyx->rdghyx", grad, spread).reshape(len(grad), *ctx.shape[1:])
        return grad.new_zeros(ctx.shape).index_add_(0, ctx.images, given), None, None, None
