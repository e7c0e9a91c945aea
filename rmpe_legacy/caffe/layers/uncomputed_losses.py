"""Losses and samplers of forks' training networks that have shapes, and refuse to run: see `uncomputed`."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape, count, shape_text
from .registry import register
from .uncomputed import Uncomputed, UncomputedLoss


@register("NormalizedSigmoidCrossEntropyLoss", form="")
class NormalizedSigmoidCrossEntropyLoss(UncomputedLoss):
    """Compares scores with targets, over rows and places. Source: normalized_sigmoid_cross_entropy_loss_layer.cpp of
    chwilms/AttentionMask@2e31e2a."""

    bottoms = (2, 3)
    tops = 1


@register("DSALoss", form="")
class DsaLoss(UncomputedLoss):
    """Pulls features to the centers of faces and sequences. Source: dsa_loss_layer.cpp of
    huangyangyu/SeqFace@ef524f7."""

    params = ("dsa_loss_param", "loss_param")
    bottoms = 2

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("dsa_loss_param")
        size = count(bottom[0][self.axis(param.axis, len(bottom[0])) :])
        self.declare("centers", (param.faceid_num + param.seqid_num, size), param.center_filler)


class _LossWithProbabilities(UncomputedLoss):
    """Base: scores and labels -> a loss; a second top is the probabilities."""

    params: tuple[str, ...] = ("softmax_param", "loss_param")
    bottoms = 2
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(), bottom[0]][: self.top_count]


@register("LSROLoss", form="")
class LsroLoss(_LossWithProbabilities):
    """SoftmaxWithLoss that spreads what has no label over all classes; a second top is the probabilities. Source:
    LSRO_loss_layer.cpp of huangyangyu/SeqFace@ef524f7."""


@register("SmoothMarginInnerProduct", form="")
class SmoothMarginInnerProduct(Uncomputed):
    """Features and labels -> scores (N, num_output) with a margin, and perhaps how strong it is. Source:
    smooth_margin_inner_product_layer.cpp of huangyangyu/SeqFace@ef524f7."""

    params = ("smooth_margin_inner_product_param",)
    bottoms = 2
    tops = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("smooth_margin_inner_product_param")
        self.along = self.axis(param.axis, len(bottom[0]))
        self.declare("weight", (param.num_output, count(bottom[0][self.along :])), param.weight_filler)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("smooth_margin_inner_product_param")
        return [(*bottom[0][: self.along], param.num_output), (1,)][: self.top_count]


@register("GANLoss", form="")
class GanLoss(UncomputedLoss):
    """The loss of an adversary. longriyao/caffe_colorizer@ee73fce has a network with it; its code is not public."""

    params = ("ganloss_param",)
    bottoms = (1, 2)


@register("WeightEuclideanLoss", form="")
class WeightEuclideanLoss(UncomputedLoss):
    """The Euclidean loss of landmarks, weighed by the part of the face. Source: weight_euclidean_loss_layer.cpp of
    goodluckcwl/custom-caffe@aa5345b."""

    params = ("weight_euclidean_loss_param",)
    bottoms = (2, 3)


@register("GlobalLSEMargin", form="")
class GlobalLseMargin(Uncomputed):
    """Scores (N, C) and labels, perhaps norms -> the scores with a margin, and perhaps five statistics. Source:
    global_lse_margin_layer.cpp of happynear/caffe-windows@967eedf."""

    params = ("scale_param",)
    bottoms = (2, 3)
    tops = (1, 2)

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("scale_param")
        self.declare("scale", (1,), param.filler if param.has("filler") else 30.0)
        self.declare("margin", (1,), learns=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0], (5,)][: self.top_count]


@register("AssistedExcitation", form="")
class AssistedExcitation(Uncomputed):
    """Features, boxes and the features' mean -> features, those inside boxes made stronger. Source:
    assisted_excitation_layer.cpp of eric612/MobileNet-YOLO@69b4441."""

    bottoms, tops = 3, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0]]


@register("HardMining", form="")
class HardMining(Uncomputed):
    """A loss of each region, and blobs with a row for each -> the rows of the regions with the largest losses,
    num_image * num_roi_per_image of them. Source: hard_mining_layer.cpp of zhaoweicai/cascade-rcnn@2252f46."""

    params = ("hard_mining_param",)
    bottoms = (2, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("hard_mining_param")
        rois = count(bottom[0])
        most = param.num_image * param.num_roi_per_image
        if most < 1 or len(bottom) != self.top_count + 1 or any(shape[:1] != (rois,) for shape in bottom):
            raise self.spec.error("needs num_image and num_roi_per_image above 0, and one bottom more than tops, all "
                                  f"with a row for each region; its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(min(most, rois), *self.nchw(shape)[1:]) for shape in bottom[1:]]


@register("OftenMtcnnClassBridge", form="")
class OftenMtcnnClassBridge(Uncomputed):
    """Scores and labels -> scores, 0 where the label is -1, and labels (N,). Source:
    often_mtcnn_classbridge_layer.cpp of oftenliu/caffe@ad8749e."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0], bottom[1][:1]]


@register("OftenMtcnnSoftmaxLoss", form="")
class OftenMtcnnSoftmaxLoss(UncomputedLoss):
    """SoftmaxWithLoss of the 70 % of rows with the largest losses; a second top is the probabilities. Source:
    often_mtcnn_softmax_loss_layer.cpp of oftenliu/caffe@ad8749e."""

    params = ("softmax_param", "loss_param")
    bottoms = 2
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(), bottom[0]][: self.top_count]


@register("OftenMtcnnEuclideanLoss", form="")
class OftenMtcnnEuclideanLoss(UncomputedLoss):
    """The Euclidean loss of the rows whose label says that they have a box. It is that of the landmarks for boxes;
    its own code is not public."""

    bottoms = 3


@register("OftenMtcnnLandMarkLoss", form="")
class OftenMtcnnLandMarkLoss(UncomputedLoss):
    """The Euclidean loss of the rows whose label is -2. Source: often_mtcnn_landmark_loss_layer.cpp of
    oftenliu/caffe@ad8749e."""

    bottoms = 3


@register("OftenMtcnnAccuracy", form="")
class OftenMtcnnAccuracy(UncomputedLoss):
    """The accuracy of the rows with a label of a class. Its code is not public."""

    is_loss = False
    bottoms = 2


class _PlacesWithBits(UncomputedLoss):
    """Scores (N, K, H, W) and labels whose bits are the classes of a place, (N, B, H, W). Sources:
    multichannel_{reweighted_,}sigmoid_cross_entropy_loss_layer.cpp of Chrisding/seal@3f40b21."""

    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        (_, classes, h, w), (_, words, *size) = map(self.nchw, bottom)
        if count(tuple(size)) != h * w or not self.has_bits(classes, words):
            raise self.spec.error("needs a label of bits for each place and class; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return super().reshape(*bottom)

    def has_bits(self, classes: int, words: int) -> bool:
        """Whether so many words have a bit for each class."""
        raise NotImplementedError


@register("MultiChannelSigmoidCrossEntropyLoss", form="")
class MultiChannelSigmoidCrossEntropyLoss(_PlacesWithBits):
    """Sigmoid cross entropy of up to 31 classes of a place, which are the bits of one number."""

    def has_bits(self, classes: int, words: int) -> bool:
        return classes <= 31 and words == 1


@register("MultiChannelReweightedSigmoidCrossEntropyLoss", form="")
class MultiChannelReweightedSigmoidCrossEntropyLoss(_PlacesWithBits):
    """The same, in which edges and other places weigh the same, with 32 classes in each number."""

    def has_bits(self, classes: int, words: int) -> bool:
        return classes < 32 * words


class _Divergence(UncomputedLoss):
    """Two distributions of each row. Sources: {jsd,rsjsd}_loss_layer.cpp of BestiVictory/CJS-CNN@87735ca."""

    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][1:]) != count(bottom[1][1:]):
            raise self.spec.error("needs as many values of a row in both bottoms; they are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return super().reshape(*bottom)


@register("JSDLoss", form="")
class JSDLoss(_Divergence):
    """Jensen and Shannon's divergence."""


@register("RSJSDLoss", form="")
class RSJSDLoss(_Divergence):
    """The same of cumulative distributions, weighted by their kurtosis."""


@register("WarpCTCLoss", form="")
class WarpCTCLoss(UncomputedLoss):
    """Scores (T, N, C) and labels (N, L), or indicators or lengths and labels -> the loss of connectionist temporal
    classification. Source: warp_ctc_loss_layer.cpp of senlinuc/caffe_ocr@81642f6."""

    params = ("ctc_loss_param",)
    bottoms = (2, 4)
    tops = 1


@register("AngleLoss", form="")
class AngleLoss(UncomputedLoss):
    """Angles between vectors and those of the labels. Source: angle_loss_layer.cpp of
    xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

    bottoms = 2
    tops = (0, 1)


@register("MultiSoftmaxLoss", form="")
class MultiSoftmaxLoss(UncomputedLoss):
    """Scores (N, C, H, W) and labels of the places, from 1. Source: multi_softmax_loss_layer.cpp of
    xiaolonw/caffe-3dnormal_joint_pose@11f5adc."""

    bottoms = 2
    tops = (0, 1)


@register("SoftmaxWithLossW", form="")
class SoftmaxWithLossW(_LossWithProbabilities):
    """SoftmaxWithLoss, in which some labels weigh more; a second top is the probabilities. Source:
    softmax_lossweight_layer.cpp of ginobilinie/infantSeg@241ef9f."""

    params = ("softmax_lossw_param", "softmax_param", "loss_param")


@register("SoftmaxWithCrossEntropyLoss", form="")
class SoftmaxWithCrossEntropyLoss(_LossWithProbabilities):
    """The cross entropy of the probabilities of two blobs of scores of one shape. Source:
    softmax_cross_entropy_loss_layer.cpp of lxx1991/caffe_mpi@21a0c9f."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != bottom[1]:
            raise self.spec.error("needs bottoms of the same shape; they are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return super().reshape(*bottom)


@register("MultiBoxFocalLoss", form="")
class MultiBoxFocalLoss(UncomputedLoss):
    """MultiBoxLoss with the focal loss of classes. Source: multibox_focal_loss_layer.cpp of
    jiachen0212/ssd-focal_loss_caffe@071bfb3."""

    params = ("multibox_loss_param", "focal_loss_param", "loss_param")
    bottoms, tops = 4, 1
