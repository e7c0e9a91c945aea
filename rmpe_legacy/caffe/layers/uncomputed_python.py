"""Python layers of published training networks that have shapes, and refuse to run.

A network with such a layer loads, is shown and drawn. With allow_python, the module itself runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape
from .fed import COLORS, FedLayer
from .known_python import known_python, number, parameters
from .uncomputed import Uncomputed
from .weak_segmentation import SEC_MAP, VOC_CLASSES

MNC_MASK = 21  # height and width of a mask of network cascades
MNC_INPUT_MASK = 14


class _Python(Uncomputed):
    """Base: as `shapes` says."""

    params = ("python_param",)
    reason = ("its shape is known, its numbers are not computed here; run its module with allow_python=True "
              "(--allow-python), or remove the layer")

    def parameter(self, name: str, default: float) -> int:
        """A whole number from param_str."""
        return int(number(self.spec, parameters(self.spec), name, default))

    def take(self, shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes of the tops that there are. Raises LayerError if there are more."""
        if len(shapes) < self.top_count:
            raise self.spec.error(f"gives {len(shapes)} tops, but is given {self.top_count}")
        return shapes[: self.top_count]


class _SameShape(_Python):
    """Base: the top has the shape of a bottom."""

    like = 0
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[self.like]]


# --- weakly supervised segmentation: pylayers.py of akolesnikoff/SEC@c784190, speedinghzl/DSRG@91efdf7 -------


@known_python(("pylayers", "AnnotationLayer"))
class PyAnnotation(_Python):
    """Numbers of images, and of DSRG the images too -> labels (N, 1, 1, 21), cues (N, 21, 41, 41), and the images."""

    bottoms = (1, 2)
    tops = (2, 3)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        n = self.nchw(bottom[0])[0]
        return self.take([(n, 1, 1, VOC_CLASSES), (n, VOC_CLASSES, SEC_MAP, SEC_MAP), *bottom[1:]])


@known_python(("pylayers", "CRFLayer"))
class PyDenseCrf(_SameShape):
    """Scores and images -> logarithms of probabilities, by a dense random field."""

    bottoms = 2


@known_python(("pylayers", "DSRGLayer"))
class PySeededRegions(_SameShape):
    """Labels, probabilities, cues and images -> cues that have grown."""

    bottoms = (3, 4)
    like = 1


# --- detection ---------------------------------------------------------------------------------------------------


@known_python(("roi_data_layer.layer", "OHEMDataLayer"))
class PyHardRegions(_Python):
    """Regions, their losses, labels and targets -> the hardest regions, labels and targets. Source:
    lib/roi_data_layer/layer.py of abhi2610/ohem@1f07dd0."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns = 4 * self.parameter("num_classes", VOC_CLASSES)
        return self.take([(1, 5), (1,), *[(1, columns)] * 3])


@known_python(("oicr_layer.layer", "OICRLayer"))
class PyOicr(_Python):
    """Regions, scores and labels -> a label and a weight for each region. Source: lib/oicr_layer/layer.py of
    ppengtang/oicr@cd136fa."""

    bottoms = 3
    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1,), (1,)]


@known_python(("layers.text_proposal_layer", "ProposalLayer"))
class PyTextProposal(_Python):
    """Text proposals (R, 4) and their scores. Source: src/layers/text_proposal_layer.py of
    tianzhi0549/CTPN@f77ec9e."""

    bottoms = 3
    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 4), (1, 1, 1, 1)]


@known_python(("CombineRegressions", "CombineRegressionsLayer"), ("CombineRegressionsHuman", "CombineRegressionsLayer"))
class PyCombineRegressions(_Python):
    """Classes and regressions of two coordinates -> the coordinates. Source: CombineRegressions.py of
    ralpguler/DenseReg@d28c89e."""

    tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0]] * 2


@known_python(("caffe.custom_layers.actions_detection_output_layer", "ActionsDetectionOutputLayer"))
class PyActions(_Python):
    """Detections and the scores of actions of each anchor -> detections with actions, (1, 1, K, 8). Source:
    caffe/python/caffe/custom_layers/actions_detection_output_layer.py of opencv/training_toolbox_caffe@789ff8d."""

    bottoms = (2, None)
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, 1, 1, 8)]


# --- multi-task network cascades: lib/pylayer of daijifeng001/MNC@e6be483 ----------------------------------------


@known_python(("pylayer.proposal_layer", "ProposalLayer"))
class PyMncProposal(_Python):
    """Regions (R, 5), and in TRAIN perhaps their indices."""

    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.take([(1, 5), (1, 1)])


@known_python(("pylayer.mask_layer", "MaskLayer"))
class PyMncMask(_Python):
    """Scores of masks -> masks (R, 1, 21, 21), and perhaps labels of theirs."""

    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.take([(1, 1, MNC_MASK, MNC_MASK), (1, 1)])


@known_python(("pylayer.stage_bridge_layer", "StageBridgeLayer"))
class PyMncStageBridge(_Python):
    """Regions of the next stage, and in TRAIN labels, masks and targets of theirs."""

    tops = (1, 8)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns, mask = 4 * self.parameter("num_classes", VOC_CLASSES), (1, 1, MNC_MASK, MNC_MASK)
        return self.take([(1, 5), (1, 1), mask, mask, (1, 4), *[(1, columns)] * 3])


@known_python(("pylayer.proposal_target_layer", "ProposalTargetLayer"))
class PyMncProposalTarget(_Python):
    """Regions with labels and targets, and perhaps masks, weights of masks and what they are of."""

    tops = (5, 10)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        columns, mask = 4 * self.parameter("num_classes", VOC_CLASSES), (1, 1, MNC_MASK, MNC_MASK)
        return self.take([(1, 5), (1, 1), *[(1, columns)] * 3, mask, mask, *[(1, 4)] * 3])


@known_python(("pylayer.anchor_target_layer", "AnchorTargetLayer"))
class PyMncAnchorTarget(_Python):
    """Labels, targets and weights of anchors on a map (1, 2 A, H, W)."""

    tops = (1, 4)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _, scores, h, w = self.nchw(bottom[0])
        anchors = scores // 2
        return self.take([(1, 1, anchors * h, w), *[(1, 4 * anchors, h, w)] * 3])


class _MncData(FedLayer):
    """Base of the data layers of network cascades."""

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
        return [(1, 3), (1, 4), (1, MNC_MASK, MNC_MASK), (1, 3)]


@known_python(("pylayer.cfm_data_layer", "CFMDataLayer"))
class PyCfmData(_MncData):
    """Images (1, 3, 600, 1000) with regions, masks, labels, targets and weights, fed."""

    def after(self, columns: int) -> Sequence[Shape]:
        mask = (1, 1, MNC_MASK, MNC_MASK)
        return [(1, 5), (1, 1, MNC_INPUT_MASK, MNC_INPUT_MASK), (1, 1), (1, 1), (1, columns), mask, (1, columns),
                (1, columns), mask]
