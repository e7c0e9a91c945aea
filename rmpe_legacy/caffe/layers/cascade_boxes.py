"""Boxes as Cascade R-CNN reads them from its maps, and what its layers do with them.

Source: src/caffe/util/bbox_util.cpp of zhaoweicai/cascade-rcnn@2252f46. A box is x1, y1, x2, y2, both ends in it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message

from .base import Layer
from .suppression import first_apart


def moments(layer: Layer) -> tuple[Tensor, Tensor]:
    """The mean and standard deviation of the targets, (4,) each, from bbox_reg_param; SINet has none."""
    if "bbox_reg_param" not in layer.spec.message.descriptor.fields:
        return torch.zeros(4), torch.ones(4)
    param = layer.spec.get("bbox_reg_param")
    if not param.bbox_mean or not param.bbox_std:
        return torch.zeros(4), torch.ones(4)
    if len(param.bbox_mean) != 4 or len(param.bbox_std) != 4 or min(param.bbox_std) <= 0:
        raise layer.spec.error("bbox_reg_param needs four bbox_mean and four bbox_std, the latter above 0")
    return torch.tensor(list(param.bbox_mean)), torch.tensor(list(param.bbox_std))


def from_priors(moves: Tensor, priors: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Boxes (N, K, 4) that moves (N, K, 4) make of priors (N, 4)."""
    moves = moves * std.to(moves) + mean.to(moves)
    size = (priors[:, 2:] - priors[:, :2] + 1).unsqueeze(1)
    centre = (0.5 * (priors[:, 2:] + priors[:, :2])).unsqueeze(1)
    sides = size * torch.exp(moves[..., 2:])
    corner = moves[..., :2] * size + centre - (sides - 1) / 2
    return torch.cat([corner, corner + sides - 1], -1)


def bounds(layer: Layer, param: Message) -> tuple[float, float, float, float]:
    """The least and the largest move of the centre, and of the logarithm of the size.

    Raises:
        LayerError: field_xyr or field_whr, which divide, is not above 0.
    """
    if not (param.field_xyr > 0 and param.field_whr > 0):
        raise layer.spec.error("field_xyr and field_whr must be above 0")
    return (-1 / param.field_xyr, 1 / param.field_xyr, float(np.log(np.float32(1 / param.field_whr))),
            float(np.log(np.float32(param.field_whr))))


def centres(h: int, w: int, stride: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of a map's cells in the image, in pixels: x (w), y (h, 1)."""
    x = (torch.arange(w, dtype=like.dtype, device=like.device) + 0.5) * stride
    y = (torch.arange(h, dtype=like.dtype, device=like.device) + 0.5) * stride
    return x, y.unsqueeze(1)


def from_fields(moves: Tensor, fields: Tensor, stride: float, mean: Tensor, std: Tensor,
                limits: tuple[float, float, float, float]) -> tuple[Tensor, ...]:
    """Left, top, width, height (N, H, W) that moves (N, 4, H, W) make of each cell's field (N, 2), width first."""
    n, _, h, w = moves.shape
    moves = moves * std.to(moves).view(1, 4, 1, 1) + mean.to(moves).view(1, 4, 1, 1)
    x, y = centres(h, w, stride, moves)
    fw, fh = fields[:, 0].view(n, 1, 1), fields[:, 1].view(n, 1, 1)
    centre_x = moves[:, 0].clamp(*limits[:2]) * fw + x
    centre_y = moves[:, 1].clamp(*limits[:2]) * fh + y
    width = fw * torch.exp(moves[:, 2].clamp(*limits[2:]))
    height = fh * torch.exp(moves[:, 3].clamp(*limits[2:]))
    return centre_x - width / 2, centre_y - height / 2, width, height


def overlap(a: np.ndarray, b: np.ndarray, kind: str = "IOU") -> np.ndarray:
    """The common part of boxes (.., 4), divided by their union, by the smaller (IOMU) or by the first (IOFU)."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    apart = (low[..., 0] > high[..., 0]) | (low[..., 1] >= high[..., 1])
    common = np.where(apart, 0, (high - low + 1).prod(-1))
    sizes = [np.where((x[..., 2:] < x[..., :2]).any(-1), 0, (x[..., 2:] - x[..., :2] + 1).prod(-1)) for x in (a, b)]
    whole = {"IOMU": np.minimum(*sizes), "IOFU": sizes[0] + 0 * sizes[1]}.get(kind, sizes[0] + sizes[1] - common)
    valid = (sizes[0] > 0) & (sizes[1] > 0) & (whole > 0)
    return np.where(valid, common / np.where(whole > 0, whole, 1), 0).astype(a.dtype)


def kept(boxes: np.ndarray, limit: float, kind: str) -> list[int]:
    """Return the indices of the boxes (K, 4), sorted best first, that no better one overlaps by more than `limit`."""
    return first_apart(len(boxes), lambda i, others: overlap(boxes[i], boxes[others], kind) > limit)


def region_tops(found: np.ndarray, like: Tensor, number: int) -> tuple[Tensor, ...]:
    """Return regions (R, 5, 1, 1), and as a second top the same with scores (R, 6, 1, 1).

    Args:
        found: (R, 6), image, x1, y1, x2, y2, score. Without any: the region (0, 1, 1, 10, 10), scores all 0.
        like: Of the dtype and on the device that the tops get.
        number: How many tops there are.
    """
    if not len(found):
        return (like.new_tensor([0, 1, 1, 10, 10]).view(1, 5, 1, 1), like.new_zeros(1, 6, 1, 1))[:number]
    scored = torch.from_numpy(found).to(like).view(-1, 6, 1, 1)
    return (scored[:, :5].clone(), scored)[:number]


def best_first(scores: np.ndarray) -> np.ndarray:
    """Return the order of scores (N,), best first. Equal scores keep their order, which the published sort leaves open.
    """
    return np.argsort(-scores, kind="stable")
