"""Turns SSD's and RefineDet's predictions into detections.

Sources: detection_output_layer.cpp of RMPE@5188c23 and the ssd branch; of sfzhang15/RefineDet@52b6fe2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError
from rmpe_legacy.ops.boxes import Detecting, boxes_in_pixels, decode_boxes, detection_output

from .base import Count, Layer, Shape, ranked
from .detection_files import DetectionFiles
from .registry import Choice, chooses, register
from .ssd_common import MissingFileError, check_first_stage, check_predictions, split_priors

FLT_MAX = torch.finfo(torch.float32).max


@register("DetectionOutput", dialects=("rmpe", "ssd"))
class DetectionOutput(Layer):
    """Decodes, thresholds and suppresses boxes: predictions (N, P * 4), confidences (N, P * C), priors (1, 2, P * 4)
    and, unused, the image -> (1, 1, K, 7), rows of image, label, score, x1, y1, x2, y2.

    The number of rows depends on the values; `reshape` returns 1, as Caffe's does. If nothing is found, there is one
    row of -1 (RMPE), or one per image that starts with its index (ssd). Rows are sorted by image, label and score.
    The RMPE fork clips its output boxes to the image; suppression uses the unclipped ones.
    """

    params = ("detection_output_param",)
    bottoms: Count = (3, 4)
    chooses_rows = True
    refuses: tuple[int, ...] = (0, 1, 2, 3)
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("detection_output_param")
        self.is_ssd = self.spec.dialect == "ssd"
        if not param.has("num_classes"):
            raise self.spec.error("needs num_classes")
        if param.visualize:
            self.set_aside("visualize: true would open a window; set visualize: false and draw the top's boxes")
        self.classes = param.num_classes
        self.places = 1 if param.share_location else self.classes
        self.how = self._how(param)
        self.decodes = param.share_location or any(c != self.how.background for c in range(self.classes))
        self.missing: MissingFileError | None = None  # Differs: Caffe aborts when it loads the network
        self.files = self._files(param)

    def _files(self, param: Message) -> DetectionFiles | None:
        """Return the writer of detection files, if asked for; with strict=False, missing files only disable it."""
        try:
            return DetectionFiles.wanted(self, param.save_output_param, self.how.background)
        except MissingFileError as error:
            if self.spec.strict:
                self.missing = error
            else:
                self.set_aside(error.reason)
        except LayerError as error:
            self.set_aside(error.reason)
        return None

    def _how(self, param) -> Detecting:
        nms = param.nms_param
        eta = nms.eta if self.is_ssd else 1.0
        if nms.nms_threshold < 0:
            raise self.spec.error("nms_threshold must not be negative")
        if not 0 < eta <= 1:
            raise self.spec.error(f"eta must be in (0, 1], not {eta}")
        # Differs: with share_location and background_label_id -1 the published CPU code aborts, because -1 also marks
        # shared locations there. The GPU code treats every class as an object, and so does this.
        return Detecting(
            param.background_label_id, param.code_type, param.variance_encoded_in_target, nms.nms_threshold, eta,
            nms.top_k if nms.has("top_k") else -1, param.keep_top_k,
            param.confidence_threshold if param.has("confidence_threshold") else -FLT_MAX, clip=not self.is_ssd)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.priors = check_predictions(self, bottom, self.places, self.classes)
        return [(1, 1, 1, 7)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Predictions, and confidences without equal ones, most of them low."""
        if index == 0:
            return rng.normal(0, 1, bottom[0])
        return ranked(bottom[1], rng) ** 4 if index == 1 else None

    def forward(self, loc: Tensor, conf: Tensor, prior: Tensor, *rest: Tensor) -> Tensor:
        if self.missing is not None:
            raise self.missing
        if self.files is not None:
            self.files.begin()
        images = len(loc)
        rows = self.detect(
            loc.reshape(images, self.priors, self.places, 4), conf.reshape(images, self.priors, self.classes),
            split_priors(self, prior, self.priors, self.how.code if self.decodes else "CORNER"), rest)
        # A published defect: if nothing is found in a whole batch, the RMPE fork returns before it counts the images,
        # so later detections are saved under their names. The ssd branch counts them.
        if self.files is not None and (len(rows) or self.is_ssd):
            self._save(self.files, rows.cpu().float(), images)
        if not len(rows):
            rows = rows.new_full((images if self.is_ssd else 1, 7), -1)
            if self.is_ssd:
                rows[:, 0] = torch.arange(images)
        return rows.view(1, 1, -1, 7)

    def detect(self, loc: Tensor, conf: Tensor, prior: Tensor, rest: Sequence[Tensor]) -> Tensor:
        """Return the rows, (K, 7); `rest` are the bottoms after the third."""
        return detection_output(loc, conf, prior, self.how)

    def _save(self, files: DetectionFiles, rows: Tensor, images: int) -> None:
        for image in range(images):
            mine = rows[rows[:, 0] == image]
            height, width = (torch.tensor(float(v)) for v in files.size)
            boxes, _ = boxes_in_pixels(mine[:, 3:], height.expand(len(mine)), width.expand(len(mine)),
                                       files.resize)
            files.add(mine[:, 1].int().tolist(), mine[:, 2].numpy(), boxes.numpy())


@register("DetectionOutput", form="refinedet")
class RefinedDetectionOutput(DetectionOutput):
    """The same, after a first stage: its confidences (N, P * 2), and its predictions (N, P * 4).

    A prior whose confidence in an object is below objectness_score counts as background. With the first stage's
    predictions, each image's priors are first moved by these.
    """

    bottoms = (3, 5)
    refuses = (0, 1, 2, 3, 4)

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.least = self.spec.get("detection_output_param").objectness_score
        if len(bottom) > 4 and self.places != 1:
            raise self.spec.error("needs share_location with the first stage's predictions")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        shape = super().reshape(*bottom)
        check_first_stage(self, self.priors, bottom[0], bottom[3:])
        return shape

    def detect(self, loc: Tensor, conf: Tensor, prior: Tensor, rest: Sequence[Tensor]) -> Tensor:
        images = len(loc)
        if rest:
            unlikely = rest[0].reshape(images, self.priors, 2)[..., 1:] < self.least
            nothing = torch.zeros(self.classes, dtype=conf.dtype, device=conf.device)
            nothing[0] = 1
            conf = torch.where(unlikely, nothing, conf)
        if len(rest) < 2:
            return super().detect(loc, conf, prior, rest)
        moved = decode_boxes(rest[1].reshape(images, self.priors, 4), prior, self.how.code, self.how.in_target)
        found = []
        for image in range(images):
            own = torch.stack([moved[image].to(prior), prior[1]])
            rows = super().detect(loc[image : image + 1], conf[image : image + 1], own, ())
            rows[:, 0] = image
            found.append(rows)
        return torch.cat(found)


@chooses("DetectionOutput")
def _choose(spec: LayerSpec) -> Choice:
    """A single bottom is YOLO v2's, which one fork gives `classes`; a first stage's score or predictions are
    RefineDet's."""
    param = spec.get("detection_output_param")
    if len(spec.bottom) == 1:
        region = "classes" in param.fields
        return Choice("yolov2-region", ("yolov2",)) if region else Choice("yolov2", ("yolov2-region",))
    own = "objectness_score" in param.fields or len(spec.bottom) > 4
    return Choice("refinedet") if own else Choice("", ("refinedet",))
