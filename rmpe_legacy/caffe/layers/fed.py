"""Data layers whose sources only their own programs read: they have shapes, and are fed.

A network with such a layer loads, and runs on what the caller gives: ``net(data=..., label=...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message, fields_with_effect
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.wording import call_of_net

from .base import Count, Layer, Shape
from .registry import Choice, chooses, register

COLORS = 3  # default number of channels of an image
ASSUMED = 256  # height and width of images of which nothing is known, as in Caffe's own ImageNet example
CLIP = 16  # frames


class FedLayer(Layer):
    """A layer without bottoms; the caller passes its tops. `reshape` returns the shapes that are in the prototxt."""

    bottoms = 0
    tops: Count = (1, None)
    assumes = True
    not_exportable = "is fed by the caller, because only its own program can read its source"

    def forward(self) -> Tensor:
        raise self.spec.error(f"its source cannot be read here; pass its tops instead: {call_of_net(self.spec.top)}")


def must_be_fed(spec: LayerSpec) -> str:
    """Why a data layer of the bases' cannot read its source: the first field of a fork that it does not heed."""
    for owner, name, value in fields_with_effect(spec.message, "fed"):
        if value != owner.descriptor.fields[name].absent:
            return (f"{owner.descriptor.name}.{name} belongs to a fork and is not supported; pass the layer's tops "
                    f"instead: {call_of_net(spec.top)}")
    return ""


def channels_beside(targets: str, specs: Sequence[LayerSpec]) -> int:
    """The channels of what a loss compares `targets` with, by the last layer before it that has a number; else 0."""
    copies = {top for spec in specs if spec.type == "Split" and targets in spec.bottom for top in spec.top}
    makers = {top: spec for spec in reversed(specs) for top in spec.top}
    for loss in specs:
        blob = loss.bottom[0] if {targets, *copies} & {*loss.bottom[1:]} else ""
        seen: set[str] = set()
        while blob in makers and blob not in seen:
            seen.add(blob)
            spec = makers[blob]
            if spec.type == "PSROIPooling":
                return spec.get("psroi_pooling_param").output_dim
            if spec.type in ("InnerProduct", "Convolution"):
                name = "inner_product_param" if spec.type == "InnerProduct" else "convolution_param"
                return spec.get(name).num_output
            blob = spec.bottom[0] if spec.bottom else ""
    return 0


class PictureLayer(FedLayer):
    """Images (batch, channels, height, width), then labels; sizes come from the layer's own message, from
    transform_param, or are `assumed`."""

    assumed = (ASSUMED, ASSUMED)

    def own_message(self) -> Message:
        """The parameters of the layer's own type."""
        return self.spec.get(self.params[0])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.own_message()
        transform = self.spec.get("transform_param")
        n = max(1, first_of(param, "batch_size"))
        h = (first_of(transform, "crop_size", "crop_height", "crop_h") or first_of(
            param, "crop_size", "crop_height", "new_height", "resize_height", "short_size") or self._resized("height"))
        w = (first_of(transform, "crop_size", "crop_width", "crop_w") or first_of(
            param, "crop_size", "crop_width", "new_width", "resize_width", "long_size") or self._resized("width"))
        self.guesses = not (h and w)
        h, w = h or self.assumed[0], w or self.assumed[1]
        return self.shapes(n, h, w)

    def _resized(self, side: str) -> int:
        transform = self.spec.get("transform_param")
        if not transform.has("resize_param"):
            return 0
        given = transform.resize_param
        return getattr(given[0] if isinstance(given, list) else given, side)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        """One shape for each top."""
        return [(n, COLORS, h, w), *[(n,)] * (self.top_count - 1)]


def first_of(param: Any, *names: str) -> int:
    """The first of these fields that the dialect has and the file sets to more than 0; else 0."""
    for name in names:
        if name in param.descriptor.fields and not param.descriptor.fields[name].repeated and getattr(param, name) > 0:
            return getattr(param, name)
    return 0


class _WithMaps(PictureLayer):
    """Images, and a map of labels of their size."""

    channels = 1

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(n, COLORS, h, w), *[(n, self.channels, h, w)] * (self.top_count - 1)]


@register("DenseImageData", form="")
class DenseImageData(_WithMaps):
    """SegNet's images and label maps, fed; of CamVid's size, 360 x 480, unless the prototxt gives one."""

    params = ("dense_image_data_param", "transform_param")
    assumed = (360, 480)


@register("DataHeatmap", form="caffe-heatmap")
class JointsOfVideos(PictureLayer):
    """Images (batchsize, 3, outsize, outsize), and a heatmap of each joint, (batchsize, joints, label_height,
    label_width), fed. Source: data_heatmap.cpp of tpfister/caffe-heatmap@4db69ef."""

    params = ("heatmap_data_param", "visualise", "transform_param")
    tops = 2

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.joints = max(1, channels_beside(self.spec.top[-1], specs))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("heatmap_data_param")
        n, side = max(1, param.batchsize), param.outsize or ASSUMED
        if self.spec.get("visualise"):
            self.set_aside("visualise: true opens windows, which is not supported; remove it")
        return [(n, COLORS, side, side), (n, self.joints, param.label_height, param.label_width)]


@chooses("DataHeatmap")
def _choose_heatmaps(spec: LayerSpec) -> Choice:
    """Only caffe-heatmap's message has cropsize."""
    return Choice("caffe-heatmap" if "cropsize" in spec.get("heatmap_data_param").fields else "", ("caffe-heatmap",))


@register("ImageSegData", form="")
class ImageSegData(_WithMaps):
    """DeepLab's and PSPNet's images and label maps, and perhaps sizes, fed. CASENet's may have further channels of
    edges, and several channels of labels."""

    params = ("image_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.spec.get("image_data_param")
        edges, labels = first_of(param, "num_edge_chn"), max(1, first_of(param, "num_label_chn"))
        return [(n, COLORS + edges, h, w), (n, labels, h, w), (n, 1, 1, 2)][: self.top_count]


@register("WindowSegData", form="")
class WindowSegData(ImageSegData):
    """DeconvNet's windows of images and label maps, and perhaps sizes, fed."""


class _WithClasses(PictureLayer):
    """Images, label maps and marks of the classes, (n, label_dim, 1, 1), fed."""

    params = ("image_data_param", "window_cls_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        classes = self.spec.get("window_cls_data_param").label_dim
        return [(n, COLORS, h, w), (n, 1, h, w), (n, classes, 1, 1)][: self.top_count]


@register("SelectSegBinary", form="")
class SelectSegBinary(_WithClasses):
    """DecoupledNet's images, maps of one class, and the class, fed."""


@register("SelectSrcTgkSegBinary", form="")
class SelectSrcTgkSegBinary(_WithClasses):
    """TransferNet's images of two data sets, maps of one class, and the class, fed."""


@register("CarcontImageData", form="")
class CarcontImageData(PictureLayer):
    """Images of vehicles, their identities, colours and models, and their numbers in the list, fed."""

    params = ("image_data_param", "transform_param")


class ImagesWithPlaces(PictureLayer):
    """The images of hyojinie/crn and with use_gps their latitudes and longitudes, fed."""

    params = ("image_data_param", "transform_param")


@register("ImageData", form="flownet")
class ImagesAlone(PictureLayer):
    """The images of Tyler-D/DeBlurNet and liruoteng/FlowNet without labels, fed."""

    params = ("image_data_param", "transform_param")
    tops = 1


@register("ImageLabelmapData", form="")
class ImageLabelmapData(_WithMaps):
    """HED's images and edge maps, fed."""

    params = ("image_data_param", "transform_param")


@register("ImageNormalData", form="")
class ImageNormalData(_WithMaps):
    """Images and maps of their surfaces' normals, fed."""

    params = ("image_data_param", "transform_param")
    channels = COLORS


@register("FloData", form="")
class FloData(PictureLayer):
    """Flows between two images, (n, 2, h, w), fed."""

    params = ("image_data_param", "transform_param")
    tops = 1

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(n, 2, h, w)]


@register("PoseImageData", form="")
class PoseImageData(PictureLayer):
    """The images and maps of key points of xiaolonw/caffe-3dnormal_joint_pose, (n, key_point_num, out_height,
    out_width), fed."""

    params = ("pose_image_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.own_message()
        return [(n, COLORS, h, w), (n, param.key_point_num, param.out_height, param.out_width)][: self.top_count]


@register("SegData", form="")
class SegData(_WithMaps):
    """The images and label maps of temporal segment networks' Caffe, fed."""

    params = ("seg_data_param", "transform_param")


@register("SequenceData", form="")
class SequenceData(PictureLayer):
    """The shots of untrimmed videos, fed: num_shots of them have num_segments parts each, of num_frames frames' colours
    or the two directions of their flow side by side; labels (n, 1, 1, 1)."""

    params = ("sequence_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.own_message()
        channels = 2 if param.modality == "FLOW" else COLORS
        parts = param.num_shots * param.num_segments * param.num_frames
        return [(n, channels * parts, h, w), *[(n, 1, 1, 1)] * (self.top_count - 1)]


class _PosesOfPeople(FedLayer):
    """Base: pictures (n, channels, crop_size_y, crop_size_x), and weights and targets of num_parts maps and a
    background, (n, 2 * (num_parts + 1), crop_size_y / stride, crop_size_x / stride), fed."""

    params: tuple[str, ...] = ()  # the first is the transformation's
    tops = (1, 2)

    def pictures(self, param: Message) -> tuple[int, int]:
        """Return the batch size and the number of channels."""
        raise NotImplementedError

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get(self.params[0])
        (n, channels), h, w, stride = self.pictures(param), param.crop_size_y, param.crop_size_x, param.stride
        if not stride:
            raise self.spec.error("needs a stride above 0")
        maps = 2 * (param.num_parts + 1)
        return [(max(1, n), channels, h, w), (max(1, n), maps, h // stride, w // stride)][: self.top_count]


@register("CPMData", form="")
class CPMData(_PosesOfPeople):
    """OpenPose's, with a map of the person's place as a channel of each picture."""

    params = ("cpm_transform_param", "data_param")

    def pictures(self, param: Message) -> tuple[int, int]:
        return self.spec.get("data_param").batch_size, COLORS + 1


@register("CPMData", form="lstm")
class CPMDataOfTransform(_PosesOfPeople):
    """LSTM pose machines', with that map if put_gaussian. Source: cpm_data_layer.cpp of
    lawy623/LSTM_Pose_Machines@68a9212."""

    params = ("transform_param", "cpmdata_param")

    def pictures(self, param: Message) -> tuple[int, int]:
        return self.spec.get("cpmdata_param").batch_size, COLORS + param.put_gaussian


@chooses("CPMData")
def _choose_poses(spec: LayerSpec) -> Choice:
    """OpenPose's has a message for its transformation."""
    return Choice("lstm") if spec.has("cpmdata_param") else Choice("")


def mask_size(param: Message, h: int, w: int) -> tuple[int, int]:
    """Height and width of MobileNet-YOLO's masks for images of h x w."""
    scale = max(1, first_of(param, "seg_scales"))
    return first_of(param, "seg_resize_height") or h // scale, first_of(param, "seg_resize_width") or w // scale


@register("AnnotatedData", form="fed")
class AnnotatedDataFed(PictureLayer):
    """AnnotatedData as a fork has it: with several sizes by turns, or labels of its own kind; fed."""

    params = ("data_param", "annotated_data_param", "transform_param")
    classes = 0  # of the masks: as many as the network compares them with, since their list is another file

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        if len(self.spec.top) > 2:
            self.classes = channels_beside(self.spec.top[2], specs)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param, of_data = self.spec.get("annotated_data_param"), self.spec.get("data_param")
        if "side" in of_data.fields:  # a map of labels for each
            return [(n, COLORS, h, w), *[(n, side * side * 7) for side in of_data.side]][: self.top_count]
        label = (n, 300, 5) if param.has("yolo_data_type") else (1, 1, 1, 8)
        mask = mask_size(param, h, w)
        return [(n, COLORS, h, w), label, (n, max(1, self.classes), *mask)][: self.top_count]


@register("LaneData", form="")
class LaneData(PictureLayer):
    """MobileNet-YOLO's images, up to 5 lanes of 64 points (n, 5, 64, 3), and a mask of lanes, fed."""

    params = ("data_param", "annotated_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        mask = mask_size(self.spec.get("annotated_data_param"), h, w)
        return [(n, COLORS, h, w), (n, 5, 64, 3), (n, 1, *mask)][: self.top_count]


@register("BoxData", form="")
class BoxData(PictureLayer):
    """YOLO v1's and v2's images and boxes, fed: labels (n, side * side * (1 + 1 + 1 + 4)), or boxes (n, 150), which are
    what RegionLoss takes."""

    params = ("data_param", "transform_param")
    lists_boxes = False

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        copies = {top for spec in specs if spec.type == "Split" and {*self.spec.top} & {*spec.bottom}
                  for top in spec.top}
        self.lists_boxes = any(spec.type == "RegionLoss" and ({*self.spec.top[1:]} | copies) & {*spec.bottom[1:]}
                               for spec in specs)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        sides = [] if self.lists_boxes else self.spec.get("data_param").side
        return [(n, COLORS, h, w), *[(n, side * side * 7) for side in sides], *[(n, 150)] * self.top_count
                ][: self.top_count]


@register("DetectionData", form="")
class DetectionData(PictureLayer):
    """Cascade R-CNN's images, a map of targets for each stride, and boxes, fed."""

    params = ("detection_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.spec.get("detection_data_param")
        maps = [(n, 2 + param.coord_num, -(-h // max(1, s)), -(-w // max(1, s))) for s in param.stride]
        rest = self.top_count - 1 - len(maps)
        return [(n, COLORS, h, w), *maps, *[(1, 9)] * max(0, rest)][: self.top_count]


@register("ImageGtData", form="")
class ImageGtData(PictureLayer):
    """MS-CNN's images, a map of targets for each downsample_rate, and with output_gt_boxes boxes (R, 7, 1, 1), fed."""

    params = ("image_gt_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.own_message()
        h, w = param.crop_height or param.resize_height or h, param.crop_width or param.resize_width or w
        maps = [(n, 2 + param.coord_num, int(h / max(1, s) + 0.5), int(w / max(1, s) + 0.5))
                for s in param.downsample_rate]
        return [(n, COLORS, h, w), *maps, (1, 7, 1, 1)][: self.top_count]


@register("EvalData", form="")
class EvalData(PictureLayer):
    """Cascade R-CNN's images to evaluate and their sizes, fed."""

    params = ("eval_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(n, COLORS, h, w), *[(n, 4)] * (self.top_count - 1)]


@register("MultiLabelImageData", form="")
class MultiLabelImageData(PictureLayer):
    """Images with several labels, fed; PG-CNN's have label_num labels each, (n, label_num)."""

    params = ("transform_param",)

    def own_message(self) -> Message:
        """PG-CNN's Caffe has a message of its own."""
        own = "multi_label_image_data_param"
        return self.spec.get(own if self.spec.has(own) else "image_data_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        count = first_of(self.own_message(), "label_num")
        return [(n, COLORS, h, w), *[(n, count) if count else (n,)] * (self.top_count - 1)]


@register("DriveData", form="")
class DriveData(PictureLayer):
    """The traffic signs of Tsinghua-Tencent 100K, fed: images, 8 maps of boxes and masks, and a map of classes."""

    params = ("drive_data_param", "data_param", "transform_param")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, n = self.own_message(), max(1, self.spec.get("data_param").batch_size)
        maps = [(n, channels, param.tiling_height * size, param.tiling_width * size)
                for channels, size in ((8, param.label_resolution), (1, param.catalog_resolution))]
        return [(n, COLORS, param.cropped_height, param.cropped_width), *maps][: self.top_count]


@register("VideoData", form="fed")
class VideoDataFed(PictureLayer):
    """Clips (n, 3, length, h, w), or frames side by side, and labels, fed: of temporal segments, the frames' colours or
    the two directions of their flow, (n, segments * length * channels, h, w)."""

    params = ("transform_param",)

    def own_message(self) -> Message:
        """C3D v1.0 has the fields in image_data_param."""
        return self.spec.get("video_data_param" if self.spec.has("video_data_param") else "image_data_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.own_message()
        length = first_of(param, "new_length") or 1
        if any(name in param.fields for name in ("num_segments", "modality", "name_pattern")):  # temporal segments
            channels = 2 if getattr(param, "modality", "RGB") == "FLOW" else COLORS
            segments = max(1, first_of(param, "num_segments"))
            return [(n, channels * length * segments, h, w), *[(n, 1, 1, 1)] * (self.top_count - 1)]
        return [(n, COLORS, length, h, w), *[(n,)] * (self.top_count - 1)]


@register("MultiFrameData", form="")
class MultiFrameData(PictureLayer):
    """Hidden two-stream networks' frames side by side, (n, 3 * new_length * num_segments, h, w), and labels
    (n, 1, 1, 1), fed."""

    params = ("multi_frame_data_param", "transform_param")

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.own_message()
        frames = param.new_length * param.num_segments
        return [(n, COLORS * frames, h, w), *[(n, 1, 1, 1)] * (self.top_count - 1)]


@register("TwoImageData", form="")
class TwoImageData(PictureLayer):
    """Two images of one size, each of 3 colours or gray, fed. aharley/segaware@dc45b8a has networks with it; its code
    is not there."""

    params = ("image_data_param", "two_image_data_param", "transform_param")
    tops = 2

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.spec.get("two_image_data_param")
        return [(n, COLORS if color else 1, h, w) for color in (param.first_is_color, param.second_is_color)]


@register("ImageFloatData", form="")
class ImageFloatData(PictureLayer):
    """Images, with with_heatmap a map beside the colours, label_dim numbers (n, label_dim), and weights (n,), fed."""

    params = ("image_data_param", "image_float_data_param", "transform_param")
    tops = (2, 3)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        param = self.spec.get("image_float_data_param")
        return [(n, COLORS + param.with_heatmap, h, w), (n, param.label_dim), (n,)][: self.top_count]


class _Clips(PictureLayer):
    """C3D's clips of 16 frames, (n, 3, 16, h, w), and a truth for each of their places, fed; of 128 x 171 pixels unless
    the prototxt gives another size."""

    params = ("image_data_param", "transform_param")
    assumed = (128, 171)
    tops = (2, 2)
    truths = 1  # channels of the truth

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(n, COLORS, CLIP, h, w), (n, self.truths, CLIP, h, w)]


@register("VideoSegmentationData", form="")
class VideoSegmentationData(_Clips):
    """C3D's clips, (n, 3, 16, h, w), and labels of their places, (n, 1, 16, h, w), fed."""


@register("VideoWithVoxelTruthData", form="")
class VideoWithVoxelTruthData(_Clips):
    """C3D's clips, (n, 3, 16, h, w), and num_truth_channels values for each of their places, fed."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.truths = self.own_message().num_truth_channels
        return super().reshape(*bottom)


@chooses("AnnotatedData")
def _choose_annotated(spec: LayerSpec) -> Choice:
    """SSD's, unless it sets a field of a fork."""
    return Choice("fed", ("",)) if must_be_fed(spec) else Choice("", ("fed",))


@chooses("VideoData")
def _choose_video(spec: LayerSpec) -> Choice:
    """RMPE's and SSD's has its batch_size in data_param."""
    return Choice("") if spec.has("data_param") else Choice("fed", ("",))


@chooses("ImageData")
def _choose_images(spec: LayerSpec) -> Choice:
    """liruoteng/FlowNet's has no labels."""
    return Choice("flownet") if len(spec.top) == 1 else Choice("")


@register("FastWindowData", form="")
class FastWindowData(FedLayer):
    """Windows of images (n, 3, crop_size, crop_size), labels and perhaps overlaps (n, 1, 1, 1), fed. Source:
    fast_window_data_layer.cpp of YutingZhang/fgs-obj@fa578e7."""

    params = ("fast_window_data_param",)
    tops = (2, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("fast_window_data_param")
        if param.batch_size < 1 or param.crop_size < 1:
            raise self.spec.error("needs batch_size and crop_size, above 0")
        side = param.crop_size
        return [(param.batch_size, COLORS, side, side), *[(param.batch_size, 1, 1, 1)] * (self.top_count - 1)]


@register("McwindowData", form="")
class McwindowData(FedLayer):
    """Windows of images (n, 3, crop_size, crop_size), their masks (n, 1, mask_crop_size, mask_crop_size) and labels
    (n, 1, 1, 1), fed. Source: mcwindow_data_layer.cpp of Robert0812/deepsaldet@296c03c."""

    params = ("mcwindow_data_param",)
    tops = 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("mcwindow_data_param")
        n, side, mask = param.batch_size, param.crop_size, param.mask_crop_size
        if min(n, side, mask) < 1:
            raise self.spec.error("needs batch_size, crop_size and mask_crop_size, above 0")
        return [(n, COLORS, side, side), (n, 1, mask, mask), (n, 1, 1, 1)]


@register("ZosonData", form="")
class ZosonData(PictureLayer):
    """A server's images and perhaps labels (n,), fed. Source: zoson_data_layer.cpp of Zachxz0/detector@1276474."""

    params = ("data_param", "transform_param")
    tops = (1, 2)
