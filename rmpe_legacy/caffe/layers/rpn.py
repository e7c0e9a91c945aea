"""The region proposal network's layers, which py-faster-rcnn and py-R-FCN have in Python.

Sources: lib/rpn/{generate_anchors,proposal_layer,anchor_target_layer,proposal_target_layer}.py,
lib/fast_rcnn/{bbox_transform,nms_wrapper,config}.py and lib/roi_data_layer/layer.py of
rbgirshick/py-faster-rcnn@781a917 and YuwenXiong/py-R-FCN@290dba7. Settings are those of
config.py; ``layer.settings`` changes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, count, ranked, shape_text
from .fed import FedLayer, channels_beside
from .known_python import known_python, number, parameters
from .proposal import MAX_ANCHORS
from .suppression import first_apart
from .uncomputed_detectors import LabelledProposals, LandmarkTargets, MaskTargets, PoseTargets

Array = np.ndarray


def generate_anchors(scales: Sequence[float], ratios: Sequence[float] = (0.5, 1, 2), base: int = 16) -> Array:
    """(ratios * scales, 4) boxes around the first cell: of each ratio, of each scale."""
    centre = 0.5 * (base - 1)
    out = []
    for ratio in ratios:
        w = np.round(np.sqrt(base * base / ratio))
        h = np.round(w * ratio)
        for scale in scales:
            half_w, half_h = 0.5 * (w * scale - 1), 0.5 * (h * scale - 1)
            out.append([centre - half_w, centre - half_h, centre + half_w, centre + half_h])
    return np.array(out)


def spread(anchors: Array, h: int, w: int, stride: float) -> Array:
    """Every anchor (A, 4) of every cell, (h * w * A, 4): cells in rows, of each cell all anchors."""
    x, y = np.meshgrid(np.arange(w) * stride, np.arange(h) * stride)
    shifts = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], 1)
    return (anchors[None] + shifts[:, None]).reshape(-1, 4)


def to_targets(boxes: Array, truth: Array) -> Array:
    """What moves boxes (N, 4) onto others: of the centres by the size, and logarithms of the sizes."""
    size, other = boxes[:, 2:] - boxes[:, :2] + 1.0, truth[:, 2:] - truth[:, :2] + 1.0
    centre, goal = boxes[:, :2] + 0.5 * size, truth[:, :2] + 0.5 * other
    return np.hstack([(goal - centre) / size, np.log(other / size)])


def moved(boxes: Array, targets: Array) -> Array:
    """Boxes (N, 4) moved by targets (N, 4), in the targets' precision."""
    boxes = boxes.astype(targets.dtype, copy=False)
    size = boxes[:, 2:] - boxes[:, :2] + targets.dtype.type(1)
    centre = boxes[:, :2] + targets.dtype.type(0.5) * size
    centre = targets[:, :2] * size + centre
    half = targets.dtype.type(0.5) * (np.exp(targets[:, 2:]) * size)
    return np.hstack([centre - half, centre + half])


def overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of each (N, 4) with each (K, 4), pixels counted: (N, K)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], others[None, :, 2:4])
    sides = np.maximum(high - low + 1, 0)
    common = sides.prod(2)
    areas = [(b[:, 2:4] - b[:, :2] + 1).prod(1) for b in (boxes, others)]
    return common / (areas[0][:, None] + areas[1][None] - common)


def suppressed(boxes: Array, limit: float, most: int) -> list[int]:
    """The boxes, best first, that no better one overlaps by more than `limit`; at most `most`, all if that is 0."""
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1 + 1) * (y2 - y1 + 1)

    def too_close(i: int, others: Array) -> Array:
        w = np.maximum(np.minimum(x2[i], x2[others]) - np.maximum(x1[i], x1[others]) + 1, 0)
        h = np.maximum(np.minimum(y2[i], y2[others]) - np.maximum(y1[i], y1[others]) + 1, 0)
        common = w * h
        return ~(common / (area[i] + area[others] - common) <= limit)

    return first_apart(len(boxes), too_close, most)


class _Anchored(Layer):
    """Common parts of the layers with anchors."""

    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.stride = number(self.spec, values, "feat_stride")
        self.anchors = self.read_anchors(values)

    def read_anchors(self, values: Mapping[str, Any]) -> Array:
        """The boxes of a cell, of param_str's scales and ratios. Raises LayerError if they are no lists of numbers."""
        lists = [values.get(name, default) for name, default in (("scales", (8, 16, 32)), ("ratios", (0.5, 1, 2)))]
        for given in lists:
            if not isinstance(given, list | tuple) or not given or not all(
                    isinstance(v, int | float) and v > 0 for v in given):
                raise self.spec.error("its param_str needs scales and ratios as lists of numbers above 0")
        if math.prod(map(len, lists)) > MAX_ANCHORS:
            raise self.spec.error(f"its scales and ratios give more than {MAX_ANCHORS} anchors; remove some")
        return generate_anchors(*lists)

    def shifted(self, h: int, w: int) -> Array:
        """Every anchor of every cell: see `spread`."""
        return spread(self.anchors, h, w, self.stride)

    def one_image(self, shape: Shape) -> None:
        if len(shape) != 4 or shape[0] != 1:
            raise self.spec.error(f"takes one image at a time, as published: (1, C, H, W), not {shape_text(shape)}")


def arrays(*tensors: Tensor) -> list[Array]:
    """The values of tensors on the host, in their own precision."""
    return [t.detach().cpu().numpy() for t in tensors]


@known_python(("rpn.proposal_layer", "ProposalLayer"))
class ProposalLayer(_Anchored):
    """Regions from scores and moves of anchors: (1, 2A, H, W), (1, 4A, H, W), (1, 3) -> (R, 5), and scores (R, 1).

    Moves the anchors, cuts them at the image, drops those smaller than RPN_MIN_SIZE, and keeps the best
    RPN_POST_NMS_TOP_N of RPN_PRE_NMS_TOP_N after suppression at RPN_NMS_THRESH. Of equal scores the later anchor goes
    first. Differs: the published sort leaves their order open.
    """

    bottoms, tops = 3, (1, 2)
    chooses_rows = True

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        """With boxes too it is mtnet's in training."""
        return LabelledProposals if len(spec.bottom) == 4 else cls

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        train = self.spec.phase == "TRAIN"
        self.settings = {"RPN_PRE_NMS_TOP_N": 12000 if train else 6000, "RPN_POST_NMS_TOP_N": 2000 if train else 300,
                         "RPN_NMS_THRESH": 0.7, "RPN_MIN_SIZE": 16}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.one_image(bottom[0])
        return [(self.spec.rows, 5), (self.spec.rows, 1)][: self.top_count]

    def typical(self, index: int, bottom: Sequence[Shape], rng: Any) -> Array | None:
        """Scores without equal ones; moves; the image's height, width and scale."""
        if index < 2:
            return rng.normal(0, 0.3, bottom[1]) if index else ranked(bottom[0], rng)
        if index != 2 or count(bottom[2]) != 3:
            return None
        return np.array([*(size * self.stride for size in bottom[0][2:]), 1]).reshape(bottom[2])

    def forward(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Tensor, ...]:
        boxes, score, _ = self.best(scores, moves, info)
        rois = np.hstack([np.zeros((len(boxes), 1), boxes.dtype), boxes])
        tops = torch.from_numpy(rois).to(scores), torch.from_numpy(score[:, None]).to(scores)
        return tops[: self.top_count]

    def best(self, scores: Tensor, moves: Tensor, info: Tensor) -> tuple[Array, Array, Array]:
        """The boxes (R, 4) that stay, best first, their scores (R,), and which anchors they were (R,).

        Raises:
            LayerError: The bottoms are not for these anchors. The published layer finds it here too, so that networks
                whose own module has other anchors load.
        """
        a = len(self.anchors)
        maps = (1, 4 * a, *scores.shape[2:])
        if scores.shape[1] != 2 * a or moves.shape != maps or info.numel() < 3:
            raise self.spec.error(f"needs {2 * a} and {4 * a} channels for {a} anchors, and the image's info (1, 3); "
                                  f"its bottoms are {', '.join(shape_text(b.shape) for b in (scores, moves, info))}")
        score, delta, image = arrays(scores, moves, info)
        h, w = scores.shape[2:]
        height, width, scale = image.reshape(-1)[:3]
        boxes = moved(self.shifted(h, w), delta.transpose(0, 2, 3, 1).reshape(-1, 4))
        score = score[:, a:].transpose(0, 2, 3, 1).reshape(-1)
        boxes = np.clip(boxes, 0, np.array([width - 1, height - 1] * 2, boxes.dtype))
        least = self.settings["RPN_MIN_SIZE"] * scale
        large = np.flatnonzero(((boxes[:, 2:] - boxes[:, :2] + 1) >= least).all(1))
        order = large[score[large].argsort(kind="stable")[::-1]][: self.settings["RPN_PRE_NMS_TOP_N"] or None]
        kept = suppressed(boxes[order], self.settings["RPN_NMS_THRESH"], int(self.settings["RPN_POST_NMS_TOP_N"]))
        places = order[kept]
        return boxes[places], score[places], places


@known_python(("rpn.anchor_target_layer", "AnchorTargetLayer"))
class AnchorTargetLayer(_Anchored):
    """Labels and targets of anchors: scores (1, 2A, H, W), boxes (G, 5), the image (1, 3) -> labels (1, 1, A * H, W),
    targets and two kinds of weights, each (1, 4A, H, W).

    A network whose scores are of other anchors, or whose boxes have other columns, as forks of the module have them,
    loads and does not run.
    Which of too many anchors are left out is drawn from NumPy's generator, as published.
    """

    bottoms, tops = (3, None), 4
    not_exportable = "compares with labels"

    def setup(self, *bottom: Shape) -> None:
        super().setup(*bottom)
        self.border = number(self.spec, parameters(self.spec), "allowed_border", 0)
        self.settings = {"RPN_POSITIVE_OVERLAP": 0.7, "RPN_NEGATIVE_OVERLAP": 0.3, "RPN_CLOBBER_POSITIVES": False,
                         "RPN_FG_FRACTION": 0.5, "RPN_BATCHSIZE": 256, "RPN_BBOX_INSIDE_WEIGHTS": (1.0,) * 4,
                         "RPN_POSITIVE_WEIGHT": -1.0}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.one_image(bottom[0])
        a, (h, w) = bottom[0][1] // 2 or len(self.anchors), bottom[0][2:]
        return [(1, 1, a * h, w), *[(1, 4 * a, h, w)] * 3]

    def forward(self, scores: Tensor, boxes: Tensor, info: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        if scores.shape[1] // 2 not in (0, len(self.anchors)):
            raise self.spec.error(f"has {len(self.anchors)} anchors, but scores of {scores.shape[1] // 2}")
        if boxes.numel() % 5 or info.numel() < 3:
            raise self.spec.error("needs boxes (G, 5) and the image's info (1, 3); they are "
                                  f"{shape_text(boxes.shape)} and {shape_text(info.shape)}")
        truth, image = (x.astype(np.float64) for x in arrays(boxes.reshape(-1, 5), info))
        h, w = scores.shape[2:]
        height, width = image.reshape(-1)[:2]
        every = self.shifted(h, w)
        inside = np.flatnonzero((every[:, :2] >= -self.border).all(1) & (every[:, 2] < width + self.border)
                                & (every[:, 3] < height + self.border))
        anchors = every[inside]
        shared = overlaps(anchors, truth)
        labels = self._labels(shared)
        targets = to_targets(anchors, truth[shared.argmax(1), :4]) if len(anchors) else np.zeros((0, 4))
        within = np.where((labels == 1)[:, None], np.array(self.settings["RPN_BBOX_INSIDE_WEIGHTS"]), 0)
        out = []
        for values, empty in ((labels, -1), (targets, 0), (within, 0), (self._weights(labels), 0)):
            full = np.full((len(every), *values.shape[1:]), empty, np.float32)
            full[inside] = values
            out.append(torch.from_numpy(full.reshape(1, h, w, -1).transpose(0, 3, 1, 2).copy()).to(scores))
        return out[0].reshape(1, 1, -1, w), *out[1:]

    def _labels(self, shared: Array) -> Array:
        s: Any = self.settings
        best = shared.max(1) if len(shared) else np.zeros(0)
        labels = np.full(len(shared), -1.0)
        if not s["RPN_CLOBBER_POSITIVES"]:
            labels[best < s["RPN_NEGATIVE_OVERLAP"]] = 0
        if len(shared):
            labels[np.where(shared == shared.max(0))[0]] = 1
        labels[best >= s["RPN_POSITIVE_OVERLAP"]] = 1
        if s["RPN_CLOBBER_POSITIVES"]:
            labels[best < s["RPN_NEGATIVE_OVERLAP"]] = 0
        _leave_out(labels, 1, int(s["RPN_FG_FRACTION"] * s["RPN_BATCHSIZE"]))
        _leave_out(labels, 0, s["RPN_BATCHSIZE"] - int((labels == 1).sum()))
        return labels

    def _weights(self, labels: Array) -> Array:
        share: Any = self.settings["RPN_POSITIVE_WEIGHT"]
        if share < 0:
            yes = no = 1.0 / max((labels >= 0).sum(), 1)
        else:
            yes, no = share / max((labels == 1).sum(), 1), (1.0 - share) / max((labels == 0).sum(), 1)
        return np.where(labels == 1, yes, np.where(labels == 0, no, 0))[:, None].repeat(4, 1)


def _leave_out(labels: Array, kind: int, most: int) -> None:
    """Set labels of a kind to -1, drawn at random, until at most so many are left."""
    found = np.flatnonzero(labels == kind)
    if len(found) > most:
        labels[np.random.choice(found, size=len(found) - most, replace=False)] = -1


@known_python(("rpn.proposal_target_layer", "ProposalTargetLayer"))
class ProposalTargetLayer(Layer):
    """Regions to learn from: regions (R, 5) and boxes (G, 5) -> BATCH_SIZE regions (., 5), labels (.), and targets and
    two kinds of weights, each (., 4 * num_classes); in py-R-FCN all with four axes.

    With two classes and boxes of more, the targets are those of one kind of object, as R-FCN has it. Which regions
    are taken is drawn from NumPy's generator, as published.
    """

    bottoms, tops = 2, (5, 6)
    works_in_place = False
    not_exportable = "compares with labels"

    @classmethod
    def for_spec(cls, spec: LayerSpec) -> type[Layer]:
        """With the objects' masks it is AffordanceNet's; others have poses or landmarks."""
        if len(spec.bottom) == 5:
            return PoseTargets if len(spec.top) == 8 else MaskTargets
        return LandmarkTargets if len(spec.bottom) == 3 else cls

    def setup(self, *bottom: Shape) -> None:
        self.classes = int(number(self.spec, parameters(self.spec), "num_classes"))
        if not 1 < self.classes <= 100_000:
            raise self.spec.error("num_classes must be above 1")
        self.settings: dict[str, Any] = {
            "BATCH_SIZE": 128, "FG_FRACTION": 0.25, "FG_THRESH": 0.5, "BG_THRESH_HI": 0.5, "BG_THRESH_LO": 0.1,
            "BBOX_INSIDE_WEIGHTS": (1.0,) * 4, "BBOX_NORMALIZE_TARGETS_PRECOMPUTED": False,
            "BBOX_NORMALIZE_MEANS": (0.0,) * 4, "BBOX_NORMALIZE_STDS": (0.1, 0.1, 0.2, 0.2)}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0]) % 5 or count(bottom[1]) % 5:
            raise self.spec.error("needs regions (R, 5) and boxes (G, 5); its bottoms are "
                                  + ", ".join(map(shape_text, bottom)))
        more = (1, 1) if _four_axes(self.spec) else ()
        return [(1, k, *more) for k in (5, 1, *[4 * self.classes] * (self.top_count - 2))]

    def forward(self, rois: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        s = self.settings
        regions, truth = arrays(rois.reshape(-1, 5), boxes.reshape(-1, 5))
        regions = np.vstack([regions, np.hstack([np.zeros((len(truth), 1), truth.dtype), truth[:, :4]])])
        shared = overlaps(regions[:, 1:].astype(np.float64), truth[:, :4].astype(np.float64))
        match, best = shared.argmax(1), shared.max(1)
        wanted = min(int(np.round(s["FG_FRACTION"] * s["BATCH_SIZE"])), int((best >= s["FG_THRESH"]).sum()))
        yes = _draw(np.flatnonzero(best >= s["FG_THRESH"]), wanted)
        no = np.flatnonzero((best < s["BG_THRESH_HI"]) & (best >= s["BG_THRESH_LO"]))
        no = _draw(no, min(s["BATCH_SIZE"] - wanted, len(no)))
        kept = np.append(yes, no)
        labels = truth[match[kept], 4].copy()
        labels[wanted:] = 0
        targets = to_targets(regions[kept, 1:], truth[match[kept], :4])
        if s["BBOX_NORMALIZE_TARGETS_PRECOMPUTED"]:
            targets = (targets - np.array(s["BBOX_NORMALIZE_MEANS"])) / np.array(s["BBOX_NORMALIZE_STDS"])
        wide = np.zeros((len(kept), 4 * self.classes), np.float32)
        within = np.zeros_like(wide)
        for row in np.flatnonzero(labels > 0):
            column = 4 * min(int(labels[row]), self.classes - 1 if self.classes == 2 else int(labels[row]))
            if column + 4 > wide.shape[1]:
                raise self.spec.error(f"a box has class {labels[row]:g}, but num_classes is {self.classes}")
            wide[row, column : column + 4] = targets[row]
            within[row, column : column + 4] = s["BBOX_INSIDE_WEIGHTS"]
        tops = [regions[kept], labels, wide, within, (within > 0).astype(np.float32)]
        axes = 4 if _four_axes(self.spec) else 1
        return tuple(torch.from_numpy(np.ascontiguousarray(top)).to(rois)
                     .view(*top.shape, *[1] * (axes - top.ndim)) for top in tops)


def _four_axes(spec: LayerSpec) -> bool:
    """Whether rows have two more axes, as in py-R-FCN, whose layers ask for them."""
    return "PSROIPooling" in spec.message.descriptor.schema.types


def _draw(found: Array, size: int) -> Array:
    return np.random.choice(found, size=size, replace=False) if len(found) else found


@known_python(("rpn.proposal_layer", "ProposalLayer"), of_bottoms=2)
class TemporalProposalLayer(Layer):
    """R-C3D's spans of time from scores and moves of anchors: (1, 2A, L, 1, 1), (1, 2A, L, 1, 1) -> (R, 3) of video,
    begin and end, and scores (R, 1).

    As rpn.proposal_layer, along one axis; the video's length is L * feat_stride. Of equal scores the later anchor goes
    first. Sources: lib/rpn/{proposal_layer,generate_anchors}.py, lib/tdcnn/{twin_transform,config}.py of
    VisionLearningGroup/R-C3D@78da577.
    """

    params = ("python_param",)
    bottoms, tops = 2, (1, 2)
    works_in_place = False
    chooses_rows = True

    def setup(self, *bottom: Shape) -> None:
        values = parameters(self.spec)
        self.stride = number(self.spec, values, "feat_stride")
        scales = values.get("scales", tuple(range(1, 64)))
        if not isinstance(scales, list | tuple) or not all(isinstance(v, int | float) and v > 0 for v in scales):
            raise self.spec.error("its param_str needs scales as a list of numbers above 0")
        half = 0.5 * (8 * np.array(scales, dtype=np.float64) - 1)
        self.anchors = np.stack([3.5 - half, 3.5 + half], 1)
        train = self.spec.phase == "TRAIN"
        self.settings = {"RPN_PRE_NMS_TOP_N": 12000 if train else 6000, "RPN_POST_NMS_TOP_N": 2000 if train else 300,
                         "RPN_NMS_THRESH": 0.7, "RPN_MIN_SIZE": 8}

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        channels = 2 * len(self.anchors)
        if bottom[0] != bottom[1] or len(bottom[0]) != 5 or (*bottom[0][:2], *bottom[0][3:]) != (1, channels, 1, 1):
            raise self.spec.error(f"needs scores and moves (1, {channels}, L, 1, 1) of {len(self.anchors)} anchors; "
                                  f"its bottoms are {shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [(self.spec.rows, 3), (self.spec.rows, 1)][: self.top_count]

    def forward(self, scores: Tensor, moves: Tensor) -> tuple[Tensor, ...]:
        score, delta = arrays(scores, moves)
        anchors = self.shifted(score.shape[2])
        delta = delta[0, :, :, 0, 0].T.reshape(-1, 2)
        score = score[0, len(self.anchors) :, :, 0, 0].T.reshape(-1)
        one, half = delta.dtype.type(1), delta.dtype.type(0.5)
        anchors = anchors.astype(delta.dtype)
        size = anchors[:, 1] - anchors[:, 0] + one
        middle, extent = delta[:, 0] * size + (anchors[:, 0] + half * size), np.exp(delta[:, 1]) * size
        spans = np.stack([middle - half * extent, middle + half * extent], 1)
        spans = np.clip(spans, 0, delta.dtype.type(scores.shape[2] * self.stride - 1))
        long = np.flatnonzero(spans[:, 1] - spans[:, 0] + 1 >= self.settings["RPN_MIN_SIZE"])
        order = long[score[long].argsort(kind="stable")[::-1]][: self.settings["RPN_PRE_NMS_TOP_N"] or None]
        kept = order[self._apart(spans[order])]
        rows = np.hstack([np.zeros((len(kept), 1), spans.dtype), spans[kept]])
        return (torch.from_numpy(rows).to(scores), torch.from_numpy(score[kept, None]).to(scores))[: self.top_count]

    def shifted(self, length: int) -> Array:
        """The anchors of every moment, (length * A, 2)."""
        return (self.anchors[None] + np.arange(length)[:, None, None] * self.stride).reshape(-1, 2)

    def _apart(self, spans: Array) -> list[int]:
        """The spans, best first, that no better one overlaps by more than RPN_NMS_THRESH."""
        size = spans[:, 1] - spans[:, 0] + 1

        def too_close(i: int, others: Array) -> Array:
            common = np.maximum(np.minimum(spans[i, 1], spans[others, 1]) - np.maximum(spans[i, 0], spans[others, 0])
                                + 1, 0)
            return common / (size[i] + size[others] - common) > self.settings["RPN_NMS_THRESH"]

        return first_apart(len(spans), too_close, int(self.settings["RPN_POST_NMS_TOP_N"]))


CONTEXTS = 10  # regions around one, in R*CNN's published networks


@known_python(("roi_data_layer.layer", "RoIDataLayer"), ("roi_data_da_layer.layer", "RoIDataDALayer"),
              ("attr_roi_data_layer.layer", "AttributesRoIDataLayer"))
class RoIDataLayer(FedLayer):
    """Images (n, 3, 600, 1000), fed; with a top im_info also that (1, 3) and boxes (1, 5), else regions (1, 5),
    labels (1) and perhaps targets and weights, (1, 4 * num_classes); each with two more axes in R-FCN. R*CNN's second
    regions are (10, 5). Further tops, which forks of the module have, are (1); domain adaptation's, which say whether
    and how a domain counts, (1, 1).

    With R-FCN's setting AGNOSTIC, which is not in the prototxt, targets and weights have 8 columns: so they have here
    if the network compares them with 8 values for each region.
    """

    guesses = True
    compared_with = 0  # channels of what the network compares the targets with; 0 if it does not say

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        if len(self.spec.top) > 3:
            self.compared_with = channels_beside(self.spec.top[3], specs)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes = int(number(self.spec, parameters(self.spec), "num_classes", 21))
        columns = 8 if self.compared_with == 8 else 4 * classes
        with_rpn = "im_info" in self.spec.top
        rest: list[Shape] = [(1, 5), (1,), *[(1, columns)] * 3]
        if with_rpn:
            rest = [(1, 3), (1, 5)]
        elif _four_axes(self.spec):
            rest = [(1, k, 1, 1) for k in (5, 1, *[columns] * 3)]
        if "secondary_rois" in self.spec.top:
            rest.insert(1, (CONTEXTS, 5))
        shapes = [(1 if with_rpn else 2, 3, 600, 1000), *rest]
        further: Shape = (1, 1) if self.spec.get("python_param").layer == "RoIDataDALayer" else (1,)
        return [*shapes, *[further] * (self.top_count - len(shapes))][: self.top_count]


SEGMENTED = (
    ("voc_layers", "VOCSegDataLayer"), ("voc_layers", "SBDDSegDataLayer"), ("nyud_layers", "NYUDSegDataLayer"),
    ("siftflow_layers", "SIFTFlowSegDataLayer"), ("pascalcontext_layers", "PASCALContextSegDataLayer"),
    ("osvos_layer", "OSVOSDataLayer"), ("train_val", "TRAINSegDataLayer"), ("train_val", "VALSegDataLayer"))


@known_python(*SEGMENTED)
class SegDataLayer(FedLayer):
    """FCN's images and label maps of one size, fed: (1, 3, 500, 500) each, depth and labels with one channel.

    Sources: *_layers.py of shelhamer/fcn.berkeleyvision.org@1305c73.
    """

    guesses = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        named = parameters(self.spec).get("tops")
        names = named if isinstance(named, list) and len(named) == self.top_count else self.spec.top
        channels = {"color": 3, "hha": 3, "data": 3, "data_o": 3}
        return [(1, channels.get(str(name), 3 if i == 0 and name not in ("depth", "label") else 1), 500, 500)
                for i, name in enumerate(names)]
