"""Layers of forks that are for training alone, or whose numbers nobody has written here yet: they have shapes.

A network with such a layer loads, is shown and drawn, and what does not need the layer is converted. It refuses to run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError

from .base import Count, Layer, Shape, count, shape_text
from .registry import Choice, chooses, register


class Uncomputed(Layer):
    """Raises in `forward`. With strict=False the layer is left out."""

    bottoms: Count = (1, None)
    tops: Count = (1, None)
    works_in_place = False
    not_exportable = "its shape is known, but its values cannot be computed"
    reason = ("its shape is known, but its values cannot be computed; remove the layer, leave it out with strict=False "
              "(--lenient), or stop before it with until=... (--until)")

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> LayerError | None:
        return None if spec.strict else spec.error(cls.reason)

    def forward(self, *bottoms: Tensor) -> Tensor:
        raise self.spec.error(self.reason)


class UncomputedLoss(Uncomputed):
    """A loss: its tops are scalars."""

    is_loss = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [()] * self.top_count


@register("GeneralContrastiveLoss", form="")
class GeneralContrastiveLoss(UncomputedLoss):
    """Pulls and pushes distances to class centers; a second top is the mean of the distances. Source:
    general_constrastive_loss_layer.cpp of happynear/caffe-windows@967eedf."""

    params = ("general_contrastive_loss_param",)
    bottoms = (2, 3)
    tops = (1, 2)


@register("GeneralTripletLoss", form="")
class GeneralTripletLoss(UncomputedLoss):
    """Compares distances to the own and to other class centers. Source: general_triplet_loss_layer.cpp of
    happynear/caffe-windows@967eedf."""

    params = ("general_triplet_loss_param",)
    bottoms = 2
    tops = (1, 2)


@register("YoloV3Loss", form="")
class YoloV3Loss(UncomputedLoss):
    """Compares maps (N, num_object * (5 + num_classes), side, side) with a map of labels (N, side * side * 7). Source:
    yolo_v3_loss_layer.cpp of foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36."""

    params = ("yolo_v3_loss_param",)
    bottoms = 2


@register("RegionLoss", form="yolo9000")
class RegionLossOfTrees(UncomputedLoss):
    """Compares maps with boxes, whose classes may form a tree that softmax_tree names. Source: region_loss_layer.cpp of
    choasup/caffe-yolo9000@e8a476c."""

    params = ("region_loss_param",)
    bottoms = 2


@register("EvalDetection", form="yolo9000")
class EvalDetectionToFiles(Uncomputed):
    """Maps (N, num_object * (5 + num_class), side, side), boxes and images -> (N, num_class + 4 * side^2 * num_object),
    and files of the detections. Source: eval_detection_layer.cpp of choasup/caffe-yolo9000@e8a476c."""

    params = ("eval_detection_param",)
    bottoms = (2, None)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("eval_detection_param")
        boxes = param.side**2 * param.num_object
        if count(bottom[0][1:]) != boxes * (5 + param.num_class):
            raise self.spec.error(f"side {param.side}, num_object {param.num_object} and num_class {param.num_class} "
                                  f"do not suit its bottom of {shape_text(bottom[0])}")
        return [(*bottom[0][:1], param.num_class + 4 * boxes)]


@chooses("RegionLoss")
def _choose_region_loss(spec: LayerSpec) -> Choice:
    """A tree or a map of classes, which are files, is YOLO9000's."""
    named = spec.get("region_loss_param").fields.keys() & {"softmax_tree", "class_map"}
    return Choice("yolo9000", ("",)) if named else Choice("", ("yolo9000",))


@chooses("EvalDetection")
def _choose_eval_detection(spec: LayerSpec) -> Choice:
    """Files of detections are YOLO9000's; boxes without anchors are YOLO v1's."""
    given = spec.get("eval_detection_param").fields.keys()
    if "save_output_param" in given:
        return Choice("yolo9000")
    return Choice("intel", ("yolo9000",)) if "biases" in given else Choice("cells", ("intel", "yolo9000"))


@register("RPN", form="")
class Rpn(Uncomputed):
    """Scores (1, 2A, H, W), moves (1, 4A, H, W) of anchors and the image's info -> regions (R, 5); how many, only a
    forward could tell. The layer is of a Caffe that is not public; source/operator/prototype/rpn.c of
    OAID/Tengine@c73708c reads its parameters."""

    params = ("rpn_param",)
    bottoms = 3
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("rpn_param")
        anchors = len(param.scale) * len(param.ratio)
        scores, moves = bottom[:2]
        if len(scores) != 4 or (scores[1], moves[1:]) != (2 * anchors, (4 * anchors, *scores[2:])):
            raise self.spec.error(f"needs the scores (1, {2 * anchors}, H, W) and moves (1, {4 * anchors}, H, W) of "
                                  f"its {anchors} anchors; they are {shape_text(scores)} and {shape_text(moves)}")
        return [(self.spec.rows, 5)]


@register("LpqLoss", form="")
class LpqLoss(UncomputedLoss):
    """A norm of the differences of flows to a power. Source: lpq_loss_layer.cpp of lmb-freiburg/flownet2@b92e198."""

    params = ("lpq_loss_param",)
    bottoms = (1, 2)


class _Augmentation(Uncomputed):
    """Base of FlowNet 2's layers that draw and apply transformations."""

    params: tuple[str, ...] = ("augmentation_param", "coeff_schedule_param")

    def coefficients(self) -> int:
        """How many numbers a transformation has: the fields of AugmentationCoeff."""
        return len(self.spec.message.descriptor.schema["AugmentationCoeff"].fields)

    def crop(self, bottom: Shape) -> tuple[int, int]:
        """The size that the layer cuts out of a bottom (N, C, H, W)."""
        param = self.spec.get("augmentation_param")
        if len(bottom) != 4:
            raise self.spec.error(f"takes images (N, C, H, W), not {shape_text(bottom)}")
        if not (param.has("crop_width") and param.has("crop_height")):
            return bottom[2], bottom[3]
        return param.crop_height, param.crop_width


@register("DataAugmentation", form="")
class DataAugmentation(_Augmentation):
    """Images, perhaps with their transformations, -> images and transformations. Blobs: a count, and with
    recompute_mean the mean image and the mean color. Source: data_augmentation_layer.cpp of
    lmb-freiburg/flownet2@b92e198."""

    bottoms = (1, 2)
    tops = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        size = self.crop(bottom[0])
        self.declare("count", (1, 1, 1, 1), learns=False)
        if self.spec.get("augmentation_param").recompute_mean:
            self.declare("mean_image", (1, bottom[0][1], *size), learns=False)
            self.declare("mean_color", (1, bottom[0][1], 1, 1), learns=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        drawn = bottom[1] if len(bottom) > 1 else (bottom[0][0], self.coefficients(), 1, 1)
        h, w = self.crop(bottom[0])
        if h > bottom[0][2] or w > bottom[0][3]:
            raise self.spec.error(f"its crop {h} x {w} is larger than its bottom, {shape_text(bottom[0])}")
        return [(*bottom[0][:2], h, w), drawn][: self.top_count]


@register("FlowAugmentation", form="")
class FlowAugmentation(_Augmentation):
    """A flow and the transformations of both its images -> the flow between these. Source:
    flow_augmentation_layer.cpp of lmb-freiburg/flownet2@b92e198."""

    bottoms = 3
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("augmentation_param")
        if len(bottom[0]) != 4 or bottom[0][1] != 2 or not (param.crop_width and param.crop_height):
            raise self.spec.error("needs a flow (N, 2, H, W), crop_width and crop_height; its bottom is "
                                  f"{shape_text(bottom[0])}")
        return [(*bottom[0][:2], param.crop_height, param.crop_width)]


@register("GenerateAugmentationParameters", form="")
class GenerateAugmentationParameters(_Augmentation):
    """Draws transformations, (N, their coefficients, 1, 1). Source: generate_augmentation_parameters_layer.cpp of
    lmb-freiburg/flownet2@b92e198."""

    bottoms = (0, 3)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n = next(iter(bottom[0]), 0) if bottom else self.spec.get("augmentation_param").num
        if n < 1:
            raise self.spec.error("needs a bottom with images, or num above 0")
        return [(n, self.coefficients(), 1, 1)]


@register("BlackAugmentation", form="")
class BlackAugmentation(Uncomputed):
    """Blackens parts of images. Source: black_augmentation_layer.cpp of lmb-freiburg/flownet2@b92e198."""

    params = ("black_augmentation_param",)
    equal_counts = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return bottom


@register("Accum", form="")
class Accum(Uncomputed):
    """Joins channels of maps of several sizes, resized. Source: accum_layer.cpp of lmb-freiburg/flownet2@b92e198."""

    params = ("accum_param",)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("accum_param")
        if any(len(shape) != 4 or shape[0] != bottom[0][0] for shape in bottom):
            raise self.spec.error("takes maps (N, C, H, W) with the same N, not "
                                  + ", ".join(map(shape_text, bottom)))
        joined = bottom[:-1] if param.have_reference else bottom
        if not joined:
            raise self.spec.error("needs two bottoms or more, the last of which gives the size")
        size = [max(shape[axis] for shape in joined) for axis in (2, 3)]
        if param.have_reference:
            size = list(bottom[-1][2:])
        else:
            step = param.size_divisible_by
            wanted = ([math.ceil(n / step) * step for n in size] if step else [param.top_height, param.top_width])
            if all(a > b for a, b in zip(wanted, size, strict=True)):
                size = wanted
        return [(bottom[0][0], sum(shape[1] for shape in joined), *size)]


class _Writer(Uncomputed):
    """Writes its bottoms to files in formats that are not written here."""

    params = ("writer_param",)
    tops = 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []


@register("FLOWriter", form="")
class FLOWriter(_Writer):
    """Writes .flo files. Source: flowriter_layer.cpp of lmb-freiburg/flownet2@b92e198."""


@register("PFMWriter", form="")
class PFMWriter(_Writer):
    """Writes .pfm files. Source: pfmwriter_layer.cpp of lmb-freiburg/flownet2@b92e198."""


@register("ImgWriter", form="")
class ImgWriter(_Writer):
    """Writes images. Source: imgwriter_layer.cpp of lmb-freiburg/flownet2@b92e198."""


@register("FloatWriter", form="")
class FloatWriter(_Writer):
    """Writes .float3 files. Source: floatwriter_layer.cpp of lmb-freiburg/flownet2@b92e198."""


@register("Dtow", form="")
class Dtow(Uncomputed):
    """Moves psize * psize channels to places (MDTOW: (N, C, H, W) -> (N, C / psize^2, psize * H, psize * W)), or back
    (MWTOD). ykshi/DDet@0014255 has its message; the code that orders the channels is not public."""

    params = ("dtow_param",)
    bottoms = tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (n, c, h, w) = self.spec.get("dtow_param"), self.nchw(bottom[0])
        size = max(1, param.psize)
        whole = c % size**2 == 0 if param.method == "MDTOW" else h % size == w % size == 0
        if not whole:
            raise self.spec.error(f"cannot move blocks of {size} x {size} of a bottom of {shape_text(bottom[0])}")
        return [(n, c // size**2, h * size, w * size) if param.method == "MDTOW" else
                (n, c * size**2, h // size, w // size)]


@register("DeformablePSROIPool", form="")
class DeformablePsRoiPool(Uncomputed):
    """Position-sensitive pooling in bins that are moved: (N, output_dim * group^2, H, W), regions (R, 5), perhaps
    offsets -> (R, output_dim, group, group). Source: deformable_psroi_pooling.cpp of
    skybird1995/deformable_RFCN_caffe@ae2d26a, which does not compile."""

    params = ("deformable_peroi_param",)
    bottoms = (2, 3)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("deformable_peroi_param")
        channels = param.output_dim * param.group_size**2
        if min(param.output_dim, param.group_size) < 1 or self.nchw(bottom[0])[1] != channels or not bottom[1]:
            raise self.spec.error("needs output_dim and group_size above 0, and output_dim * group_size^2 channels; "
                                  f"its bottom is {shape_text(bottom[0])}")
        return [(bottom[1][0], param.output_dim, param.group_size, param.group_size)]


@register("RestrainLoss", form="")
class RestrainLoss(UncomputedLoss):
    """Keeps the background's features small. Source: restrain_loss_layer.cpp of haochen-rye/LSTD@0dbad12."""

    params = ("restrain_loss_param",)
    bottoms = 2
    tops = 1


@register("PostClassLoss", form="")
class PostClassLoss(UncomputedLoss):
    """The loss of a second classification of SSD's boxes. Source: post_class_loss_layer.cpp of
    haochen-rye/LSTD@0dbad12."""

    params = ("loss_param", "multibox_loss_param")
    bottoms = 3
    tops = 1


@register("PostClassOutput", form="")
class PostClassOutput(Uncomputed):
    """Detections (1, 1, K, 7) of boxes and the scores of a second classification. Source: post_class_output_layer.cpp
    of haochen-rye/LSTD@0dbad12."""

    params = ("detection_output_param",)
    bottoms = (2, None)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 1, 1, 7)]


@register("RankHardLoss", form="")
class RankHardLoss(UncomputedLoss):
    """Ranks descriptors of places by distance, with negatives drawn by chance and by hardness. Source:
    rank_hard_loss_layer.cpp of hyojinie/crn@a88e0b3."""

    params = ("rank_param",)
    bottoms = (1, None)


@register("SetLoss2", form="")
class SetLoss2(UncomputedLoss):
    """Compares descriptors by the sets that their labels make. Source: set_loss2_layer.cpp of liu-xb/RAM@fb92aab."""

    params = ("set_loss2_param",)
    bottoms = 2


@register("VarLoss", form="")
class VarLoss(UncomputedLoss):
    """The variance of descriptors of a label. Source: var_loss_layer.cpp of liu-xb/RAM@fb92aab."""

    bottoms = 2


@register("MssimLoss", form="")
class MssimLoss(UncomputedLoss):
    """Structural similarity of images at several scales. Source: mssim_loss_layer.cu of limuhit/CCN@bf0b27b."""

    bottoms = 2


@register("EntropyGmmLoss", form="")
class EntropyGmmLoss(UncomputedLoss):
    """How well mixtures of Gaussians, weights, means and widths, predict labels. Source: entropy_gmm_loss_layer.cu of
    limuhit/CCN@bf0b27b."""

    bottoms = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        sizes = [count(shape) for shape in bottom]
        if len({*sizes[:3]}) > 1 or not sizes[3] or sizes[0] % sizes[3]:
            raise self.spec.error("needs weights, means and widths of one size, a multiple of the labels'; its bottoms "
                                  f"are {', '.join(map(shape_text, bottom))}")
        return super().reshape(*bottom)


class _Quantizer(Uncomputed):
    """Base: levels of each channel, three statistics of how it quantises, and how often it used each level."""

    params = ("mlquant_param",)
    bottoms = 1
    tops = (1, 2)

    def declare_levels(self, rows: int, channels: int) -> None:
        """Declare the three blobs, with `rows` tables of each channel's levels."""
        levels = (rows, channels, 1, self.spec.get("mlquant_param").groups)
        self.declare("levels", levels)
        self.declare("state", (5, 1, 1, 1), learns=False)
        self.declare("counts", levels, learns=False)

    def setup(self, *bottom: Shape) -> None:
        self.declare_levels(1, self.nchw(bottom[0])[1])


@register("MLQuant", form="")
class MLQuant(_Quantizer):
    """Values rounded to learnt levels, and as a second top the levels' numbers. Source: ml_quant_layer.cpp of
    limuhit/CCN@bf0b27b."""

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("mlquant_param")
        self.declare_levels((param.groups + 1) ** 2 + 1 if param.method == "NEIGHBOR" else 1, self.nchw(bottom[0])[1])


@register("DecoderQuant", form="")
class DecoderQuant(_Quantizer):
    """The values of levels by their numbers. Source: decoder_quant_layer.cpp of limuhit/CCN@bf0b27b."""


class _Decoding(Uncomputed):
    """Base of the layers that decode one diagonal of the places in each forward."""

    params: tuple[str, ...] = ("decoder_param",)
    bottoms = 1

    def places(self, bottom: Shape) -> tuple[int, int, int, int]:
        """The bottom's N, C, H and W."""
        if len(bottom) != 4:
            raise self.spec.error(f"takes a bottom (N, C, H, W), not {shape_text(bottom)}")
        return self.nchw(bottom)


@register("DecoderInput", form="")
class DecoderInput(_Decoding):
    """(N, 1, H, W) -> (N, nchannels, H, W). Source: decoder_input_layer.cpp of limuhit/CCN@bf0b27b."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, channels, h, w = self.places(bottom[0])
        if channels != 1:
            raise self.spec.error(f"takes a bottom with one channel, not {channels}")
        return [(n, self.spec.get("decoder_param").nchannels, h, w)]


@register("DecoderExtract", form="")
class DecoderExtract(_Decoding):
    """(N, C, H, W) -> (N, 1, H, W). Source: decoder_extract_layer.cpp of limuhit/CCN@bf0b27b."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.places(bottom[0])
        return [(n, 1, h, w)]


@register("DecoderOutput", form="")
class DecoderOutput(_Decoding):
    """(N, C, H, W) -> (N * H * W + 1, 1, 1, C / nchannels + 1), cumulative frequencies. Source:
    decoder_output_layer.cpp of limuhit/CCN@bf0b27b."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, c, h, w = self.places(bottom[0])
        channels = self.spec.get("decoder_param").nchannels
        if not channels:
            raise self.spec.error("needs nchannels above 0")
        return [(n * h * w + 1, 1, 1, c // channels + 1)]


@register("DecoderConv3", form="")
class DecoderConv3(_Decoding):
    """A convolution with constrain that computes one diagonal in each forward: (N, C, H, W) -> (N, num_output, H, W).
    Source: decoder_conv3_layer.cpp of limuhit/CCN@bf0b27b."""

    params = ("convolution_param",)
    tops = 1

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("convolution_param")
        if len(param.kernel_size) != 1:
            raise self.spec.error("needs one kernel_size")
        size = param.kernel_size[0]
        self.declare("weight", (param.num_output, self.places(bottom[0])[1], size, size))
        self.declare("bias", (param.num_output,))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, _, h, w = self.places(bottom[0])
        return [(n, self.spec.get("convolution_param").num_output, h, w)]


@register("LOTLoss", form="")
class LOTLoss(UncomputedLoss):
    """The mean of squares or absolute values, perhaps weighed. Source: lot_loss_layer.cpp of limuhit/CCN@bf0b27b."""

    params = ("lot_param",)
    bottoms = (1, 2)


@register("DistLoss", form="")
class DistLoss(UncomputedLoss):
    """Compares distances of neighbours with whether they are of one segment. Source: dist_loss_layer.cpp of
    aharley/segaware@dc45b8a."""

    params = ("dist_loss_param", "convolution_param")
    bottoms = 2


@register("NormConvMeanfield", form="")
class NormConvMeanfield(Uncomputed):
    """Mean field inference with convolutions aware of segments: scores twice, colours with places, and places ->
    scores. Blobs as MultiStageMeanfield's. Source: norm_conv_meanfield_layer.cpp of aharley/segaware@dc45b8a."""

    params = ("norm_conv_meanfield_param",)
    bottoms = 4
    tops = 1

    def setup(self, *bottom: Shape) -> None:
        channels = self.nchw(bottom[0])[1]
        for name in ("spatial", "bilateral", "compatibility"):
            self.declare(name, (1, 1, channels, channels))


@register("SoftmaxWithLossExpectation", form="")
class SoftmaxWithLossExpectation(UncomputedLoss):
    """Compares scores with labels of points, of images and of how likely there is an object; a second top is the
    probabilities. Source: softmax_loss_expectation_layer.cpp of abearman/whats-the-point1@7d3e21e."""

    params = ("loss_param", "softmax_param")
    bottoms = (2, None)
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(), bottom[0]][: self.top_count]


@register("LiftedStructSimilaritySoftmaxLoss", form="")
class LiftedStructSimilaritySoftmaxLoss(UncomputedLoss):
    """Compares the distances of all pairs of a batch. Source: lifted_struct_similarity_softmax_layer.cpp of
    rksltnl/Caffe-Deep-Metric-Learning-CVPR16@7e416f6."""

    params = ("lifted_struct_sim_softmax_loss_param",)
    bottoms = 2


@register("GenSlicinfo", form="")
class GenSlicinfo(Uncomputed):
    """An image (N, C, image_size, image_size) -> the number of each pixel's superpixel, (N, 1, H, W), and which
    superpixels are empty, (N, 1, H / slic_size, W / slic_size). Source: gen_slicinfo_layer.cu of
    gylee1103/ELDNet@28bae54."""

    params = ("gen_slicinfo_param",)
    bottoms = 1
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (n, _, h, w) = self.spec.get("gen_slicinfo_param"), self.nchw(bottom[0])
        if h != param.image_size or not param.slic_size:
            raise self.spec.error(f"needs a bottom of height {param.image_size}, its image_size, and slic_size above "
                                  f"0; its bottom is {shape_text(bottom[0])}")
        side = param.image_size // param.slic_size
        return [(n, 1, h, w), (n, 1, side, side)][: self.top_count]


@register("LowlevelDistance", form="")
class LowlevelDistance(Uncomputed):
    """How superpixels differ from the grid's cells -> (N * regions, features, grid_size, grid_size), and their labels.
    Regions are train_region_per_image, or if this is 0 all of the third bottom. Source: lowlevel_distance_layer.cu of
    gylee1103/ELDNet@28bae54."""

    params = ("lowlevel_distance_param",)
    bottoms = (3, None)
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("lowlevel_distance_param")
        regions = param.train_region_per_image or count(self.nchw(bottom[2])[2:])
        features = {1: 2, 2: 20, 3: 29}.get(param.feature_option, 164)
        rows = self.nchw(bottom[0])[0] * regions
        return [(rows, features, param.grid_size, param.grid_size), (rows,)][: self.top_count]
