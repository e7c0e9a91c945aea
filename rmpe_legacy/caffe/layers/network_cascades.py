"""The Python layers of multi-task network cascades, which find the mask of each object.

Sources: lib/pylayer/*.py of daijifeng001/MNC@e6be483. In TRAIN, all but the proposals have shapes, and refuse to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, shape_text
from .fed import COLORS, FedLayer
from .gradient import severed
from .known_python import known_python, number, parameters
from .roi import random_regions
from .rpn import ProposalLayer, arrays, moved
from .uncomputed_python import UncomputedPython
from .weak_segmentation import VOC_CLASSES

MASK = 21  # height and width of a mask, MASK_SIZE of mnc_config.py
INPUT_MASK = 14


class _Moved(torch.autograd.Function):
    """Regions as a function of the moves that they come from, with a given gradient."""

    @staticmethod
    def forward(ctx: Any, rois: Tensor, back: Callable[[Tensor], Tensor], moves: Tensor) -> Tensor:
        ctx.back = back
        return rois

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, ctx.back(dy)


@known_python(("pylayer.proposal_layer", "ProposalLayer"))
class CascadeProposal(ProposalLayer):
    """The regions of rpn.proposal_layer with a gradient for the moves (1, 4A, H, W); a second top (1, R) numbers the
    anchors that they come from.

    As published, the gradient takes a region's corners for its centre and size, and is 0 where an anchor or what it
    becomes is not inside the image; use_clip limits it to 1 / clip_base.
    """

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return cls

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        values = parameters(self.spec)
        base = number(self.spec, values, "clip_base", 256)
        if not base:
            raise self.spec.error("its param_str needs 'clip_base': a number other than 0")
        self.limit = 1 / base if values.get("use_clip", 0) else None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        super().reshape(*bottom)
        return [(self.spec.rows, 5), (1, self.spec.rows)][: self.top_count]

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        boxes, _, places = self.best(scores, moves, info)
        rois = torch.from_numpy(np.hstack([np.zeros((len(boxes), 1), boxes.dtype), boxes])).to(scores)
        slopes = self._slopes(moves.detach(), info, places)
        back = _to_moves(moves.shape, len(self.anchors), torch.from_numpy(places), slopes, self.limit)
        index = torch.from_numpy(places).to(scores).view(1, -1)
        return (_Moved.apply(rois, back, moves), index)[: self.top_count]

    def _slopes(self, moves: Tensor, info: Tensor, places: np.ndarray) -> Tensor:
        """What a region's centre (2) and size (2) gain by its moves, (R, 4) in double precision."""
        delta, image = arrays(moves, info)
        delta = delta.transpose(0, 2, 3, 1).reshape(-1, 4)[places]
        anchors = self.shifted(*moves.shape[2:])[places]
        height, width = image.reshape(-1)[:2]
        end = np.array([width - 1, height - 1])
        both = np.hstack([anchors, moved(anchors, delta)]).reshape(-1, 2, 4)
        inside = ((both[..., :2] >= 0) & (both[..., 2:] <= end)).all((1, 2))
        size = anchors[:, 2:] - anchors[:, :2]
        slopes = np.hstack([size, np.exp(delta[:, 2:]) * size])
        slopes[~inside] = 0
        return torch.from_numpy(slopes).to(moves.device)


def _to_moves(shape: torch.Size, a: int, places: Tensor, slopes: Tensor, limit: float | None
              ) -> Callable[[Tensor], Tensor]:
    """The function from the diff of regions (R, 5) to that of moves (1, 4A, H, W)."""

    def back(dy: Tensor) -> Tensor:
        low, high = dy[:, 1:3].double(), dy[:, 3:5].double()
        each = torch.cat([low + high, 0.5 * (high - low)], 1) * slopes
        if limit is not None:
            each = each.clamp(-limit, limit)
        diff = torch.zeros(shape[2] * shape[3], a, 4, dtype=dy.dtype, device=dy.device)
        diff.view(-1, 4)[places.to(dy.device)] = each.to(dy.dtype)
        return diff.view(1, *shape[2:], 4 * a).permute(0, 3, 1, 2).contiguous()

    return back


@known_python(("pylayer.mask_layer", "MaskLayer"))
class CascadeMask(Layer):
    """Scores of masks, (R, 441) -> masks (R, 1, 21, 21)."""

    params = ("python_param",)
    bottoms = (1, None)
    works_in_place = False
    refuses = unforced = (0,)

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return LabelledMask if spec.phase == "TRAIN" else cls

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or count(bottom[0][1:]) != MASK**2:
            raise self.spec.error(f"needs {MASK**2} scores for each region; its bottom is {shape_text(bottom[0])}")
        return [(bottom[0][0], 1, MASK, MASK)]

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return severed(x.reshape(len(x), 1, MASK, MASK), x)


@known_python(("pylayer.stage_bridge_layer", "StageBridgeLayer"))
class CascadeStageBridge(Layer):
    """Regions (R, 5), their moves (R, 4K), scores (R, K) and the image (1, 3) -> regions of the next stage (R, 5),
    each moved as its best class says and cut at the image's edges."""

    params = ("python_param",)
    bottoms = 4
    works_in_place = False
    is_discontinuous = True
    refuses = unforced = (0, 1, 2, 3)

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        return SampledStageBridge if spec.phase == "TRAIN" else cls

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        rois, moves, scores, info = bottom
        if (len(rois) < 2 or count(rois[1:]) != 5 or len(scores) != 2 or scores[0] != rois[0]
                or moves != (rois[0], 4 * scores[1]) or count(info) < 3):
            raise self.spec.error("needs regions (R, 5), moves (R, 4K), scores (R, K) and the image's info (1, 3); its "
                                  f"bottoms are {', '.join(map(shape_text, bottom))}")
        return [(rois[0], 5)]

    def typical(self, index: int, bottom: Sequence[Shape], rng: np.random.Generator) -> np.ndarray | None:
        """Regions in an image of 600 x 800, small moves, and that image."""
        if index == 0:
            return random_regions(bottom[0], 1, 600, 800, rng)
        if index == 3:
            return np.resize([600, 800, 1], bottom[3])
        return rng.normal(0, 0.3, bottom[1]) if index == 1 else None

    def forward(self, rois: Tensor, moves: Tensor, scores: Tensor, info: Tensor) -> Tensor:
        boxes, delta, score, image = arrays(rois, moves, scores, info)
        each = np.arange(len(boxes))
        chosen = delta.reshape(len(boxes), -1, 4)[each, score.argmax(1)] if len(boxes) else delta.reshape(0, 4)
        height, width = image.reshape(-1)[:2]
        out = np.zeros((len(boxes), 5), chosen.dtype)
        out[:, 1:] = np.clip(moved(boxes.reshape(-1, 5)[:, 1:], chosen), 0,
                             np.array([width - 1, height - 1] * 2, chosen.dtype))
        return severed(torch.from_numpy(out).to(rois), rois, moves, scores, info)


class LabelledMask(UncomputedPython):
    """In TRAIN: masks (R, 1, 21, 21), and labels of theirs."""

    bottoms = (1, None)
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.take([(1, 1, MASK, MASK), (1, 1)])


class SampledStageBridge(UncomputedPython):
    """In TRAIN: regions of the next stage, and labels, masks and targets of theirs."""

    tops = (1, 8)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns, mask = 4 * self.parameter("num_classes", VOC_CLASSES), (1, 1, MASK, MASK)
        return self.take([(1, 5), (1, 1), mask, mask, (1, 4), *[(1, columns)] * 3])


@known_python(("pylayer.proposal_target_layer", "ProposalTargetLayer"))
class PyMncProposalTarget(UncomputedPython):
    """Regions with labels and targets, and perhaps masks, weights of masks and what they are of."""

    tops = (5, 10)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns, mask = 4 * self.parameter("num_classes", VOC_CLASSES), (1, 1, MASK, MASK)
        return self.take([(1, 5), (1, 1), *[(1, columns)] * 3, mask, mask, *[(1, 4)] * 3])


@known_python(("pylayer.anchor_target_layer", "AnchorTargetLayer"))
class PyMncAnchorTarget(UncomputedPython):
    """Labels, targets and weights of anchors on a map (1, 2 A, H, W)."""

    tops = (1, 4)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _, scores, h, w = self.nchw(bottom[0])
        anchors = scores // 2
        return self.take([(1, 1, anchors * h, w), *[(1, 4 * anchors, h, w)] * 3])


class _MncData(FedLayer):
    """Base of the data layers of network cascades."""

    guesses = True
    params = ("python_param",)

    def after(self, columns: int) -> Sequence[Shape]:
        """The shapes of the tops behind the images."""
        raise NotImplementedError

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns = 4 * int(number(self.spec, parameters(self.spec), "num_classes", VOC_CLASSES))
        shapes = [(1, COLORS, 600, 1000), *self.after(columns)]
        if len(shapes) < self.top_count:
            raise self.spec.error(f"gives {len(shapes)} tops, but is given {self.top_count}")
        return shapes[: self.top_count]


@known_python(("pylayer.mnc_data_layer", "MNCDataLayer"))
class PyMncData(_MncData):
    """Images (1, 3, 600, 1000) with their sizes, boxes and masks, fed."""

    def after(self, columns: int) -> Sequence[Shape]:
        return [(1, 3), (1, 4), (1, MASK, MASK), (1, 3)]


@known_python(("pylayer.cfm_data_layer", "CFMDataLayer"))
class PyCfmData(_MncData):
    """Images (1, 3, 600, 1000) with regions, masks, labels, targets and weights, fed."""

    def after(self, columns: int) -> Sequence[Shape]:
        mask = (1, 1, MASK, MASK)
        return [(1, 5), (1, 1, INPUT_MASK, INPUT_MASK), (1, 1), (1, 1), (1, columns), mask, (1, columns),
                (1, columns), mask]
