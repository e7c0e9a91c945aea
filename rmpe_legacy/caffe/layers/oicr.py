"""Labels that regions get from labels of the whole image, as online instance classifier refinement has them.

Source: lib/oicr_layer/layer.py of ppengtang/oicr@cd136fa.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .known_python import known_python, number, parameters
from .rpn import arrays, overlaps


@known_python(("oicr_layer.layer", "OICRLayer"))
class PyOicr(Layer):
    """Regions (R, 5), scores of classes (R, C) and an image's labels (1, C) -> a label and a weight for each region,
    (R,) each; scores may have a column for the background before the others.

    The best region of each class that the image has gives its label and its score to the regions whose overlap with it
    is at least FG_THRESH; all others have label 0 and the score of the one that they overlap most.
    """

    params = ("python_param",)
    bottoms = 3
    tops = 2
    works_in_place = False
    chooses_rows = True
    not_exportable = JUDGES
    unforced = (0, 1, 2)

    def setup(self, *bottom: Shape) -> None:
        self.classes = int(number(self.spec, parameters(self.spec), "num_classes"))
        self.settings = {"FG_THRESH": 0.5}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        rois, scores, labels = bottom
        columns = self.classes - 1
        if (len(rois) < 2 or count(rois[1:]) != 5 or len(scores) != 2 or scores[0] != rois[0] or labels != (1, columns)
                or scores[1] not in (columns, columns + 1)):
            raise self.spec.error(f"needs regions (R, 5), scores (R, {columns}) or (R, {columns + 1}), and labels "
                                  f"(1, {columns}); its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(rois[0],), (rois[0],)]

    def forward(self, rois: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        boxes, score, given = arrays(rois.reshape(-1, 5)[:, 1:], scores[:, 1 - self.classes :], labels[0])
        best, score = [], score.copy()
        for column in np.flatnonzero(given == 1):
            row = int(score[:, column].argmax())
            best.append((row, column + 1, score[row, column]))
            score[row] = 0  # it is the best of one class at most
        if not best:
            raise self.spec.error("its image has no label; each image needs one")
        rows, classes, weights = map(np.array, zip(*best, strict=True))
        common = overlaps(boxes.astype(np.float64), boxes[rows].astype(np.float64))
        nearest = common.argmax(1)
        label = np.where(common.max(1) >= self.settings["FG_THRESH"], classes[nearest], 0)
        return torch.from_numpy(label).to(rois), torch.from_numpy(weights[nearest]).to(rois)
