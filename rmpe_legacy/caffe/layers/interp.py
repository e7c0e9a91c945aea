"""Bilinear interpolation that keeps the corners. Sources: interp_layer.cpp of TheLegendAli/DeepLab-Context@fb04e9e
(deeplab), hszhao/PSPNet@798bdc9 (pspnet) and joechen24/virtual-pooling-caffe@86665f4 (doubled)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register

UNREPEATED = 4  # height of a bottom whose last row and column virtual-pooling-caffe does not repeat


def sizes_given(spec: LayerSpec) -> tuple[str, ...]:
    """Which of the three ways to give the output's size the prototxt uses."""
    param = spec.get("interp_param")
    size = param.has("height") and param.has("width")
    return tuple(name for name, given in (("shrink_factor", param.has("shrink_factor")),
                                          ("zoom_factor", param.has("zoom_factor")), ("height", size)) if given)


@register("Interp", form="pspnet")
class Interp(Layer):
    """(N, C, H, W) -> (N, C, height, width), or (H - 1) / shrink_factor + 1, or H + (H - 1) * (zoom_factor - 1).

    Given zoom_factor alone, or shrink_factor alone, it counts before height and width, and these before both
    together, which first shrink and then zoom. pad_beg and pad_end are negative: rows and columns that are cut off.
    """

    params = ("interp_param",)
    works_in_place = False
    like = False  # whether the size is the second bottom's
    wanted = (0, 0)  # that size

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("interp_param")
        self.begin, self.end = -param.pad_beg, -param.pad_end
        if self.begin < 0 or self.end < 0:
            raise self.spec.error("pad_beg and pad_end must not be above 0: it crops, and does not pad")
        if not sizes_given(self.spec) and not self.like:
            raise self.spec.error("give zoom_factor, or shrink_factor, or height and width")
        if param.zoom_factor < 1 or param.shrink_factor < 1:
            raise self.spec.error("zoom_factor and shrink_factor must be at least 1")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = self.nchw(bottom[0])  # labels (N,), as a MemoryData layer has them, are N pixels
        if len(bottom[0]) != 4:
            self.not_exportable = "resizes a bottom that has not four axes"
        cut = [size - self.begin - self.end for size in shape[2:]]
        self.size = self._size(cut) if min(cut) > 0 else (0, 0)
        if min(self.size) < 1:
            raise self.spec.error(f"has an empty top for a bottom of {shape_text(bottom[0])}")
        return [(*shape[:2], *self.size)]

    def _size(self, cut: Sequence[int]) -> tuple[int, int]:
        if self.like:
            return self.wanted
        param, given = self.spec.get("interp_param"), sizes_given(self.spec)
        if "height" in given and len({"shrink_factor", "zoom_factor"} & {*given}) != 1:
            return param.height, param.width
        shrunk = [(size - 1) // param.shrink_factor + 1 for size in cut]
        h, w = (size + (size - 1) * (param.zoom_factor - 1) for size in shrunk)
        return h, w

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(self.nchw(tuple(x.shape)))
        h, w = x.shape[2:]
        x = x[:, :, self.begin : h - self.end, self.begin : w - self.end]
        if tuple(x.shape[2:]) == self.size:
            return x.clone()
        return F.interpolate(x, self.size, mode="bilinear", align_corners=True)


@register("Interp", form="deeplab")
class DeeplabInterp(Interp):
    """The same, where exactly one of the three ways is given."""

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if len(sizes_given(self.spec)) != 1:
            raise self.spec.error("give only one of zoom_factor, shrink_factor, or height and width")


@register("Interp", form="sized")
class SizedInterp(Interp):
    """The same with use_blob_size: (N, C, H, W) and a blob (.., h, w) -> (N, C, h, w).

    Source: soeaver/caffe-model@49dc8e0, whose networks use it; the Caffe that they were made with is not public.
    """

    bottoms = (1, 2)
    unforced = (1,)

    def setup(self, *bottom: Shape) -> None:
        self.like = self.spec.get("interp_param").use_blob_size
        if self.like != (len(bottom) == 2):
            raise self.spec.error("takes a second bottom with use_blob_size: true, and only then")
        if self.like and sizes_given(self.spec):
            raise self.spec.error("takes its size from the second bottom; remove "
                                  + " and ".join(sizes_given(self.spec)))
        super().setup(*bottom)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if self.like:
            if len(bottom[1]) != 4:
                raise self.spec.error(f"needs a second bottom (N, C, H, W), not {shape_text(bottom[1])}")
            self.wanted = bottom[1][2], bottom[1][3]
        return super().reshape(bottom[0])

    def forward(self, x: Tensor, like: Tensor | None = None) -> Tensor:
        return super().forward(x)


@register("Interp", form="doubled")
class DoubledInterp(Layer):
    """Values between neighbours: (N, C, H, W) -> (N, C, 2H, 2W), of which the last row and column repeat the ones
    before; (N, C, 2H - 1, 2W - 1), without these, where H was 4 at first. It has no parameters.

    As published, what is repeated has no gradient.
    """

    works_in_place = False
    exact = True

    def setup(self, *bottom: Shape) -> None:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        self.first = bottom[0]

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != self.first:
            raise self.spec.error(f"keeps the size of its first bottom, {shape_text(self.first)}, whatever comes "
                                  f"later; its bottom is {shape_text(bottom[0])}")
        n, c, h, w = bottom[0]
        self.cut = int(h == UNREPEATED)
        if min(2 * h, 2 * w) - self.cut < 1:
            raise self.spec.error(f"has an empty top for a bottom of {shape_text(bottom[0])}")
        return [(n, c, 2 * h - self.cut, 2 * w - self.cut)]

    def forward(self, x: Tensor) -> Tensor:
        right, below = (torch.cat([x.narrow(axis, 1, x.shape[axis] - 1), x.narrow(axis, x.shape[axis] - 1, 1)], axis)
                        for axis in (3, 2))
        corner = torch.cat([below[..., 1:], below[..., -1:]], 3)
        rows = [torch.stack(pair, 4).flatten(3)
                for pair in ((x, (x + right) * 0.5), ((x + below) * 0.5, (x + below + corner + right) * 0.25))]
        whole = torch.stack(rows, 3).flatten(2, 3)
        inner = whole[:, :, :-1, :-1]
        if self.cut:
            return inner.contiguous()
        inner = torch.cat([inner, whole[:, :, :-1, -1:].detach()], 3)
        return torch.cat([inner, whole[:, :, -1:].detach()], 2)


@chooses("Interp")
def _choose(spec: LayerSpec) -> Choice:
    """They differ only where the size is given in more than one way, which DeepLab's refuses, or not at all."""
    if not spec.has("interp_param"):
        return Choice("doubled", ("pspnet", "deeplab"))
    param = spec.get("interp_param")
    if "use_blob_size" in param.descriptor.fields and param.has("use_blob_size"):
        return Choice("sized")
    return Choice("pspnet", ("deeplab",) if len(sizes_given(spec)) == 1 else ())
