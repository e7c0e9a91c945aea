"""Faster R-CNN's layers in C++, whose settings are in a file of their own: but for the proposals, they have shapes.

Source: src/caffe/FRCNN/frcnn_*_layer.cpp of makefile/frcnn@8d9b9eb.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, ranked, shape_text
from .fed import COLORS, PictureLayer, channels_beside
from .gradient import severed
from .registry import register
from .rpn import Array, arrays, moved, spread, suppressed
from .uncomputed import Uncomputed

CLASSES = 21  # PASCAL VOC's
VOC_ANCHORS = (-84, -40, 99, 55, -176, -88, 191, 103, -360, -184, 375, 100, -56, -56, 71, 72, -120, -120, 135, 135,
               -248, -248, 263, 263, -36, -80, 51, 95, -80, -168, 95, 183, -168, -344, 183, 359)


class _Configured(Uncomputed):
    """Base: the numbers depend on a file that the prototxt of the data layer names."""

    reason = ("depends on settings in a file of its own and is not computed here; remove the layer, leave it out with "
              "strict=False (--lenient), or stop before it with until=... (--until)")


@register("FrcnnRoiData", form="")
class FrcnnRoiData(PictureLayer):
    """Images (1, 3, 600, 1000), their sizes (1, 5, 1, 1) and boxes (1, 5, 1, 1), fed."""

    params = ("window_data_param", "transform_param")
    tops = (1, 3)
    assumed = (600, 1000)

    def shapes(self, n: int, h: int, w: int) -> Sequence[Shape]:
        return [(1, COLORS, h, w), (1, 5, 1, 1), (1, 5, 1, 1)][: self.top_count]


@register("FrcnnAnchorTarget", form="")
class FrcnnAnchorTarget(_Configured):
    """Labels, targets and weights of the anchors of a map of scores (1, 2 A, H, W)."""

    bottoms = (3, 4)
    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _, scores, h, w = self.nchw(bottom[0])
        anchors = scores // 2
        return [(1, 1, anchors * h, w), *[(1, 4 * anchors, h, w)] * 3]


@register("FrcnnProposal", form="")
class FrcnnProposal(Layer):
    """Regions from scores and moves of anchors: (1, 2A, H, W), (1, 4A, H, W) and the image (1, 3 or more) ->
    (R, 5, 1, 1), and perhaps their scores (R, 1, 1, 1). As rpn.proposal_layer, with settings of its own.

    The settings are those of examples/FRCNN/config/voc_config.json, by their names there. A network with others needs
    them: assign to ``layer.settings``.
    """

    params = ("proposal_param",)
    bottoms = 3
    tops = (1, 2)
    works_in_place = False
    chooses_rows = True
    refuses = unforced = (0, 1, 2)

    def setup(self, *bottom: Shape) -> None:
        self.settings: dict[str, Any] = {
            "feat_stride": 16, "anchors": VOC_ANCHORS, "rpn_nms_thresh": 0.7, "rpn_pre_nms_top_n": 12000,
            "rpn_post_nms_top_n": 2000, "rpn_min_size": 16, "test_rpn_nms_thresh": 0.7, "test_rpn_pre_nms_top_n": 6000,
            "test_rpn_post_nms_top_n": 300, "test_rpn_min_size": 16, "test_rpn_score_thresh": 0}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        scores, moves, info = bottom
        if (len(scores) != 4 or len(moves) != 4 or scores[0] != 1 or moves[1] % 4 or count(info) < 3
                or moves != (1, 2 * scores[1], *scores[2:])):
            raise self.spec.error("needs scores (1, 2A, H, W), moves (1, 4A, H, W) and the image's info (1, 3); its "
                                  f"bottoms are {', '.join(map(shape_text, bottom))}")
        self.anchors = moves[1] // 4
        return [(self.spec.rows, 5, 1, 1), (self.spec.rows, 1, 1, 1)][: self.top_count]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> Array | None:
        """Scores without equal ones; moves; the image's height, width and scale."""
        if index < 2:
            return rng.normal(0, 0.3, bottom[1]) if index else ranked(bottom[0], rng)
        info = np.ones(count(bottom[2]))
        info[:2] = [size * self.stride for size in bottom[0][2:]]
        return info.reshape(bottom[2])

    @property
    def stride(self) -> float:
        """Pixels between cells of the map."""
        return self.spec.get("proposal_param").feat_stride or self.settings["feat_stride"]

    def setting(self, name: str) -> Any:
        """A setting of the layer's phase."""
        return self.settings[name if self.spec.phase == "TRAIN" else f"test_{name}"]

    def shifted(self, h: int, w: int) -> Array:
        """Every anchor of a map of h x w cells, (P, 4).

        Raises:
            LayerError: The settings have another number of anchors than the network.
        """
        anchors = np.array(self.settings["anchors"], np.float64).reshape(-1, 4)
        if len(anchors) != self.anchors:
            raise self.spec.error(f"has moves of {self.anchors} anchors, but settings of {len(anchors)}; assign those "
                                  "of the network's own configuration to layer.settings['anchors']")
        return spread(anchors, h, w, self.stride)

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        score, delta, image = arrays(scores, moves, info)
        h, w = scores.shape[2:]
        boxes = moved(self.shifted(h, w), delta.transpose(0, 2, 3, 1).reshape(-1, 4))
        score = score[:, self.anchors :].transpose(0, 2, 3, 1).reshape(-1)
        height, width, scale = image.reshape(-1)[:3]
        boxes = np.clip(boxes, 0, np.array([width - 1, height - 1] * 2, boxes.dtype))
        kept = ((boxes[:, 2:] - boxes[:, :2] + 1) >= scale * int(self.setting("rpn_min_size"))).all(1)
        if self.spec.phase == "TEST":  # of each cell's first anchor any score will do
            first = np.arange(len(score)) % self.anchors == 0
            kept &= first | (score >= self.settings["test_rpn_score_thresh"])
        places = np.flatnonzero(kept)
        order = places[score[places].argsort(kind="stable")[::-1]][: self.setting("rpn_pre_nms_top_n")]
        order = order[suppressed(boxes[order], self.setting("rpn_nms_thresh"), self.setting("rpn_post_nms_top_n"))]
        rois = np.hstack([np.zeros((len(order), 1), boxes.dtype), boxes[order]])
        tops = [torch.from_numpy(top).to(scores)[:, :, None, None] for top in (rois, score[order, None])]
        return tuple(severed(top, scores, moves, info) for top in tops[: self.top_count])


@register("FrcnnProposalTarget", form="")
class FrcnnProposalTarget(_Configured):
    """Sampled regions (R, 5, 1, 1), labels (R, 1, 1, 1), targets and weights: of as many classes as the network
    predicts boxes of."""

    bottoms = 2
    tops = 5
    columns = 4 * CLASSES

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        self.columns = (channels_beside(self.spec.top[2], specs) if len(self.spec.top) > 2 else 0) or self.columns

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 5, 1, 1), (1, 1, 1, 1), *[(1, self.columns, 1, 1)] * 3]
