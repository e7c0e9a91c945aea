"""How detectors say what they found: SSD and YOLO in rows, Faster R-CNN and R-FCN in scores and moves of regions.

Which of them a network is, is told by its layers and tops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from rmpe_legacy.caffe.data.image import DETECTOR_MEAN, detector_input
from rmpe_legacy.caffe.data.opencv_compat import resize_linear
from rmpe_legacy.caffe.inputs import ImageOptions
from rmpe_legacy.caffe.layers.base import count, shape_text, shapes_text
from rmpe_legacy.caffe.layers.roi import RoiLayer
from rmpe_legacy.caffe.layers.rpn import moved, suppressed
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.step import Step
from rmpe_legacy.errors import NetError

from .decode import read_detections
from .networks import image_input

SSD_IMAGE = ImageOptions(tuple(map(float, DETECTOR_MEAN)), 255, 1, "BGR")
# examples/yolo/detect.py of eric612/MobileNet-YOLO@69b4441
YOLO_IMAGE = ImageOptions((0.5,), 1, 1, "BGR")
# PIXEL_MEANS, TEST.SCALES and TEST.MAX_SIZE in lib/fast_rcnn/config.py of YuwenXiong/py-R-FCN@290dba7
REGION_IMAGE = ImageOptions((102.9801, 115.9465, 122.7717), 255, 1, "BGR", (600, 1000))
REGION_NMS = 0.3  # TEST.NMS in the same file
ROWS = {  # layer type -> the kind of detector, the layer's parameters, and how images become the input
    "DetectionOutput": ("SSD", "detection_output_param", SSD_IMAGE),
    "YoloDetectionOutput": ("YOLO v2", "yolo_detection_output_param", YOLO_IMAGE),
    "Yolov3DetectionOutput": ("YOLO v3", "yolov3_detection_output_param", YOLO_IMAGE),
}
KNOWN = ("DetectionOutput (SSD), YoloDetectionOutput, Yolov3DetectionOutput, and cls_prob with bbox_pred (Faster "
         "R-CNN, R-FCN)")

Blobs = Mapping[str, np.ndarray]


class DetectorOutput(ABC):
    """One kind of detector.

    Attributes:
        kind: Its name.
        labels: The classes, without the background.
        usual: How the published program of this kind makes an image the network's input.
        tops: The blobs that ``people`` reads.
        relative: True if boxes are relative to the image (0 to 1), False if they are in pixels.
    """

    kind: str
    labels: Sequence[int]
    usual: ImageOptions
    tops: tuple[str, ...]
    relative: bool

    @abstractmethod
    def inputs(self, image: np.ndarray, options: ImageOptions) -> dict[str, np.ndarray]:
        """Return the network's inputs, float32, for an image, (H, W, 3) RGB from 0 to 1."""

    @abstractmethod
    def size_text(self, options: ImageOptions) -> str:
        """Return the size of the network's input as text."""

    @abstractmethod
    def people(self, blobs: Blobs, inputs: Blobs, size_wh: tuple[int, int], label: int,
               threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes (P, 4) and scores (P,) above the threshold, in the detector's order.

        Args:
            blobs: The blobs named by `tops`, from one forward.
            inputs: The network's inputs in that forward.
            size_wh: Width and height of the image in pixels.
            label: The label of person.
            threshold: Detections with a higher score are returned.
        """


def output_of(net: Net) -> DetectorOutput:
    """Return which kind of detector a network is.

    Raises:
        NetError: It is no known kind of detector.
    """
    name = net.name or "(unnamed)"
    rows = [step for step in net.steps if step.layer.spec.type in ROWS]
    if rows:
        return RowOutput(net, rows[-1])
    if pooling := [step for step in net.steps if isinstance(step.layer, RoiLayer)]:
        return RegionOutput(net, pooling[-1])
    made = {top: step.layer.spec.type for step in net.steps for top in step.top}
    outputs = ", ".join(f"{top} ({made[top]})" for top in net.outputs) or "none"
    raise NetError(f"the detector {name} outputs no boxes in a supported form: its outputs are {outputs}; supported "
                   f"are {KNOWN}; give its deploy.prototxt, or the boxes that it finds elsewhere (--boxes)")


class RowOutput(DetectorOutput):
    """SSD and YOLO: rows (D, 7) of image, label, score, xmin, ymin, xmax, ymax, relative to the image."""

    relative = True

    def __init__(self, net: Net, step: Step):
        self.kind, param_name, self.usual = ROWS[step.layer.spec.type]
        self.input, self.height, self.width = image_input(net, "detector")
        self.tops = step.top[:1]
        if self.tops[0] not in net.outputs:
            raise NetError(f"the detector's boxes {self.tops[0]!r} are not an output of the network; give its "
                           "deploy.prototxt")
        param = step.layer.spec.get(param_name)
        if self.kind == "SSD":
            self.labels = [label for label in range(param.num_classes) if label != param.background_label_id]
        else:
            self.labels = range(1, param.num_classes + 1)

    def inputs(self, image: np.ndarray, options: ImageOptions) -> dict[str, np.ndarray]:
        if options == SSD_IMAGE:  # the same, faster
            return {self.input: detector_input(image, self.height, self.width)[None]}
        return {self.input: options.apply(image, *(options.size or (self.height, self.width)))[None]}

    def size_text(self, options: ImageOptions) -> str:
        return " x ".join(map(str, options.size or (self.height, self.width)))

    def people(self, blobs: Blobs, inputs: Blobs, size_wh: tuple[int, int], label: int,
               threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return read_detections(blobs[self.tops[0]], threshold, label=label)


class RegionOutput(DetectorOutput):
    """Faster R-CNN and R-FCN: regions (R, 5), their probabilities (R, K), and box offsets (R, 4 K) per class.

    R-FCN has the same offsets for all classes: (R, 8), for background and object. Source: im_detect, test_net of
    lib/fast_rcnn/test.py in YuwenXiong/py-R-FCN@290dba7, the same as in py-faster-rcnn.

    Differs: the published right and lower edges are the last pixels inside a box; here, as everywhere in this package,
    they are the first ones outside it. For equal scores the later region comes first, where the published sort leaves
    the order open.
    """

    relative = False
    usual = REGION_IMAGE

    def __init__(self, net: Net, pooling: Step):
        self.name = net.name or "(unnamed)"
        self.regions = pooling.layer.spec.message.bottom[1]
        shapes = {top: shape for step in net.steps for top, shape in zip(step.top, step.top_shapes, strict=True)}
        if self.regions in net.inputs:
            raise NetError(f"the detector {self.name} takes its regions as input {self.regions!r} and proposes none "
                           "itself, like Fast R-CNN; give a network with a proposal layer, or boxes (--boxes)")
        lacking = [name for name in ("cls_prob", "bbox_pred") if name not in net.outputs]
        if lacking:
            raise NetError(f"the detector {self.name} has regions but no output {' and '.join(lacking)}; its outputs "
                           f"are {', '.join(net.outputs) or 'none'}: give the test prototxt of the whole detector, or "
                           "boxes (--boxes)")
        self.input, self.info = self._inputs(net)
        classes, moves = count(shapes["cls_prob"][1:]), count(shapes["bbox_pred"][1:])
        if classes < 2 or moves not in (4, 8, 4 * classes):
            raise NetError(f"the detector {self.name}: bbox_pred, {shape_text(shapes['bbox_pred'])}, does not fit "
                           f"cls_prob, {shape_text(shapes['cls_prob'])}; it needs 4 values per class, or 8 for all")
        self.agnostic = moves != 4 * classes
        self.moves = moves
        self.kind = "R-FCN" if pooling.layer.spec.type.startswith("PSROI") else "Faster R-CNN"
        self.labels = range(1, classes)
        self.tops = (self.regions, "cls_prob", "bbox_pred")

    def _inputs(self, net: Net) -> tuple[str, str]:
        """The names of the image and of its size and scale."""
        images = [name for name, shape in net.inputs.items() if len(shape) == 4 and shape[1] == 3]
        infos = [name for name, shape in net.inputs.items() if name not in images and count(shape) == 3]
        if len(images) != 1 or len(infos) != 1 or len(net.inputs) != 2:
            inputs = shapes_text(net.inputs) or "none"
            raise NetError(f"the detector {self.name} has the inputs {inputs}; expected an image, 1 x 3 x height x "
                           "width, and im_info, 1 x 3, as in py-faster-rcnn's test.prototxt")
        return images[0], infos[0]

    def inputs(self, image: np.ndarray, options: ImageOptions) -> dict[str, np.ndarray]:
        assert options.size is not None
        scale = _region_scale(image, *options.size)
        pixels = image[:, :, ::-1] if options.channel_order == "BGR" else image
        pixels = (pixels * np.float32(options.raw_scale) - np.asarray(options.mean)) * options.scale
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])  # Differs: 0 pixels are an error
        data = resize_linear(pixels.astype(np.float32), height, width, scale).transpose(2, 0, 1)[None]
        return {self.input: np.ascontiguousarray(data), self.info: np.array([[height, width, scale]], np.float32)}

    def size_text(self, options: ImageOptions) -> str:
        assert options.size is not None
        short, most = options.size
        return f"shorter side {short}, longer at most {most}"

    def people(self, blobs: Blobs, inputs: Blobs, size_wh: tuple[int, int], label: int,
               threshold: float) -> tuple[np.ndarray, np.ndarray]:
        scores = blobs["cls_prob"].reshape(-1, self.labels[-1] + 1)[:, label]
        moves = blobs["bbox_pred"].reshape(len(scores), self.moves)
        first = self.moves - 4 if self.agnostic else 4 * label
        boxes = moved(blobs[self.regions].reshape(-1, 5)[:, 1:] / inputs[self.info][0, 2], moves[:, first : first + 4])
        boxes = np.clip(boxes, 0, np.tile(np.array(size_wh, np.float32) - 1, 2))
        order = np.flatnonzero(scores.astype(np.float64) > threshold)
        order = order[scores[order].argsort(kind="stable")[::-1]]
        kept = order[suppressed(boxes[order], REGION_NMS, 0)]
        return boxes[kept] + np.array([0, 0, 1, 1], np.float32), scores[kept]


def _region_scale(image: np.ndarray, short: int, most: int) -> float:
    """How much an image is enlarged: its shorter side gets a length, unless the longer one then gets too long."""
    low, high = sorted(image.shape[:2])
    return most / high if round(short / low * high) > most else short / low
