"""SSD's detections with the anchor and the place that each comes from. Source: detection_output_extended_layer.cpp,
bbox_util.cpp of opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.ops.boxes import Detecting, decode_boxes

from .base import FLT_MAX, Layer, Shape, ranked, shape_text
from .registry import register
from .rpn import Array, arrays
from .ssd_common import check_predictions, split_priors

ROW = 10  # image, label, confidence, four corners, anchor, x, y


@register("DetectionOutputExtended", form="")
class DetectionOutputExtended(Layer):
    """Detections of one class: predictions (N, H, W, A * 4), confidences (N, H * W * A * 2) and priors
    (1, 2, H * W * A * 4) -> (1, 1, K, 10), rows of image, label 1, confidence, box, anchor, x and y; by image, best
    first. If nothing is found, a row for each image: its number, then -1.
    """

    params = ("detection_output_param",)
    bottoms = 3
    tops = 1
    works_in_place = False
    chooses_rows = True
    unforced = (0, 1, 2)
    classes, places, is_ssd, files = 2, 1, True, None  # as those of DetectionOutput

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("detection_output_param")
        nms = param.nms_param
        if param.num_classes != 2 or not param.share_location:
            raise self.spec.error("needs num_classes: 2 and share_location: true")
        if nms.nms_threshold < 0 or not 0 < nms.eta <= 1:
            raise self.spec.error("nms_threshold must not be negative, and eta must be in (0, 1]")
        self.how = Detecting(
            0, param.code_type, param.variance_encoded_in_target, nms.nms_threshold, nms.eta,
            nms.top_k if nms.has("top_k") else -1, param.keep_top_k,
            param.confidence_threshold if param.has("confidence_threshold") else -FLT_MAX, clip=False)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        loc = bottom[0]
        if len(loc) != 4 or loc[3] % 4:
            raise self.spec.error(f"needs predictions (N, H, W, A * 4), not {shape_text(loc)}")
        self.priors = check_predictions(self, ((loc[0], loc[1] * loc[2] * loc[3]), *bottom[1:]), 1, 2)
        return [(1, 1, 1, ROW)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> Array | None:
        """Predictions, and confidences without equal ones, most of them low."""
        if index == 0:
            return rng.normal(0, 1, bottom[0])
        return ranked(bottom[1], rng) ** 4 if index == 1 else None

    def forward(self, loc: Tensor, conf: Tensor, prior: Tensor) -> Tensor:
        n, how = len(loc), self.how
        values = split_priors(self, prior, self.priors, how.code)
        boxes, score = arrays(decode_boxes(loc.detach().reshape(n, self.priors, 4), values, how.code, how.in_target),
                              conf.reshape(n, self.priors, 2))
        rows, origins = [], self.origins(loc.shape)
        for image in range(n):
            kept = self._kept(boxes[image], score[image, :, 1])
            columns = [np.full(len(kept), image), np.ones(len(kept)), score[image, kept, 1], *boxes[image, kept].T,
                       *origins[kept].T]
            rows.append(np.stack(columns, 1))
        found = torch.from_numpy(np.concatenate(rows)).to(loc)
        if not len(found):
            found = loc.new_full((n, ROW), -1)
            found[:, 0] = torch.arange(n)
        return found.view(1, 1, -1, ROW)

    def origins(self, loc: Shape) -> Array:
        """The anchor, x and y that each prior comes from, (P, 3), of predictions (N, H, W, A * 4)."""
        anchors, width = loc[3] // 4, loc[2]
        place, anchor = np.divmod(np.arange(self.priors), anchors)
        return np.stack([anchor, place % width, place // width], 1)

    def _kept(self, boxes: Array, score: Array) -> Array:
        """The boxes (P, 4) that stay, best first: their places (K,)."""
        how = self.how
        order = (-score).argsort(kind="stable")
        if how.confidence_threshold > -FLT_MAX:
            order = order[score[order] > score.dtype.type(how.confidence_threshold)]
        if how.top_k > -1:
            order = order[: how.top_k]
        limit, kept = np.float32(how.nms_threshold), np.zeros(0, np.int64)
        for place in order:
            if (_overlaps(boxes[place], boxes[kept]) <= limit).all():
                kept = np.append(kept, place)
                if how.eta < 1 and limit > 0.5:
                    limit *= np.float32(how.eta)
        return kept[: how.keep_top_k] if how.keep_top_k > -1 else kept


def _overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box (4,) with others (K, 4); 0 without a common area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.where((sides > 0).all(1), sides.prod(1), 0)
    one, each = ((b[..., 2:] - b[..., :2]).clip(0).prod(-1) for b in (box, others))
    return common / np.where(common > 0, one + each - common, 1)
