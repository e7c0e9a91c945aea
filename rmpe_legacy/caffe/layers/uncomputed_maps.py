"""Layers of published forks that change maps, have shapes, and refuse to run.

Sources: densecrf_layer.cpp of hszhao/PSPNet@798bdc9; rn_dropout_layer.cpp of sungheonpark/3D_HPE_RN@024b20a;
rotate_roi_pooling_layer.cpp of xhzdeng/crpn@a5aef0f and mjq11302010044/RRPN@ae64282; rand_cat_layer.cpp and
rand_cat_conv_layer.cpp of aayushbansal/PixelNet@227c48e; gating_inner_product_layer.cpp of
mees/deep_adaptive_fusion@1da9a4e; warping_layer.cpp of panzhenfu/caffe_Unsupervised_Depth_Estimation@9b0837c;
Wtf_layer.cpp and its like of cswaynecool/DRT@324241c.
"""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, count, shape_text
from .registry import Choice, chooses, register
from .uncomputed import Uncomputed


@register("Reluplus", form="")
class Reluplus(Uncomputed):
    """ReLU whose gates feedback opens and closes, as V1's type RELUPLUS. Source: reluplus_layer.cpp of
    liuxianming/caffe_feedback@5bd19d1."""

    bottoms = tops = 1
    works_in_place = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]


@register("SegAccuracy", form="saved")
class SavedSegAccuracy(Uncomputed):
    """Scores (N, C, H, W) and labels (N, 1, H, W) -> four accuracies (1, 1, 1, 4) of all images so far, and a file of
    the counts. Source: seg_accuracy_layer.cpp of Winstonxu123/LSTM-CF@96cf867."""

    params = ("seg_accuracy_param",)
    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        (n, _, *size), labels = self.nchw(bottom[0]), self.nchw(bottom[1])
        if labels != (n, 1, *size):
            raise self.spec.error("needs scores (N, C, H, W) and labels (N, 1, H, W); its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(1, 1, 1, 4)]


@chooses("SegAccuracy")
def _choose_seg_accuracy(spec: LayerSpec) -> Choice:
    """The counts are saved under a name, or not at all."""
    named = spec.get("seg_accuracy_param").fields.keys() & {"save_frequency", "file_name"}
    return Choice("saved") if named else Choice("", ("saved",))


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


@register("LabelDropout", form="")
class LabelDropout(Uncomputed):
    """Scores and labels -> the labels, and the scores where the label is 1 or in a part of the other places. Source:
    label_dropout_layer.cpp of xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

    params = ("label_drop_param",)
    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]


# --- ZhiwenShao/ARL@512c226: multi_stage_meanfield_au3.cpp ---------------------------------------------------


@register("MultiStageMeanfieldAU3", form="")
class MultiStageMeanfieldAU3(Uncomputed):
    """Scores (N, C, H, W), a first guess and features -> scores, by a random field whose places are alike by their
    features."""

    params = ("multi_stage_meanfield_au3_param",)
    bottoms = 3
    tops = 1

    def setup(self, *bottom: Shape) -> None:
        channels = self.nchw(bottom[0])[1]
        if self.spec.get("multi_stage_meanfield_au3_param").num_iterations < 2:
            raise self.spec.error("needs num_iterations above 1")
        for name in ("spatial_weight", "bilateral_weight", "compatibility"):
            self.declare(name, (1, 1, channels, channels))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.nchw(bottom[0])]


class _PixelsOfMaps(Uncomputed):
    """Base: maps (N, C, H, W), which pixels are valid, and normals -> features of the pixels (P, sum of C) and their
    normals (P, 3); P is N times num_output, or without rand_selection the number of places."""

    bottoms = (3, None)
    tops = 2

    def pixels(self, h: int, w: int) -> int:
        """How many pixels of an image there are without rand_selection."""
        return h * w

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get(self.params[0])
        maps = [self.nchw(shape) for shape in bottom[:-2]]
        n, _, h, w = maps[0]
        kept = param.num_output if param.rand_selection else self.pixels(h, w)
        return [(n * kept, sum(shape[1] for shape in maps)), (n * kept, 3)]


@register("RandCat", form="")
class RandCat(_PixelsOfMaps):
    """Maps of one size."""

    params = ("rand_cat_param",)


@register("RandCatConv", form="")
class RandCatConv(_PixelsOfMaps):
    """Maps that are pooling_factor times smaller than the first, read between their places; an edge of pad_factor
    pixels is left out."""

    params = ("rand_cat_conv_param",)

    def setup(self, *bottom: Shape) -> None:
        factors = self.spec.get("rand_cat_conv_param").pooling_factor
        if len(factors) != len(bottom) - 2:
            raise self.spec.error(f"needs a pooling_factor for each of {len(bottom) - 2} maps, not {len(factors)}")

    def pixels(self, h: int, w: int) -> int:
        edge = 2 * self.spec.get("rand_cat_conv_param").pad_factor
        if edge > min(h, w):
            raise self.spec.error(f"pad_factor leaves nothing of a map of {h} x {w}")
        return (h - edge) * (w - edge)


@register("GatingInnerProduct", form="")
class GatingInnerProduct(Uncomputed):
    """Mixes what experts say: probabilities (M, K * num_output), gates (M, K) and labels of both -> (M, num_output).
    Its weights (num_output, K) and bias are stored, but not read."""

    params = ("inner_product_param",)
    bottoms = 4
    tops = 1

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("inner_product_param")
        if param.num_output < 1:
            raise self.spec.error("num_output must be given, and positive")
        gates = count(bottom[1][self.axis(param.axis, len(bottom[1])):])
        self.declare("weight", (param.num_output, gates), param.weight_filler)
        if param.bias_term:
            self.declare("bias", (param.num_output,), param.bias_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("inner_product_param")
        lead = self.axis(param.axis, len(bottom[0]))
        gates = self.declared[0].shape[1]
        if len(bottom[1]) < lead or count(bottom[1][lead:]) != gates:
            raise self.spec.error(f"was set up for {gates} gates; its second bottom is {shape_text(bottom[1])}")
        return [(*bottom[0][:lead], param.num_output)]


@chooses("DenseCRF")
def _choose_field(spec: LayerSpec) -> Choice:
    """By the name of its fields."""
    return Choice("") if spec.has("densecrf_param") else Choice("deeplab")


@chooses("RotateROIPooling")
def _choose_rotated(spec: LayerSpec) -> Choice:
    """By the name of its fields."""
    return Choice("crpn" if spec.has("rotate_roi_pooling_param") else "rrpn")


@register("Warping", form="")
class Warping(Uncomputed):
    """Images (N, C, H, W) and flows to the right and down (N, 1, H, W) -> the images, read where the flows point."""

    bottoms, tops = 3, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.nchw(bottom[0])
        if any((self.nchw(flow)[0], *self.nchw(flow)[2:]) != (n, h, w) for flow in bottom[1:]):
            raise self.spec.error("its images and flows differ in number or size: "
                                  + ", ".join(map(shape_text, bottom)))
        return [bottom[0]]
