"""The peak of each heatmap. Source: prediction_heatmap_layer.cpp:40-90 of RMPE@5188c23."""

from __future__ import annotations

import torch
from torch import Tensor

from .registration import autocast_to_single, fold, is_exporting, register_gradient, say_if_cuda_is_missing, unfold


def prediction_heatmap(heatmap: Tensor) -> Tensor:
    """Return the maximum of each map and its position: (N, J, H, W) -> (N, J, 3), each x, y, score; float or double.

    Of equal values the one with the smallest x, then the smallest y. A tall map (H > W) is scrambled as the published
    code scrambles it; a wide one, which that code writes outside its matrix, is not (csrc/prediction_heatmap.h).
    NaN is never the maximum; a map of NaN only gives 0, 0, -inf. Scores are single precision; no gradient.
    """
    if is_exporting():
        return _composite(heatmap)
    return torch.ops.rmpe.prediction_heatmap.default(heatmap)


def _composite(heatmap: Tensor) -> Tensor:
    """The same with torch's own operators, for exporters."""
    n, joints, h, w = heatmap.shape
    stride = min(h, w)
    y, x = torch.arange(h, device=heatmap.device), torch.arange(w, device=heatmap.device)
    place = x * stride + y[:, None]
    kept = (y[:, None] + stride >= h) | (x == 0)  # not overwritten by a later row
    value = torch.where(kept & ~heatmap.isnan(), heatmap.float(), float("-inf")).flatten(2)
    place = torch.where(kept, place, h * w).flatten().expand(n, joints, -1)
    if h > stride and w > 1:  # the first position that stays 0
        value = torch.cat([value, value.new_zeros(n, joints, 1)], 2)
        place = torch.cat([place, place.new_full((n, joints, 1), (w - 1) * stride + h)], 2)
    score = value.amax(2)
    first = torch.where(value == score[..., None], place, h * w).amin(2)
    return torch.stack([first // stride, first % stride, score], 2).to(heatmap.dtype)


@torch.library.register_fake("rmpe::prediction_heatmap")
def _(heatmap: Tensor) -> Tensor:
    return heatmap.new_empty(*heatmap.shape[:2], 3)


register_gradient("rmpe::prediction_heatmap", lambda ctx, grad: None,
                  lambda ctx, inputs, output: ctx.mark_non_differentiable(output))
autocast_to_single("rmpe::prediction_heatmap")
say_if_cuda_is_missing("rmpe::prediction_heatmap")


@torch.library.register_vmap("rmpe::prediction_heatmap")
def _(info, in_dims, heatmap):
    return unfold(info.batch_size, torch.ops.rmpe.prediction_heatmap(fold(info.batch_size, heatmap, in_dims[0])))
