"""Python layers of detectors' training that have shapes, and refuse to run: which regions and anchors are learnt from.

A network with such a layer loads, is shown and drawn. With allow_python, the module itself runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .base import MAX_COUNT, Shape, shape_text
from .known_python import known_python, parameters
from .uncomputed_python import UncomputedPython


class _AnchorTargets(UncomputedPython):
    """Base: labels (1, 1, A * H, W) of anchors, and targets and two kinds of weights (1, 4A, H, W)."""

    bottoms = (3, None)

    def listed(self, name: str, default: Sequence[float]) -> Sequence[float]:
        """A list of numbers from param_str. Raises LayerError if it is none."""
        values = parameters(self.spec).get(name, default)
        if not isinstance(values, list | tuple) or not values:
            raise self.spec.error(f"its param_str needs '{name}': a list of numbers")
        return values

    def of_map(self, shape: Shape, anchors: int) -> list[Shape]:
        """The four tops for a map (1, ., H, W)."""
        if len(shape) != 4:
            raise self.spec.error(f"needs a map (1, C, H, W), not {shape_text(shape)}")
        h, w = shape[2:]
        return [(1, 1, anchors * h, w), *[(1, 4 * anchors, h, w)] * 3]


@known_python(("SSH.layers.anchor_target_layer", "AnchorTargetLayer"))
class SshAnchorTargets(_AnchorTargets):
    """SSH's anchors; a fifth bottom, probabilities, tells which are hard. Source: SSH/layers/anchor_target_layer.py of
    mahyarnajibi/SSH@9389c2b."""

    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        anchors = len(self.listed("scales", (8, 16, 32))) * len(self.listed("ratios", (0.5, 1, 2)))
        return self.of_map(bottom[0], anchors)


@known_python(("lib.layers.multi_layer_anchor_layer", "MultiLayerAnchorLayer"))
class MultiLayerAnchors(_AnchorTargets):
    """smallhardface's anchors, those of several maps at once: a map for each different number in `source`, then boxes,
    the image, its pixels and its number -> four tops for each map. Source: lib/layers/multi_layer_anchor_layer.py of
    bairdzhang/smallhardface@76fa1d8."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        source, ratios = self.listed("source", ()), self.listed("ratios", (0.5, 1, 2))
        maps = sorted({*source})
        if len(bottom) != len(maps) + 4:
            raise self.spec.error(f"needs {len(maps) + 4} bottoms, {len(maps)} maps and 4 more; it has {len(bottom)}")
        each = len(ratios) * len(self.listed("shifts", (0,))) ** 2
        return self.take([top for i, number in enumerate(maps)
                          for top in self.of_map(bottom[i], each * source.count(number))])


@known_python(("rpn.label_target_layer", "LabelTargetLayer"))
class LabelTargets(UncomputedPython):
    """Labels of regions (R,), perhaps with labels of boxes and each region's box -> labels (1,), as many as regions
    when it runs. Source: lib/rpn/label_target_layer.py of nnop/mtnet@cf53a9e."""

    bottoms = (1, 3)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,)]


@known_python(("rpn.box_target_layer", "BoxTargetLayer"))
class BoxTargets(UncomputedPython):
    """Labels of regions, each region's box, regions and boxes -> targets and two kinds of weights, (1, 4), as many rows
    as regions when it runs. Source: lib/rpn/box_target_layer.py of nnop/mtnet@cf53a9e."""

    bottoms, tops = 4, 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 4)] * 3


class LabelledProposals(UncomputedPython):
    """mtnet's rpn.proposal_layer in training, which has boxes as its fourth bottom: regions (1, 5), and for each its
    label and its box, (1,). Source: lib/rpn/proposal_layer.py of nnop/mtnet@cf53a9e."""

    bottoms, tops = 4, 3

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 5), (1,), (1,)]


@known_python(("rpn.proposal_fg_disHW_target_layer", "ProposalFgDisHWTargetLayer"))
class CurveTargets(UncomputedPython):
    """Curved text's regions (1, 5, 1, 1), labels, targets and weights of boxes, those of the curve's heights and
    widths, 16 for each class but the first, and the regions with text. Source:
    lib/rpn/proposal_fg_disHW_target_layer.py of Yuliang-Liu/Curve-Text-Detector@b5dd9b8."""

    bottoms, tops = 3, 10

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        classes = self.parameter("num_classes", 2)
        columns = [5, 1, *[4 * classes] * 3, *[16 * (classes - 1)] * 4, 5]
        return [(1, k, 1, 1) for k in columns]


class MaskTargets(UncomputedPython):
    """AffordanceNet's rpn.proposal_target_layer, which has objects' masks too: regions (1, 5), labels (1, 1), targets
    and two kinds of weights (1, 4 * num_classes), masks (1, 244, 244), the regions that have one (1, 5), and three
    times attributes (1, 7). Sources: lib/rpn/proposal_target_layer.py and lib/fast_rcnn/config.py of
    nqanh/affordance-net@8db1b3f and ivalab/affordanceNet_Context@2c58ecf."""

    bottoms, tops = 5, (5, 10)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        targets = (1, 4 * self.parameter("num_classes", 2))
        return self.take([(1, 5), (1, 1), targets, targets, targets, (1, 244, 244), (1, 5), *[(1, 7)] * 3])


class PoseTargets(UncomputedPython):
    """The same with poses of objects: regions (1, 5), labels (1, 1), targets and two kinds of weights
    (1, 4 * num_classes), and azimuths, elevations and tilts (1,). Source: lib/rpn/proposal_target_layer.py of
    gramuah/pose-estimation-study@e1051df."""

    bottoms, tops = 5, 8

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        targets = (1, 4 * self.parameter("num_classes", 2))
        return [(1, 5), (1, 1), targets, targets, targets, (1,), (1,), (1,)]


class LandmarkTargets(UncomputedPython):
    """The same with landmarks: regions (1, 5, 1, 1), labels (1, 1, 1, 1), targets and two kinds of weights
    (1, 4 * num_classes, 1, 1), and landmarks (1, 6, 1, 1). Source: lib/rpn/proposal_target_layer.py of
    huangdl007/pedestrian@7233b54."""

    bottoms, tops = 3, 6

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, k, 1, 1) for k in (5, 1, *[4 * self.parameter("num_classes", 2)] * 3, 6)]


@known_python(("rpn.pose_label_generator", "ContinuousPoseLabelGenerator"))
class ContinuousPoses(UncomputedPython):
    """Labels, and azimuths, elevations and tilts of objects -> targets of the three and weights, each
    (1, 2 * num_classes). Source: lib/rpn/pose_label_generator.py of gramuah/pose-estimation-study@e1051df."""

    bottoms, tops = 4, 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 2 * self.parameter("num_classes", 2))] * 4


@known_python(("rpn.pred_to_proposal_layer", "PredToProposalLayer"))
class MaskRegions(UncomputedPython):
    """AffordanceNet's objects after the first stage: regions for masks (1, 5), scores and classes (1, 1), and regions
    (1, 5); as many rows as objects when it runs. Source: lib/rpn/pred_to_proposal_layer.py of
    nqanh/affordance-net@8db1b3f."""

    bottoms, tops = 4, 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 5), (1, 1), (1, 1), (1, 5)]


@known_python(("data.boxSelectionLayerMP", "BoxSelectionLayer"))
class WindowTargets(UncomputedPython):
    """AttentionMask's targets of windows: labels (1,), masks (1, 40, 40), attention (1, 10, 10), and two filters (1,);
    as many rows as windows when it runs. Sources: python_layers/data/boxSelectionLayerMP.py and config.py of
    chwilms/AttentionMask@2e31e2a."""

    bottoms, tops = 1, 5

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,), (1, 40, 40), (1, 10, 10), (1,), (1,)]


# --- taokong/RON@c62d0ed: lib/ron_layer ----------------------------------------------------------------------

RON_ANCHORS = 10  # of two scales and five ratios, at each place
_RON_CLASSES = re.compile(r"""'stride_scale_numcls'\s*:\s*["']?\s*[0-9]+\s*,\s*[0-9]+\s*,\s*([0-9]{1,9})\b""")


class _RonLayer(UncomputedPython):
    """Base: the first bottom is the scores of anchors (N, 20, H, W)."""

    bottoms = (3, None)

    def places(self, bottom: Shape) -> tuple[int, int, int]:
        """N, H and W. Raises LayerError if the bottom has other channels."""
        n, c, h, w = self.nchw(bottom)
        if c != 2 * RON_ANCHORS:
            raise self.spec.error(f"needs two scores of {RON_ANCHORS} anchors at each place; its bottom is "
                                  f"{shape_text(bottom)}")
        return n, h, w


@known_python(("ron_layer.anchor_target_layer", "AnchorTargetLayer"))
class RonAnchorTargets(_RonLayer):
    """Scores, boxes and the images' sizes -> labels (N, 1, 10 H, W), targets and two kinds of weights (N, 40, H, W)."""

    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, h, w = self.places(bottom[0])
        return [(n, 1, RON_ANCHORS * h, w), *[(n, 4 * RON_ANCHORS, h, w)] * 3]


@known_python(("ron_layer.det_target_layer", "DetTargetLayer"))
class RonTargets(_RonLayer):
    """Probabilities, boxes and the images' sizes -> the classes of the anchors (N, 1, 10 H, W)."""

    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, h, w = self.places(bottom[0])
        return [(n, 1, RON_ANCHORS * h, w)]


@known_python(("ron_layer.det_layer", "DetLayer"))
class RonRegions(_RonLayer):
    """Probabilities of objects and of classes, and moves of the anchors -> their boxes (N, 10 H W, 4), and scores
    (N, 10 H W, classes). The third number of stride_scale_numcls is that of the classes."""

    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n, h, w = self.places(bottom[0])
        given = _RON_CLASSES.search(self.spec.get("python_param").param_str)
        if not given or not 0 < int(given[1]) <= MAX_COUNT:
            raise self.spec.error("its param_str needs 'stride_scale_numcls': three whole numbers with commas, "
                                  "the last above 0")
        return [(n, RON_ANCHORS * h * w, 4), (n, RON_ANCHORS * h * w, int(given[1]))]
