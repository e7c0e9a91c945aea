"""Python layers that make boxes of what detectors' networks compute.

Sources: lib/rpn/box_transform_layer.py of nnop/mtnet@cf53a9e; lib/rpn/roi_select_layer.py of
JiajianZeng/caffe-face-attributes@c5c16d1; SSH/layers/proposal_layer.py and SSH/configs/default_config.yml of
mahyarnajibi/SSH@9389c2b; lib/layers/proposal_layer.py and configs/default.toml of bairdzhang/smallhardface@76fa1d8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, ranked, shape_text
from .known_python import known_python, number, parameters
from .rpn import ProposalLayer, arrays, moved


@known_python(("rpn.box_transform_layer", "BoxTransformLayer"))
class PyBoxTransform(Layer):
    """Regions (R, 4) or (R, 5) and moves (R, 4), of which param_str may give means and deviations -> moved regions
    (R, 5). No gradient."""

    params = ("python_param",)
    bottoms, tops = 2, 1
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.means, self.deviations = (self._four(values.get(name, default)) for name, default in (
            ("bbox_normalize_means", (0.0,) * 4), ("bbox_normalize_stds", (0.1, 0.1, 0.2, 0.2))))

    def _four(self, values: Any) -> np.ndarray:
        if not isinstance(values, list | tuple) or len(values) != 4 or not all(
                isinstance(v, int | float) for v in values):
            raise self.spec.error("its param_str needs bbox_normalize_means and bbox_normalize_stds as 4 numbers each")
        return np.array(values, np.float64)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        boxes, moves = bottom
        if len(boxes) != 2 or boxes[1] not in (4, 5) or moves != (boxes[0], 4):
            raise self.spec.error(f"needs regions (R, 4) or (R, 5), and moves (R, 4); its bottoms are "
                                  f"{shape_text(boxes)} and {shape_text(moves)}")
        return [(boxes[0], 5)]

    def forward(self, boxes: Tensor, moves: Tensor) -> Tensor:
        corners, delta = arrays(boxes[:, -4:], moves)
        out = moved(corners, delta * self.deviations + self.means)
        return torch.from_numpy(np.hstack([np.zeros((len(out), 1)), out])).to(boxes)


@known_python(("rpn.roi_select_layer", "RoISelectLayer"))
class PyRoiSelect(Layer):
    """Regions (R, 5) and scores (R, num_class) -> for each class but the first, the region that has it with the largest
    score, or if none has, the one with the largest score of it: (num_class - 1, 5). No gradient."""

    params = ("python_param",)
    bottoms, tops = 2, 1
    works_in_place = False
    is_discontinuous = True

    def setup(self, *bottom: Shape) -> None:
        self.classes = int(number(self.spec, parameters(self.spec), "num_class"))

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        rois, scores = bottom
        if self.classes < 2 or len(rois) < 2 or count(rois[1:]) != 5 or scores != (rois[0], self.classes):
            raise self.spec.error(f"needs num_class above 1, regions (R, 5), scores (R, {self.classes}); its bottoms "
                                  f"are {shape_text(rois)} and {shape_text(scores)}")
        return [(self.classes - 1, 5)]

    def forward(self, rois: Tensor, scores: Tensor) -> Tensor:
        scores = scores.detach()
        best, label = scores.max(1)
        kept = []
        for number_of in range(1, self.classes):
            own = torch.where(label == number_of, best, -torch.inf)
            kept.append(int((own if bool((label == number_of).any()) else scores[:, number_of]).argmax()))
        return rois.detach().reshape(len(rois), 5)[kept]


@known_python(("SSH.layers.proposal_layer", "ProposalLayer"))
class PySshProposals(ProposalLayer):
    """SSH's regions: in TEST the best N_DETS_PER_MODULE (RPN_PRE_NMS_TOP_N here) of any size, without suppression."""

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        if self.spec.phase == "TRAIN":
            self.settings |= {"RPN_PRE_NMS_TOP_N": 1000, "RPN_POST_NMS_TOP_N": 300, "RPN_NMS_THRESH": 0.3,
                              "RPN_MIN_SIZE": 4}
        else:
            self.settings |= {"RPN_PRE_NMS_TOP_N": 1000, "RPN_POST_NMS_TOP_N": 0, "RPN_NMS_THRESH": np.inf,
                              "RPN_MIN_SIZE": 0}


@known_python(("lib.layers.proposal_layer", "ProposalLayer"))
class PySmallFaceProposals(ProposalLayer):
    """smallhardface's regions of several classes: (1, K * A, H, W), (1, 4A, H, W), (1, 3) -> (R, 5), scores (R, K).

    Those whose largest score but that of the first class is SCORE_THRESH or more, N_DETS_PER_MODULE at most, and one at
    least. Only in TEST, with one feature and without shifts and refinements.
    """

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        strides = values.get("feat_stride")
        if (self.spec.phase == "TRAIN" or not isinstance(strides, list | tuple) or len({*strides}) != 1
                or values.get("shifts", [0]) != [0] or values.get("num_feats", 1) != 1):
            raise self.spec.error("is supported in TEST alone, with one feat_stride and without shifts and num_feats")
        self.stride = strides[0]
        self.anchors = self.read_anchors(values)
        self.settings = {"N_DETS_PER_MODULE": 10000, "SCORE_THRESH": 0.002, "ANCHOR_MIN_SIZE": 0}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.one_image(bottom[0])
        a = len(self.anchors)
        if bottom[0][1] % a or bottom[0][1] < 2 * a or bottom[1] != (1, 4 * a, *bottom[0][2:]) or count(bottom[2]) < 3:
            raise self.spec.error(f"needs scores of 2 classes or more and moves for {a} anchors, and the image's info "
                                  f"(1, 3); its bottoms are {', '.join(map(shape_text, bottom))}")
        return [(self.spec.rows, 5), (self.spec.rows, bottom[0][1] // a)][: self.top_count]

    def typical(self, index: int, bottom: Sequence[Shape], rng: Any) -> np.ndarray | None:
        return ranked(bottom[0], rng) if not index else super().typical(index, bottom, rng)

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        score, delta, image = arrays(scores, moves, info)
        h, w = score.shape[2:]
        height, width, scale = image.reshape(-1)[:3]
        boxes = moved(self.shifted(h, w), delta.transpose(0, 2, 3, 1).reshape(-1, 4))
        boxes = np.clip(boxes, 0, np.array([width - 1, height - 1] * 2, boxes.dtype))
        each = score.reshape(-1, len(self.anchors), h, w).transpose(2, 3, 1, 0).reshape(len(boxes), -1)
        large = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2] + 1) >= self.settings["ANCHOR_MIN_SIZE"] * scale).all(1))
        best = each[large, 1:].max(1)
        order = best.argsort(kind="stable")[::-1]
        enough = max(1, int((best >= self.settings["SCORE_THRESH"]).sum()))
        kept = large[order[: min(enough, self.settings["N_DETS_PER_MODULE"])]]
        rois = np.hstack([np.zeros((len(kept), 1), boxes.dtype), boxes[kept]])
        tops = torch.from_numpy(rois).to(scores), torch.from_numpy(each[kept]).to(scores)
        return tops[: self.top_count]
