"""Turns SSD's and RefineDet's predictions into detections.

Sources: detection_output_layer.cpp of RMPE@5188c23 and the ssd branch; of sfzhang15/RefineDet@52b6fe2; of
foss-for-synopsys-dwc-arc-processors/synopsys-caffe@977ba36; with bbox_util.cpp, of MhLiao/TextBoxes_plusplus@39d4898.
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

from .base import FLT_MAX, Count, Layer, Shape, count, ranked, shape_text
from .detection_files import DetectionFiles
from .registry import Choice, chooses, register
from .ssd_common import MissingFileError, check_first_stage, check_predictions, split_priors


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
    values = 4  # that are predicted for a place
    columns = 7  # of a row

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
        self.decodes = param.share_location or any(c != param.background_label_id for c in range(self.classes))
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
        self.priors = check_predictions(self, bottom, self.places, self.classes, self.values)
        return [(1, 1, 1, self.columns)]

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
            loc.reshape(images, self.priors, self.places, self.values), conf.reshape(images, self.priors, self.classes),
            split_priors(self, prior, self.priors, self.how.code if self.decodes else "CORNER"), rest)
        # A published defect: if nothing is found in a whole batch, the RMPE fork returns before it counts the images,
        # so later detections are saved under their names. The ssd branch counts them.
        if self.files is not None and (len(rows) or self.is_ssd):
            self._save(self.files, rows.cpu().float(), images)
        if not len(rows):
            rows = rows.new_full((images if self.is_ssd else 1, self.columns), -1)
            if self.is_ssd:
                rows[:, 0] = torch.arange(images)
        return rows.view(1, 1, -1, self.columns)

    def detect(self, loc: Tensor, conf: Tensor, prior: Tensor, rest: Sequence[Tensor]) -> Tensor:
        """Return the rows, (K, columns); `rest` are the bottoms after the third."""
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


@register("DetectionOutput", form="textboxes")
class TextDetectionOutput(DetectionOutput):
    """The same, with a quadrangle for each box: predictions (N, P * 12), a box's four moves and its corners' eight; the
    top (1, 1, K, 15) has the corners x1, y1 ... x4, y4 after the box. With use_polygon: false, predictions are
    (N, P * 9), and a rectangle's upper corners x1, y1, x2, y2 and its height h follow, (1, 1, K, 12).

    Boxes alone are suppressed. No files are written, as published.
    """

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.corners = self.spec.get("detection_output_param").use_polygon
        self.values, self.columns = (12, 15) if self.corners else (9, 12)
        if self.how.code != "CENTER_SIZE" or self.how.in_target:
            raise self.spec.error("needs code_type CENTER_SIZE, and variance_encoded_in_target: false")

    def _files(self, param: Message) -> DetectionFiles | None:
        return None

    def detect(self, loc: Tensor, conf: Tensor, prior: Tensor, rest: Sequence[Tensor]) -> Tensor:
        rows = super().detect(loc[..., :4], conf, prior, rest)
        boxes = decode_boxes(loc[..., :4].transpose(1, 2), prior, self.how.code, self.how.in_target)
        shapes = self.shapes(loc[..., 4:], prior)
        found = []
        for row in rows:
            image, label = int(row[0]), int(row[1])
            place = 0 if self.places == 1 else label
            same = (conf[image, :, label] == row[2]) & (boxes[image, place] == row[3:]).all(1)
            found.append(shapes[image, int(same.to(torch.uint8).argmax()), place])
        return torch.cat([rows, torch.stack(found) if found else rows.new_zeros(0, self.columns - 7)], 1)

    def shapes(self, moves: Tensor, prior: Tensor) -> Tensor:
        """The quadrangles or rectangles that predictions (N, P, places, 8 or 5) make of the priors (2, P, 4)."""
        box, variance = (part[:, None] for part in prior)  # (P, 1, 4)
        size = box[..., 2:] - box[..., :2]
        if self.corners:
            start, scale = box[..., [0, 1, 2, 1, 2, 3, 0, 3]], size.repeat(1, 1, 4)
            return variance[..., :2].repeat(1, 1, 4) * moves * scale + start
        middle = ((box[..., :2] + box[..., 2:]) / 2).repeat(1, 1, 2)
        top = variance[..., :2].repeat(1, 1, 2) * moves[..., :4] * size.repeat(1, 1, 2) + middle
        height = torch.exp(variance[..., 3:] * moves[..., 4:]) * size[..., 1:]
        return torch.cat([top, height], -1)


@register("DetectionOutput", form="synopsys")
class DetectionOutputOfMaps(DetectionOutput):
    """The same, of maps that are not joined: the confidences of nbottom maps, then their predictions, then all priors
    (1, 2, P * 4) or those of each map.

    With no_permute, confidences are (N, C, A, H * W) and predictions (N, A * 4, H, W), for A priors at each pixel;
    otherwise they are as those of DetectionOutput, for each map. Differs: each image of a batch has its own
    predictions; the published loops read the first image's for all.
    """

    bottoms = (3, None)

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        param = spec.get("detection_output_param")
        if len(spec.bottom) < param.nbottom:
            return DetectionOutput if len(spec.bottom) < 4 else RefinedDetectionOutput
        return cls

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        param = self.spec.get("detection_output_param")
        self.maps, self.in_maps = param.nbottom, param.no_permute
        self.refuses = tuple(range(len(bottom)))
        if self.in_maps and self.places != 1:
            raise self.spec.error("needs share_location with no_permute")
        joined = 2 * self.maps + 1
        if len(bottom) != joined and (self.in_maps or len(bottom) != 3 * self.maps):
            raise self.spec.error(f"needs {joined} bottoms for nbottom {self.maps}, confidences, predictions "
                                  f"and priors; it has {len(bottom)}")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        conf, loc, prior = bottom[: self.maps], bottom[self.maps : 2 * self.maps], bottom[2 * self.maps :]
        if self.in_maps:
            for c, p in zip(conf, loc, strict=True):
                if len(c) != 4 or len(p) != 4 or c[1] != self.classes or (p[1], p[2] * p[3]) != (
                        c[2] * 4, c[3]):
                    raise self.spec.error("needs confidences (N, num_classes, A, H * W) and predictions (N, A * 4, H, "
                                          f"W) of each map; they are {shape_text(c)} and {shape_text(p)}")
        if any(len(p) < 2 for p in (*conf, *loc)):
            raise self.spec.error("needs confidences and predictions (N, ...); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        if len({p[0] for p in (*conf, *loc)}) > 1:
            raise self.spec.error("needs one number of images in all confidences and predictions; its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        self.anchors, self.sizes = [p[1] // 4 for p in loc], [count(p[1:]) // 4 for p in loc]
        joined = (1, 2, sum(shape[2] for shape in prior if len(shape) == 3))
        values, scores = (sum(count(shape[1:]) for shape in shapes) for shapes in (loc, conf))
        return super().reshape((loc[0][0], values), (conf[0][0], scores), joined)

    def order(self) -> Tensor:
        """The places of the priors in the order of the predictions: the map, A, its pixels."""
        places, start = [], 0
        for anchors, size in zip(self.anchors, self.sizes, strict=True):
            places.append(torch.arange(start, start + size).view(-1, anchors).t().flatten())
            start += size
        return torch.cat(places)

    def forward(self, *bottoms: Tensor) -> Tensor:
        conf, loc, prior = (bottoms[: self.maps], bottoms[self.maps : 2 * self.maps], bottoms[2 * self.maps :])
        if not self.in_maps:
            return super().forward(*(torch.cat([x.flatten(1) for x in each], 1) for each in (loc, conf)),
                                   torch.cat(prior, 2))
        n = len(loc[0])
        score = torch.cat([c.flatten(2) for c in conf], 2).transpose(1, 2).flatten(1)
        moves = torch.cat([p.reshape(n, a, 4, -1).transpose(2, 3).flatten(1)
                           for p, a in zip(loc, self.anchors, strict=True)], 1)
        boxes = prior[0].reshape(2, -1, 4)[:, self.order().to(prior[0].device)].view(1, 2, -1)
        return super().forward(moves, score, boxes)

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Predictions, and confidences without equal ones, most of them low."""
        if index >= 2 * self.maps:
            return None
        return ranked(bottom[index], rng) ** 4 if index < self.maps else rng.normal(0, 1, bottom[index])


@chooses("DetectionOutput")
def _choose(spec: LayerSpec) -> Choice:
    """A single bottom is YOLO v2's, which one fork gives `classes`; a first stage's score or predictions are
    RefineDet's, maps that are not joined synopsys's, quadrangles TextBoxes++'s."""
    param = spec.get("detection_output_param")
    if param.has("use_polygon"):
        return Choice("textboxes")
    if len(spec.bottom) > 5 or any(name in param.fields for name in ("no_permute", "nbottom")):
        return Choice("synopsys")
    if len(spec.bottom) == 1:
        region = "classes" in param.fields
        return Choice("yolov2-region", ("yolov2",)) if region else Choice("yolov2", ("yolov2-region",))
    own = "objectness_score" in param.fields or len(spec.bottom) > 4
    return Choice("refinedet", ("synopsys",)) if own else Choice("", ("refinedet", "synopsys"))
