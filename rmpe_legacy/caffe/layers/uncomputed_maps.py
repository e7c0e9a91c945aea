"""Layers of published forks that change maps, have shapes, and refuse to run.

Sources: densecrf_layer.cpp of hszhao/PSPNet@798bdc9; spatial_wta_layer.cpp of t2mhanh/caffe_convLSTM_WTA@4f31996;
rn_dropout_layer.cpp of sungheonpark/3D_HPE_RN@024b20a; rotate_roi_pooling_layer.cpp of xhzdeng/crpn@a5aef0f and
mjq11302010044/RRPN@ae64282.
"""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed


@register("DenseCRF", form="deeplab")
class DeeplabDenseCRF(Uncomputed):
    """DeepLab's: scores (N, C, H, W), the sizes of the images and perhaps the images -> probabilities, or their
    logarithms, by a dense random field."""

    params = ("dense_crf_param",)
    bottoms = (2, 3)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.nchw(bottom[0])
        if any(self.nchw(shape)[0] != n for shape in bottom) or any(shape[2:] != (h, w) for shape in bottom[2:]):
            raise self.spec.error("needs scores (N, C, H, W), N sizes and images of the same size; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(n, c, h, w)]


@register("SpatialWta", form="")
class SpatialWta(Uncomputed):
    """Keeps the largest value of a map or of each window, 0 elsewhere; a second top marks the places."""

    params = ("spatial_wta_param",)
    bottoms = 1
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"needs a bottom (N, C, H, W), not {shape_text(bottom[0])}")
        return bottom * self.top_count


@register("RNDropout", form="")
class RNDropout(Uncomputed):
    """Drops whole bottoms of a row, together with others of them."""

    params = ("rn_dropout_param",)
    equal_counts = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return bottom


class _RotatedRegions(Uncomputed):
    """The largest value in each bin of rotated regions: features (N, C, H, W), regions (R, 6), and of RRPN the image's
    size -> (R, C, pooled_h, pooled_w)."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get(self.params[0])
        if len(bottom[0]) != 4 or bottom[1][1:2] != (6,) or min(param.pooled_h, param.pooled_w) < 1:
            raise self.spec.error("needs features (N, C, H, W), regions of 6 values each, pooled_h and pooled_w; its "
                                  f"bottoms are {', '.join(map(shape_text, bottom))}")
        return [(bottom[1][0], bottom[0][1], param.pooled_h, param.pooled_w)]


@register("RotateROIPooling", form="crpn")
class CornerRotateROIPooling(_RotatedRegions):
    """Regions are corners and an angle."""

    params = ("rotate_roi_pooling_param",)
    bottoms = 2


@register("RotateROIPooling", form="rrpn")
class RotateROIPooling(_RotatedRegions):
    """Regions are a middle, a height, a width and an angle."""

    params = ("rotate_pooling_param",)
    bottoms = 3


@chooses("DenseCRF")
def _choose_field(spec: LayerSpec) -> Choice:
    """By the name of its fields."""
    return Choice("") if spec.has("densecrf_param") else Choice("deeplab")


@chooses("RotateROIPooling")
def _choose_rotated(spec: LayerSpec) -> Choice:
    """By the name of its fields."""
    return Choice("crpn" if spec.has("rotate_roi_pooling_param") else "rrpn")
