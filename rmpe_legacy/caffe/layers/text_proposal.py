"""CTPN's proposals of text: narrow boxes of fixed width. Sources: src/layers/text_proposal_layer.py, src/anchor.py and
src/other.py of tianzhi0549/CTPN@f77ec9e, as they run under Python 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Layer, Shape, count, shape_text
from .known_python import known_python, number, parameters
from .rpn import arrays, spread

# The whole numbers that rounding towards zero makes of boxes around (7.5, 7.5), 16 wide and 11 to 283 high.
HEIGHTS = np.array([11, 16, 23, 33, 48, 68, 97, 139, 198, 283])
BASE = 7.5


@known_python(("layers.text_proposal_layer", "ProposalLayer"))
class PyTextProposal(Layer):
    """Scores (1, 20, H, W), moves (1, 20, H, W) and the image (1, 2 or more) -> boxes (H * W * 10, 4), each cut at the
    image's edges, and their scores (H * W * 10, 1)."""

    params = ("python_param",)
    bottoms = 3
    tops = 2
    works_in_place = False
    unforced = (0, 1, 2)

    def setup(self, *bottom: Shape) -> None:
        self.stride = int(number(self.spec, parameters(self.spec), "feat_stride"))
        half = np.stack([np.full_like(HEIGHTS, 8), HEIGHTS // 2], 1)
        self.anchors = np.trunc(np.hstack([BASE - half, BASE + half])).astype(np.int32)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = 2 * len(HEIGHTS)
        if (len(bottom[0]) != 4 or bottom[0][:2] != (1, channels) or bottom[1] != bottom[0] or len(bottom[2]) != 2
                or count(bottom[2]) < 2):
            raise self.spec.error(f"needs scores and moves of one image, (1, {channels}, H, W) each, and the image's "
                                  f"size (1, 2); its bottoms are {', '.join(map(shape_text, bottom))}")
        rows = len(HEIGHTS) * bottom[0][2] * bottom[0][3]
        return [(rows, 4), (rows, 1)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Small moves; the image's height and width."""
        if index < 2:
            return rng.normal(0, 0.3, bottom[1]) if index else None
        size = [n * self.stride for n in bottom[0][2:]]
        return np.array([*size, *[1] * (count(bottom[2]) - 2)]).reshape(bottom[2])

    def shifted(self, h: int, w: int) -> np.ndarray:
        """Every anchor of every cell, (h * w * 10, 4): cells in rows, of each cell all anchors."""
        return spread(self.anchors, h, w, self.stride)

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Tensor, Tensor]:
        score, delta, image = arrays(scores, moves, info)
        delta = delta.transpose(0, 2, 3, 1).reshape(-1, 2)
        anchors = self.shifted(*scores.shape[2:])
        middle, size = (anchors[:, 1] + anchors[:, 3]) / 2, anchors[:, 3] - anchors[:, 1] + 1.0
        height = (np.exp(delta[:, 1]) * size).astype(delta.dtype)
        top = (delta[:, 0] * size + middle - height / delta.dtype.type(2)).astype(delta.dtype)
        boxes = np.stack([anchors[:, 0].astype(delta.dtype), top, anchors[:, 2].astype(delta.dtype), top + height], 1)
        boxes = np.clip(boxes, 0, np.array([image[0, 1] - 1, image[0, 0] - 1] * 2, delta.dtype))
        score = score[:, len(HEIGHTS) :].transpose(0, 2, 3, 1).reshape(-1, 1)
        return torch.from_numpy(boxes).to(scores), torch.from_numpy(np.ascontiguousarray(score)).to(scores)
