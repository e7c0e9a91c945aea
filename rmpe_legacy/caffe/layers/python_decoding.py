"""Python layers of published networks that decode what a network computes, or judge it.

Sources: ordinal_decode_layer.py of hufu6371/DORN@ce9ee7b; argmax_layer_CSPN.py of briqr/CSPN@d3d01e5;
triplet/l2norm_layer.py of hizhangp/triplet@9713496; seg_iou.py of cuijianaaa/caffe-segmentation-python-layer@2474526.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import JUDGES, Count, Layer, Shape, count, shape_text
from .known_python import known_python


class _Decoder(Layer):
    """Base: a layer that compares values, so that nothing gets a gradient."""

    params = ("python_param",)
    tops: Count = 1
    works_in_place = False
    is_discontinuous = True

    def four_axes(self, bottom: Shape) -> Shape:
        """The bottom's shape. Raises LayerError unless it is (N, C, H, W)."""
        if len(bottom) != 4:
            raise self.spec.error(f"takes a bottom (N, C, H, W), not {shape_text(bottom)}")
        return bottom


@known_python(("ordinal_decode_layer", "OrdinalDecodeLayer"))
class PyOrdinalDecode(_Decoder):
    """Pairs of scores (N, C, H, W) -> in how many pairs the second is larger, (N, N, H, W): as published, each image
    has those of all images as its channels."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.four_axes(bottom[0])
        return [(n, n, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach()[:, : x.shape[1] // 2 * 2]
        return (x[:, 1::2] > x[:, ::2]).sum(1, dtype=x.dtype).repeat(len(x), 1, 1, 1)


@known_python(("argmax_layer_CSPN", "ArgmaxLayer"))
class PyArgmax(_Decoder):
    """Scores (N, C, H, W) -> the class with the largest at each place, (N, H, W)."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.four_axes(bottom[0])
        if not c:
            raise self.spec.error("needs a class or more")
        return [(n, h, w)]

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().argmax(1).to(x.dtype)


@known_python(("seg_iou", "Iou"))
class PyIou(_Decoder):
    """Scores (N, C, H, W) and labels -> the mean over the classes that there are of intersection over union, (1,). As
    published, it is that of the first image, whose pixels count as often as there are images."""

    bottoms = 2
    tops = (1, None)
    not_exportable = JUDGES
    unforced = (0, 1)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.four_axes(bottom[0])
        if not n or not c or not bottom[1] or count(bottom[1][1:]) != h * w:
            raise self.spec.error(f"needs scores (N, C, H, W) and a label for each place; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(1,)] * self.top_count

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        classes = x.shape[1]
        found, given = x.detach()[0].argmax(0).flatten(), label.detach()[0].flatten()
        counted = (given >= 0) & (given < classes)
        pairs = classes * given[counted].long() + found[counted]
        table = torch.bincount(pairs, minlength=classes**2).view(classes, classes).double()
        both = table.diagonal()
        shares = both / (table.sum(0) + table.sum(1) - both)
        mean = shares[~shares.isnan()].mean().to(x.dtype).view(1)
        return (mean, *[torch.zeros_like(mean)] * (self.top_count - 1))


@known_python(("l2norm_layer", "L2NormLayer"), ("triplet.l2norm_layer", "L2NormLayer"))
class PyL2Norm(Layer):
    """Rows (N, C) by their Euclidean length; a row of zeros stays."""

    params = ("python_param",)
    tops = 1
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 2:
            raise self.spec.error(f"takes rows (N, C), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        length = x.norm(dim=1, keepdim=True)
        return x / torch.where(length == 0, 1, length)
