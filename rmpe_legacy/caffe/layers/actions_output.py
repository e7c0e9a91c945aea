"""What each detected person does. Source: caffe/python/caffe/custom_layers/actions_detection_output_layer.py of
opencv/training_toolbox_caffe@789ff8d."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .known_python import known_python, number, parameters
from .rpn import arrays

_COLUMNS = 10  # of DetectionOutputExtended: image, label, confidence, box, anchor, x, y


@known_python(("caffe.custom_layers.actions_detection_output_layer", "ActionsDetectionOutputLayer"))
class PyActions(Layer):
    """Detections (1, 1, K, 10) and for each anchor the scores of actions (N, H, W, A) -> (1, 1, K, 8): image, action,
    confidence of the detection and of the action, box.

    With use_nms, detections, best first, that overlap an earlier one by more than min_overlap go; they vote, with the
    confidence of their action, for the action of the one that they overlap most. Of its own action the first one counts
    1, each later one its confidence.
    """

    params = ("python_param",)
    bottoms = (2, None)
    tops = 1
    works_in_place = False
    chooses_rows = True
    unforced = (0,)

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        if number(self.spec, values, "num_anchors") != len(bottom) - 1:
            raise self.spec.error(f"has {len(bottom) - 1} bottoms with scores, but num_anchors {values['num_anchors']}")
        self.votes, self.overlap = 0, number(self.spec, values, "min_overlap", 0.45)
        if values.get("use_nms"):
            self.votes = int(number(self.spec, values, "num_valid_actions"))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0]) % _COLUMNS or any(len(shape) != 4 for shape in bottom[1:]):
            raise self.spec.error("needs detections (1, 1, K, 10) and scores (N, H, W, A); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        return [(1, 1, count(bottom[0]) // _COLUMNS, 8)]

    def forward(self, detections: Tensor, *scores: Tensor) -> Tensor:
        rows, *maps = arrays(detections.reshape(-1, _COLUMNS), *scores)
        image, anchor, x, y = rows[:, [0, 7, 8, 9]].astype(int).T
        for what, values, end in (("anchors", anchor, len(maps)), ("images", image, len(maps[0])),
                                  ("rows", y, maps[0].shape[1]), ("columns", x, maps[0].shape[2])):
            if len(values) and not -end <= values.min() <= values.max() < end:
                raise self.spec.error(f"its detections name {what} {values.min()} to {values.max()}; there are {end}")
        # A negative number counts from the end, as where there is no detection.
        found = [maps[a][i, row, column] for a, i, row, column in zip(anchor, image, y, x, strict=True)]
        out = np.zeros((len(rows), 8), rows.dtype)
        out[:, 0], out[:, 2], out[:, 4:] = image, rows[:, 2], rows[:, 3:7]
        out[:, 1] = [each.argmax() for each in found]
        out[:, 3] = [each.max() for each in found]
        if self.votes:
            out = self._suppressed(out)
        return torch.from_numpy(out).to(detections).view(1, 1, -1, 8)

    def _suppressed(self, rows: np.ndarray) -> np.ndarray:
        if len(rows) and rows[:, 1].max() >= self.votes:
            raise self.spec.error(f"action {rows[:, 1].max():g} is not below num_valid_actions {self.votes}")
        kept: list[int] = []
        votes: list[np.ndarray] = []
        for i in (-rows[:, 2]).argsort(kind="stable"):
            common = _overlaps(rows[i, 4:].astype(np.float64), rows[kept, 4:].astype(np.float64))
            action, confidence = int(rows[i, 1]), rows[i, 3]
            if kept and common.max() > self.overlap:
                votes[common.argmax()][action] += confidence
                continue
            votes.append(np.zeros(self.votes, np.float32))
            votes[-1][action] = confidence if kept else 1
            kept.append(int(i))
        out = rows[kept]
        out[:, 1] = [each.argmax() for each in votes]
        return out


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (K, 4), corners in parts of the image; 0 of no area: (K,)."""
    sides = (np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])).clip(0)
    common = sides.prod(1)
    union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return np.where(union > 0, common / np.where(union > 0, union, 1), 0)
