"""Crop without crop_param: the offset that lines the two bottoms up.

Sources: crop_layer.cpp and coords.hpp of s9xie/hed@912632b, auto_crop_layer.cpp of yun-liu/rcf@ce460ff.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError

from .base import Layer, Shape, shape_text
from .registry import Choice, chooses, register

Map = tuple[Fraction, Fraction]  # coordinate of a blob -> of one further down: scale and offset
IDENTITY = (Fraction(1), Fraction(0))
KEEP_PLACES = {
    "AbsVal", "BNLL", "Concat", "Dropout", "ELU", "Eltwise", "Exp", "LRN", "Log", "PReLU", "Power", "ReLU", "Sigmoid",
    "Softmax", "Split", "TanH", "Threshold",
}


@register("Crop", form="hed")
class AlignedCrop(Layer):
    """The part of the first bottom that lies over the second: (N, C, H, W), (.., h, w) -> (N, C, h, w).

    The offset comes from the layers between the two: each bottom is followed down through the first bottoms to a
    blob that both come from, and the windows on the way say where a place of it lies. It must be whole and not
    negative. Dilation is not known to the published layer, and does not count here.

    Differs: bottoms that cannot be aligned are cut at offset 0, with a warning, as in BVLC's Caffe, for which such a
    network is meant; HED's aborts.
    """

    bottoms = 2
    unforced = (1,)
    works_in_place = False

    def connect(self, earlier: Sequence[Any]) -> None:
        self.maps: dict[str, tuple[LayerSpec, Layer]] = {}
        for step in earlier:
            for top in step.top:  # the first writer counts: layers in place leave places where they are
                self.maps.setdefault(top, (step.layer.spec, step.layer))

    def setup(self, *bottom: Shape) -> None:
        try:
            self.offset = self._aligned()
        except LayerError as error:
            if self.spec.type != "Crop":
                raise
            self.offset = [0, 0]
            warnings.warn(f"{error}; HED's Caffe refuses that, so the layer is taken as BVLC's, which cuts at offset 0",
                          stacklevel=2)

    def _aligned(self) -> list[int]:
        """The offset in rows and columns. Raises LayerError if there is none."""
        path = self._path(self.spec.bottom[0])
        other = self._path(self.spec.bottom[1])
        common = next((blob for blob in other if blob in path), None)
        if common is None:
            raise self.spec.error("its bottoms do not come from the same blob, so they cannot be aligned")
        offset = []
        for axis in (0, 1):
            first = self._map(path[: path.index(common)], axis)
            second = self._map(other[: other.index(common)], axis)
            scale = second[0] / first[0]
            shift = second[1] - second[0] * first[1] / first[0]
            if scale != 1 or shift > 0 or shift.denominator != 1:
                raise self.spec.error(f"its bottoms cannot be aligned along axis {axis + 2}: scale {scale}, offset "
                                      f"{-shift}; the scale must be 1, and the offset a whole number of at least 0")
            offset.append(-int(shift))
        return offset

    def _path(self, blob: str) -> list[str]:
        """A blob and what it comes from, through first bottoms."""
        path = [blob]
        while blob in self.maps and self.maps[blob][0].bottom:
            blob = self.maps[blob][0].bottom[0]
            path.append(blob)
        return path

    def _map(self, blobs: Sequence[str], axis: int) -> Map:
        scale, offset = IDENTITY
        for blob in blobs:
            a, b = self._step(*self.maps[blob], axis)
            scale, offset = scale * a, scale * b + offset
        return scale, offset

    def _step(self, spec: LayerSpec, layer: Layer, axis: int) -> Map:
        if spec.type in KEEP_PLACES:
            return IDENTITY
        if spec.type in ("AutoCrop", "Crop") and hasattr(layer, "offset"):
            return Fraction(1), Fraction(-layer.offset[axis])
        if spec.type not in ("Convolution", "Deconvolution", "Pooling") or getattr(layer, "kernel", None) is None:
            raise self.spec.error(f"layer {spec.name} ({spec.type}) lies between its bottoms, and its effect on "
                                  "positions is not known")
        stride, kernel, pad = layer.stride[axis], layer.kernel[axis], layer.pad[axis]
        window = Fraction(stride), Fraction(kernel - 1, 2) - pad
        return window if spec.type == "Deconvolution" else (1 / window[0], -window[1] / window[0])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        size = bottom[1][2:]
        if len(bottom[0]) != 4 or len(bottom[1]) != 4 or any(
                at + n > extent for at, n, extent in zip(self.offset, size, bottom[0][2:], strict=True)):
            raise self.spec.error(f"cannot cut {shape_text(size)} at {shape_text(tuple(self.offset))} from a bottom of "
                                  f"{shape_text(bottom[0])}")
        return [(*bottom[0][:2], *size)]

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        (top, left), (h, w) = self.offset, like.shape[2:]
        return x[:, :, top : top + h, left : left + w].clone()


@register("AutoCrop", form="")
class AutoCrop(AlignedCrop):
    """The same under a name of its own, which leaves Crop to crop_param."""


@chooses("Crop")
def _choose(spec: LayerSpec) -> Choice:
    """With crop_param it is BVLC's, which cuts at an offset; without, HED's, which finds the offset."""
    if spec.has("crop_param"):
        return Choice("")
    return Choice("hed", ("",), "it has no crop_param, so its offset is chosen to align its bottoms, as in HED and "
                                "FCN's first Caffe; in dialects 'rmpe' and 'bvlc' it cuts at offset 0")
