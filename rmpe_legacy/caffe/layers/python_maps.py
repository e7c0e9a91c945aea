"""Python layers of published networks that compute maps of maps.

Sources: cmap_layer.py of weitianhan/human_parsing@3daf633; layers/resize.py and layers/filter.py of
scutDACIM/MEnet@ce5eafd; custom_interpolation_layer.py of CLT29/OpenSALICON@869c4dc.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import MAX_COUNT, Count, Layer, Shape, count, shape_text
from .gradient import pointwise
from .known_python import known_python, number, parameters

WHITE = 255.0
MAX_RADIUS = 1 << 15


class _Map(Layer):
    """Base: one top."""

    params = ("python_param",)
    tops: Count = 1
    works_in_place = False

    def parameter(self, name: str) -> float:
        """A number from param_str."""
        return number(self.spec, parameters(self.spec), name)


@known_python(("cmap_layer", "CmapLayer"))
class PyClassMaps(_Map):
    """Scores of classes (N, C) -> a map of each, filled with it: (N, C, height, width). As published, all images have
    the first one's scores, and nothing gets a gradient."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        height, width = (int(self.parameter(name)) for name in ("height", "width"))
        top = (*self.nchw(bottom[0])[:2], height, width)
        if min(height, width) < 1 or count(top) > MAX_COUNT:
            raise self.spec.error(f"its top would be {shape_text(top)}; its param_str needs a 'height' and a 'width' "
                                  "above 0 that fit in memory")
        if self.nchw(bottom[0])[2:] != (1, 1):
            raise self.spec.error(f"takes scores (N, C), not {shape_text(bottom[0])}")
        self.shape = top
        return [top]

    def forward(self, x: Tensor) -> Tensor:
        return x.detach()[:1].reshape(1, -1, 1, 1).expand(self.shape).clone()


@known_python(("resize", "resize_to_same_size"))
class PyJoinedMaps(_Map):
    """Maps of several sizes, each pixel repeated up to the first map's size -> their channels, joined. Where a side is
    no multiple of a map's, the last rows or columns are 0."""

    bottoms = (1, None)
    exact = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 or shape[0] != bottom[0][0] or min(shape[2:]) < 1 for shape in bottom):
            raise self.spec.error(f"takes maps (N, C, H, W) with the same N, not {', '.join(map(shape_text, bottom))}")
        return [(bottom[0][0], sum(shape[1] for shape in bottom), *bottom[0][2:])]

    def forward(self, *maps: Tensor) -> Tensor:
        h, w = maps[0].shape[2:]
        return torch.cat([self._repeated(x, h, w) for x in maps], 1)

    def _repeated(self, x: Tensor, h: int, w: int) -> Tensor:
        down, right = h // x.shape[2], w // x.shape[3]
        x = x.repeat_interleave(down, 2).repeat_interleave(right, 3)
        return F.pad(x, (0, w - x.shape[3], 0, h - x.shape[2]))


@known_python(("filter", "guided_filer"))
class PyGuidedFilter(_Map):
    """Images (N, C, H, W) of 0 to 255, less what a guided filter, each channel its own guide, leaves of them: its
    windows have `radius` pixels to each side, `epsilon` is added to variances. Nothing gets a gradient."""

    def setup(self, *bottom: Shape) -> None:
        self.radius, self.epsilon = int(self.parameter("radius")), self.parameter("epsilon")
        if not 0 <= self.radius <= MAX_RADIUS:
            raise self.spec.error(f"its param_str needs a 'radius' of 0 to {MAX_RADIUS}")
        if parameters(self.spec).get("guided_type") != "gray":
            raise self.spec.error("its param_str needs 'guided_type': 'gray'; the published layer has no other")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"takes images (N, C, H, W), not {shape_text(bottom[0])}")
        return bottom

    def forward(self, x: Tensor) -> Tensor:
        image = x.detach() / WHITE
        size = self._sum(torch.ones_like(image[:1, :1]).double())
        mean, energy = (self._sum(blob.double()).to(x.dtype) / size for blob in (image, image * image))
        variance = energy - mean * mean
        slope = variance / (variance + self.epsilon)
        level = mean - slope * mean
        smooth = self._sum(slope) / size * image + self._sum(level) / size
        return (x.detach() - smooth * WHITE).to(x.dtype)

    def _sum(self, x: Tensor) -> Tensor:
        """The sum in each pixel's window, as far as it lies on the image."""
        for axis in (2, 3):
            size = x.shape[axis]
            total = F.pad(x.cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
            at = torch.arange(size, device=x.device)
            x = (total.index_select(axis, (at + self.radius + 1).clamp(max=size))
                 - total.index_select(axis, (at - self.radius).clamp(min=0)))
        return x


@known_python(("custom_interpolation_layer", "custom_interpolation_layer"))
class PyInterpolatedMaps(_Map):
    """Maps (N, C, H, W) -> those of param_str's size "N,C,h,w", bilinearly with the corners kept.

    Its Backward is not the gradient: it interpolates the top's diff to the bottom's size, as published.
    """

    bottoms = 1

    def setup(self, *bottom: Shape) -> None:
        text = self.spec.get("python_param").param_str
        sizes = [size.strip() for size in text.split(",")]
        if len(sizes) != 4 or not all(size.isdecimal() and len(size) < 10 and int(size) for size in sizes):
            raise self.spec.error('its param_str needs the four sizes of its top, above 0, such as "1,512,38,50"')
        self.shape = tuple(map(int, sizes))
        if count(self.shape) > MAX_COUNT:
            raise self.spec.error(f"its top would be {shape_text(self.shape)}, which is too large")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0][:2] != self.shape[:2] or 0 in bottom[0]:
            raise self.spec.error(f"takes maps {shape_text(self.shape[:2])} x H x W for its top "
                                  f"{shape_text(self.shape)}, not {shape_text(bottom[0])}")
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(x.shape[2:])
        return pointwise(x, lambda x: _resized(x, self.shape[2:]), lambda x, y, dy: _resized(dy, size))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
