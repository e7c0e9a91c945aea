"""Layers of networks for poses in space that have shapes, and refuse to run: data of Human3.6M, heatmaps and integrals.

Source: caffe_code/src/caffe/layers of strawberryfg/c2f-3dhm-human-caffe@65da294.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Count, Shape, shape_text
from .fed import COLORS, FedLayer
from .registry import register
from .uncomputed import Uncomputed, UncomputedLoss

ALL_JOINTS, JOINTS = 32, 16  # of Human3.6M, and those that are learnt


class _Pose(Uncomputed):
    """Base: a layer with one top. `axes` is how many its first bottom must have."""

    tops: Count = 1
    axes = 2

    def first(self, bottom: Shape) -> Shape:
        """The first bottom's shape. Raises LayerError if it has too few axes."""
        if len(bottom) < self.axes:
            raise self.spec.error(f"needs a bottom of {self.axes} axes, not {shape_text(bottom)}")
        return bottom

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [self.of(self.first(bottom[0]))]

    def of(self, shape: Shape) -> Shape:
        """The top's shape for that of the first bottom: here its first two axes."""
        return shape[:2]


class _Index(FedLayer):
    """Base: numbers of images (batch_size, 1), fed."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(max(1, self.spec.get(self.params[0]).batch_size), 1)]


@register("GenRandIndex", form="")
class GenRandIndex(_Index):
    """Numbers of images, drawn by chance; fed."""

    params = ("gen_rand_index_param",)


@register("GenSequentialIndex", form="")
class GenSequentialIndex(_Index):
    """Numbers of images, one after the other; fed."""

    params = ("gen_sequential_index_param",)


@register("ReadBlobFromFileIndexing", form="")
class ReadBlobFromFileIndexing(_Pose):
    """Numbers of images -> num_to_read values of each, from files."""

    params = ("read_blob_from_file_indexing_param",)
    axes = 1

    def of(self, shape: Shape) -> Shape:
        return (shape[0], self.spec.get("read_blob_from_file_indexing_param").num_to_read)


@register("GenUnifiedDataAndLabel", form="")
class GenUnifiedDataAndLabel(Uncomputed):
    """Numbers of images, their middles, scales and joints -> images (N, 3, crop_size_y, crop_size_x), and the joints
    there, (N, 2 num_parts)."""

    params = ("transform_param",)
    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, n = self.spec.get("transform_param"), self.nchw(bottom[0])[0]
        return [(n, COLORS, param.crop_size_y, param.crop_size_x), (n, 2 * param.num_parts)]


@register("ScaleVector", form="")
class ScaleVector(_Pose):
    """Rows, times a number."""

    params = ("scale_vector_param",)


@register("AddVectorByConstant", form="")
class AddVectorByConstant(_Pose):
    """Rows, and a number more."""

    params = ("add_vector_by_constant_param",)


class _Joints(_Pose):
    """Base: places of all joints -> those of the joints that are learnt, or back; `each` values a joint."""

    each = 2
    params = ("inner_product_param",)

    def of(self, shape: Shape) -> Shape:
        axis = self.axis(self.spec.get("inner_product_param").axis, len(shape))
        return (*shape[:axis], self.each * (ALL_JOINTS if shape[1] == self.each * JOINTS else JOINTS))


@register("DeepHumanModelConvert2D", form="")
class DeepHumanModelConvert2D(_Joints):
    """Places in an image."""


@register("DeepHumanModelConvert3D", form="")
class DeepHumanModelConvert3D(_Joints):
    """Places in space."""

    each = 3


@register("DeepHumanModelConvertDepth", form="")
class DeepHumanModelConvertDepth(_Pose):
    """Places in space -> the joints' depths."""

    params = ("convert_depth_param", "inner_product_param")

    def of(self, shape: Shape) -> Shape:
        axis = self.axis(self.spec.get("inner_product_param").axis, len(shape))
        return (*shape[:axis], self.spec.get("convert_depth_param").joint_num)


class _ThreeValues(_Pose):
    """Base: three values of each joint, (N, 3 joint_num)."""

    axes = 1

    def of(self, shape: Shape) -> Shape:
        return (shape[0], 3 * self.spec.get(self.params[0]).joint_num)


@register("DeepHumanModelH36MGenAug3D", form="")
class DeepHumanModelH36MGenAug3D(_ThreeValues):
    """Places in space of joints that were moved in the image."""

    params = ("gen_aug_3d_param",)


@register("DeepHumanModelH36MGenPredMono3D", form="")
class DeepHumanModelH36MGenPredMono3D(_ThreeValues):
    """Places in space of joints that were found."""

    params = ("gen_pred_mono_3d_param",)


@register("DeepHumanModelH36MChaGenJointFrXYZHeatmap", form="")
class DeepHumanModelH36MChaGenJointFrXYZHeatmap(_ThreeValues):
    """Where the heatmaps of a joint are largest."""

    params = ("deep_human_model_h36m_cha_gen_joint_fr_xyz_heatmap_param",)


@register("GenHeatmapAllChannels", form="")
class GenHeatmapAllChannels(_Pose):
    """Joints -> a map of each, (N, joint_num, gen_size, gen_size)."""

    params = ("gen_heatmap_all_channels_param",)
    axes = 1

    def of(self, shape: Shape) -> Shape:
        param = self.spec.get("gen_heatmap_all_channels_param")
        return (shape[0], param.joint_num, param.gen_size, param.gen_size)


@register("DeepHumanModelGen3DHeatmapInMoreDetailV3", form="")
class DeepHumanModelGen3DHeatmapInMoreDetailV3(_Pose):
    """Depths and joints -> depth_dims maps of each, (N, joint_num * depth_dims, map_size, map_size)."""

    params = ("deep_human_model_gen_3d_heatmap_in_more_detail_v3_param",)
    axes = 1

    def of(self, shape: Shape) -> Shape:
        param = self.spec.get("deep_human_model_gen_3d_heatmap_in_more_detail_v3_param")
        return (shape[0], param.joint_num * param.depth_dims, param.map_size, param.map_size)


@register("DeepHumanModelSoftmax3DHM", form="")
class DeepHumanModelSoftmax3DHM(_Pose):
    """Scores of places in space -> probabilities, (N, joint_num * depth_dims, H, H)."""

    params = ("deep_human_model_softmax_3d_hm_param",)
    axes = 3

    def of(self, shape: Shape) -> Shape:
        param = self.spec.get("deep_human_model_softmax_3d_hm_param")
        return (shape[0], param.joint_num * param.depth_dims, shape[2], shape[2])


@register("DeepHumanModelNormalizationResponseV0", form="")
class DeepHumanModelNormalizationResponseV0(_Pose):
    """Maps (N, C, H, H), each divided by its sum."""

    params = ("normalization_response_param",)
    axes = 3

    def of(self, shape: Shape) -> Shape:
        return (*shape[:3], shape[2])


@register("DeepHumanModelNumericalCoordinateRegression", form="")
class DeepHumanModelNumericalCoordinateRegression(_Pose):
    """Maps (N, C, H, W) -> their middles, (N, 2C)."""

    axes = 3

    def of(self, shape: Shape) -> Shape:
        return (shape[0], 2 * shape[1])


@register("DeepHumanModelArgmaxHM", form="")
class DeepHumanModelArgmaxHM(DeepHumanModelNumericalCoordinateRegression):
    """Maps (N, C, H, W) -> where they are largest, (N, 2C)."""


@register("DeepHumanModelIntegralVector", form="")
class DeepHumanModelIntegralVector(_Pose):
    """Sums along an axis -> the middle of each, (N, 1)."""

    params = ("deep_human_model_integral_vector_param",)
    axes = 1

    def of(self, shape: Shape) -> Shape:
        return (shape[0], 1)


@register("DeepHumanModelIntegralX", form="")
class DeepHumanModelIntegralX(_Pose):
    """Maps (N, D, H, W) -> their sums along the other axes, (N, W)."""

    axes = 4
    kept = 3

    def of(self, shape: Shape) -> Shape:
        return (shape[0], shape[self.kept])


@register("DeepHumanModelIntegralY", form="")
class DeepHumanModelIntegralY(DeepHumanModelIntegralX):
    """Maps (N, D, H, W) -> their sums along the other axes, (N, H)."""

    kept = 2


@register("DeepHumanModelIntegralZ", form="")
class DeepHumanModelIntegralZ(DeepHumanModelIntegralX):
    """Maps (N, D, H, W) -> their sums along the other axes, (N, D)."""

    kept = 1


@register("MulRGB", form="")
class MulRGB(_Pose):
    """Images (N, 3, H, W), times a number."""

    params = ("mul_rgb_param",)
    axes = 4

    def of(self, shape: Shape) -> Shape:
        return (shape[0], COLORS, *shape[2:4])


class _Files(Uncomputed):
    """Base: writes files."""

    tops = 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return []


@register("OutputBlob", form="")
class OutputBlob(_Files):
    """Writes a blob's values to files."""

    params = ("output_blob_param",)


@register("DeepHumanModelOutputJointOnSkeletonMapH36M", form="")
class DeepHumanModelOutputJointOnSkeletonMapH36M(_Files):
    """Draws joints into images."""

    params = ("output_joint_on_skeleton_human_h36m_param",)


@register("Joint3DSquareRootLoss", form="")
class Joint3DSquareRootLoss(UncomputedLoss):
    """How far joints are from where they should be."""

    params = ("joint_3d_square_root_loss_param",)


@register("JSRegularizationLoss", form="")
class JSRegularizationLoss(UncomputedLoss):
    """Jensen and Shannon's divergence of maps."""

    params = ("js_regularization_loss_param",)


@register("AdaptiveWeightEucLoss", form="")
class AdaptiveWeightEucLoss(UncomputedLoss):
    """Euclidean losses of pairs of bottoms, weighed by themselves."""
