"""The domain's label for each region and place. Sources: lib/utils/label_resize_layer.py and resize_sslb.py of
yuhuayc/da-faster-rcnn@3193b65."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, shape_text
from .known_python import known_python


class _Labels(Layer):
    """Base: the first bottom gives a size, the second labels."""

    params = ("python_param",)
    bottoms = 2
    exact = True
    not_exportable = JUDGES


@known_python(("utils.label_resize_layer", "LabelResizeLayer"))
class LabelOfRegions(_Labels):
    """Features (N, ...) and a label -> the label N times, (N, 1)."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[1] or not bottom[0] or any(size != 1 for size in bottom[1][1:]):
            raise self.spec.error(f"needs features, and labels of one value each, not {shape_text(bottom[1])}")
        return [(bottom[0][0], 1)]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return label.detach()[0].reshape(1, 1).expand(len(x), 1).clone()


@known_python(("utils.resize_sslb", "LabelResizeLayer"))
class LabelOfPlaces(_Labels):
    """Features (N, C, H, W) and labels (h, w) -> the nearest label of each place, (1, 1, H, W)."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or len(bottom[1]) != 2:
            raise self.spec.error("needs features (N, C, H, W) and labels (h, w); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(1, 1, *bottom[0][2:])]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        at = [(torch.arange(to, device=x.device, dtype=torch.float64) * (of / to)).long().clamp(max=of - 1)
              for to, of in zip(x.shape[2:], label.shape, strict=True)]
        return label.detach()[at[0][:, None], at[1]].view(1, 1, *x.shape[2:])
