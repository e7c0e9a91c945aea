"""The regions of a batch that a Fast R-CNN has most to learn from.

Source: OHEMDataLayer of lib/roi_data_layer/layer.py, and lib/roi_data_layer/minibatch.py, of abhi2610/ohem@1f07dd0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import JUDGES, Layer, Shape, count, shape_text
from .known_python import known_python, number, parameters
from .rpn import arrays, suppressed


@known_python(("roi_data_layer.layer", "OHEMDataLayer"))
class PyHardRegions(Layer):
    """Probabilities (R, K), moves (R, 4K), regions (R, 5), labels (R,), and of the moves targets and two kinds of
    weights, (R, 4K) each -> the hardest regions, at most BATCH_SIZE, with labels, targets and weights.

    A region's loss is that of its class and the smooth L1 loss of its moves. Regions of one image and label that
    overlap a harder one by more than OHEM_NMS_THRESH are left out. Differs: of equal losses of one image and label the
    earlier region goes first; the published sort leaves their order open.
    """

    params = ("python_param",)
    bottoms = 7
    tops = 5
    works_in_place = False
    chooses_rows = True
    not_exportable = JUDGES
    unforced = tuple(range(7))

    def setup(self, *bottom: Shape) -> None:
        self.columns = 4 * int(number(self.spec, parameters(self.spec), "num_classes", 21))
        self.settings: dict[str, Any] = {"BATCH_SIZE": 128, "OHEM_USE_NMS": True, "OHEM_NMS_THRESH": 0.7}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n = bottom[0][0] if bottom[0] else 0
        if not n or [count(shape) for shape in bottom] != [n * k for k in (self.columns // 4, self.columns, 5, 1,
                                                                           *[self.columns] * 3)]:
            raise self.spec.error("needs probabilities (R, K), moves (R, 4K), regions (R, 5), labels (R,), targets and "
                                  f"two weights (R, 4K), where K is num_classes; its bottoms are "
                                  f"{', '.join(map(shape_text, bottom))}")
        kept = min(n, self.settings["BATCH_SIZE"])
        return [(kept, 5), (kept,), *[(kept, self.columns)] * 3]

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        n = len(bottoms[0])
        p, moves, rois, labels, targets, inside, outside = arrays(*(x.reshape(n, -1) for x in bottoms))
        label = labels[:, 0].astype(int)
        self.check_classes(torch.from_numpy(label), self.columns // 4)
        loss = -np.log(np.maximum(p[np.arange(n), label], np.finfo(float).eps)).astype(np.float64)
        difference = np.abs(inside * (moves - targets))
        each = outside * np.where(difference < 1, 0.5 * difference**2, difference - 0.5)
        loss += np.where((label > 0)[:, None] & (inside != 0), each, 0).sum(1)
        hard = self._hardest(loss, rois, label)
        tops = rois[hard], labels[hard, 0], targets[hard], inside[hard], outside[hard]
        return tuple(torch.from_numpy(np.ascontiguousarray(top)).to(bottoms[0]) for top in tops)

    def _hardest(self, loss: np.ndarray, rois: np.ndarray, label: np.ndarray) -> np.ndarray:
        places = np.arange(len(loss))
        if self.settings["OHEM_USE_NMS"]:
            kept = []
            for image in np.unique(rois[:, 0]):
                for each in np.unique(label):
                    among = np.flatnonzero((label == each) & (rois[:, 0] == image))
                    order = among[loss[among].astype(np.float32).argsort(kind="stable")[::-1]]
                    kept.append(order[suppressed(rois[order, 1:], self.settings["OHEM_NMS_THRESH"], 0)])
            places = np.concatenate(kept)
        return places[loss[places].argsort(kind="stable")[::-1]][: self.settings["BATCH_SIZE"]]
