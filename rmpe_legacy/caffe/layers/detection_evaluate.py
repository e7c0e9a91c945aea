"""Compares detections with true boxes. Source: detection_evaluate_layer.cpp of RMPE@5188c23 and of the ssd branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec
from rmpe_legacy.errors import LayerError
from rmpe_legacy.ops.boxes import box_areas, boxes_in_pixels, detection_evaluate, scale_boxes

from .base import JUDGES, Layer, Shape, shape_text
from .registry import register
from .ssd_common import MissingFileError, read_sizes, resize_of, signed, sizes_for


@register("DetectionEvaluate", dialects=("rmpe", "ssd"))
class DetectionEvaluate(Layer):
    """Detections (1, 1, K, 7) and true boxes (1, 1, G, 8) -> (1, 1, classes + K, 5).

    There is one row (-1, class, number of true boxes, -1, -1) per class except the background, then one row (image,
    label, score, hit, miss) per detection, sorted by image, label and score. A true box is image, label, an unused
    number, four corners, difficult; a row with image -1 ends the list.

    With a name_size_file, boxes are compared in pixels; images with detections take its sizes in turn, across
    consecutive calls. Further bottoms are accepted and ignored, as published.
    """

    params = ("detection_evaluate_param",)
    bottoms = (2, None)
    refuses = (0, 1)
    not_exportable = JUDGES
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("detection_evaluate_param")
        if not param.has("num_classes"):
            raise self.spec.error("needs num_classes")
        self.is_ssd = self.spec.dialect == "ssd"
        self.classes, self.background = param.num_classes, signed(param.background_label_id)
        self.threshold, self.difficult_counts = param.overlap_threshold, param.evaluate_difficult_gt
        if self.threshold <= 0:
            raise self.spec.error("overlap_threshold must be positive")
        self.sizes, self.missing = _sizes(self.spec)
        self.resize = resize_of(self, param)
        self.count = 0  # images seen, modulo those in the file

    @classmethod
    def unavailable(cls, spec: LayerSpec) -> LayerError | None:
        """With strict=False, return an error if its name_size_file is missing: since the layer only evaluates, it can
        be left out. Otherwise the forward raises it."""
        try:
            _, missing = _sizes(spec)
        except LayerError as error:
            return error
        return None if spec.strict else missing

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        detections, truths = map(self.nchw, bottom[:2])
        if detections[:2] != (1, 1) or detections[3] != 7 or truths[:2] != (1, 1) or truths[3] != 8:
            raise self.spec.error("needs bottoms (1, 1, detections, 7) and (1, 1, true boxes, 8), not "
                                  + " and ".join(map(shape_text, bottom[:2])))
        self.shown = self.classes - (self.background != -1)
        return [(1, 1, self.shown + detections[2], 5)]

    def forward(self, detection: Tensor, truth: Tensor, *rest: Tensor) -> Tensor:
        if self.missing is not None:
            raise self.missing
        detections, truths = (x.detach().reshape(-1, x.shape[-1]).cpu().float() for x in (detection, truth))
        # The RMPE fork has one row per detection row, the ssd branch one per row with a label; unused rows are 0.
        length = self.shown + (int((detections[:, 1] != -1).sum()) if self.is_ssd else len(detections))
        truths = self._truths(truths)
        detections = self._of_images(detections, "detections")
        rows = torch.cat([self._counts(truths), self._judge(detections, truths)])
        if len(rows) > length:
            raise self.spec.error(f"background_label_id {self.background} is not one of {self.classes} classes, so the "
                                  "published code writes past the end of its top; set it to one of them, or to -1")
        top = torch.zeros(length, 5)
        top[: len(rows)] = rows
        return top.view(1, 1, length, 5).to(detection)

    def _truths(self, rows: Tensor) -> Tensor:
        """Return the true boxes before the first row with image -1."""
        ends = (rows[:, 0].trunc() == -1).nonzero().flatten()
        return self._of_images(rows[: int(ends[0])] if len(ends) else rows, "true boxes")

    def _of_images(self, rows: Tensor, what: str) -> Tensor:
        """Return the rows that belong to an image, with images and labels truncated to integers."""
        rows = torch.cat([rows[:, :2].trunc(), rows[:, 2:]], 1)
        rows = rows[rows[:, 0] != -1]
        if bool((rows[:, 1] == self.background).any()):
            raise self.spec.error(f"its {what} have the background's label, {self.background}")
        return rows

    def _counts(self, truths: Tensor) -> Tensor:
        """Return the rows with each class's number of true boxes."""
        counted = truths if self.difficult_counts else truths[truths[:, 7] == 0]
        label = counted[:, 1]
        label = label[(label >= 0) & (label < self.classes)].long()
        shown = torch.arange(self.classes) != self.background
        rows = torch.full((self.classes, 5), -1.0)
        rows[:, 1] = torch.arange(self.classes)
        rows[:, 2] = label.bincount(minlength=self.classes)
        return rows[shown]

    def _judge(self, detections: Tensor, truths: Tensor) -> Tensor:
        """Return one row per detection: hit or miss."""
        images = detections[:, 0].unique()
        truths = truths[torch.isin(truths[:, 0], images)]
        boxes, areas = self._boxes(detections[:, 0], detections[:, 3:7], images)
        true_boxes, true_areas = self._boxes(truths[:, 0], truths[:, 3:7], images)
        if self.sizes:
            self.count = (self.count + len(images)) % len(self.sizes)
        found = torch.cat([detections[:, :3], boxes, areas.unsqueeze(1)], 1)
        if self.is_ssd:
            found = found[found[:, 1] != -1]  # placeholders for images without detections
        true = torch.cat([truths[:, :2], truths[:, 7:], true_boxes, true_areas.unsqueeze(1)], 1)
        return detection_evaluate(found, true, self.threshold, self.difficult_counts, bool(self.sizes))

    def _boxes(self, image: Tensor, box: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and their areas, relative to the image or in pixels."""
        if not self.sizes:
            return box, box_areas(box)
        index = torch.searchsorted(images, image.contiguous())
        height, width = sizes_for(self.sizes, (self.count + index) % len(self.sizes))
        if self.is_ssd:
            return boxes_in_pixels(box, height, width, self.resize)
        box = scale_boxes(box, height, width)
        return box, box_areas(box, (height > 1) | (width > 1))


def _sizes(spec: LayerSpec) -> tuple[list[tuple[int, int]], MissingFileError | None]:
    """Return the (height, width) of each image in name_size_file, and an error if the file cannot be read."""
    param = spec.get("detection_evaluate_param")
    try:
        return (read_sizes(spec, param.name_size_file)[1] if param.has("name_size_file") else []), None
    except MissingFileError as error:
        return [], error
