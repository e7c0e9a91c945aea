"""Features of single pixels. Source: tools/caffe/src/caffe/layers/rand_bi_layer.cpp of
aayushbansal/PixelNet@227c48e."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Layer, Shape, shape_text
from .registry import register


@register("RandBI", form="")
class RandBI(Layer):
    """Maps (N, C, H, W) of several sizes and pixels (P, 3), each an image, a row and a column -> (P, sum of C): the
    maps' values there, interpolated.

    A map is compression_rate times smaller than the image that the pixels lie in; with pad, its first place is the
    middle of as many pixels, else the first of them. What lies before the first place is read as that.
    """

    params = ("rand_comp_param",)
    bottoms = (2, None)
    tops = 1
    works_in_place = False
    is_discontinuous = True
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("rand_comp_param")
        self.rates = list(param.compression_rate)
        if len(self.rates) != len(bottom) - 1 or min(self.rates) < 1:
            raise self.spec.error(f"needs a compression_rate above 0 for each of {len(bottom) - 1} maps")
        self.first = [(rate - 1) / 2 if param.pad else 0.0 for rate in self.rates]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        *maps, pixels = bottom
        if len(pixels) != 2 or pixels[1] != 3 or any(len(shape) != 4 for shape in maps):
            raise self.spec.error("needs maps (N, C, H, W) and pixels (P, 3); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(pixels[0], sum(shape[1] for shape in maps))]

    def forward(self, *bottoms: Tensor) -> Tensor:
        *maps, pixels = bottoms
        image, pixels = pixels.detach()[:, 0].long(), pixels.detach()[:, 1:]
        return torch.cat([self._read(x, image, (pixels - first) / rate)
                          for x, first, rate in zip(maps, self.first, self.rates, strict=True)], 1)

    def _read(self, x: Tensor, image: Tensor, place: Tensor) -> Tensor:
        """Values (P, C) at rows and columns (P, 2), interpolated in double precision."""
        low, high = (edge.long().clamp(min=0) for edge in (place.floor(), place.ceil()))
        size = image.new_tensor(x.shape[2:])
        if not (image >= 0).all() or not (image < len(x)).all() or not (high < size).all():
            raise self.spec.error(f"its pixels lie outside a map of {shape_text(tuple(x.shape))}")
        share = torch.where(low == high, 0, place - low).double()
        down, across = share[:, :1], share[:, 1:]
        x = x.double()
        top, left, bottom, right = low[:, 0], low[:, 1], high[:, 0], high[:, 1]

        def column(at: Tensor) -> Tensor:
            return x[image, :, top, at] * (1 - down) + x[image, :, bottom, at] * down

        return (column(left) * (1 - across) + column(right) * across).to(place)
