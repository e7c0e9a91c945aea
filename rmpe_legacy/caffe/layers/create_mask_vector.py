"""Which classes are in a map of labels. Source: create_mask_vector_layer.cpp of curious999/TGPnet@47458b6."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Layer, Shape, shape_text
from .gradient import severed
from .registry import register


@register("CreateMaskVector", form="")
class CreateMaskVector(Layer):
    """Labels (N, 1, H, W) -> (N, num_label, 1, 1): 1 for a label that the map has (MAX), or its share of the places
    (AVE). As published, an image's counts go on from those of the images before it."""

    params = ("create_mask_vector_param",)
    works_in_place = False
    refuses = (0,)
    is_discontinuous = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, *_ = self.nchw(bottom[0])
        labels = self.spec.get("create_mask_vector_param").num_label
        if c != 1 or labels < 1:
            raise self.spec.error("needs a map of labels (N, 1, H, W), and num_label above 0; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [(n, labels, 1, 1)]

    def forward(self, x: Tensor) -> Tensor:
        param = self.spec.get("create_mask_vector_param")
        label = x.detach().flatten(1).trunc().to(torch.int64)
        inside = (label >= 0) & (label < param.num_label)
        hits = F.one_hot(torch.where(inside, label, 0), param.num_label) * inside.unsqueeze(2)
        seen = hits.sum(1).cumsum(0)
        top = (seen > 0).to(x) if param.pool == "MAX" else (seen.double() / max(1, label.shape[1])).to(x)
        return severed(top.view(*top.shape, 1, 1), x)
