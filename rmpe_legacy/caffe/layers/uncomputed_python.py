"""Python layers of published training networks that have shapes, and refuse to run.

A network with such a layer loads, is shown and drawn. With allow_python, the module itself runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape
from .known_python import known_python, number, parameters
from .uncomputed import Uncomputed
from .weak_segmentation import SEC_MAP, VOC_CLASSES


class UncomputedPython(Uncomputed):
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


class _SameShape(UncomputedPython):
    """Base: the top has the shape of a bottom."""

    like = 0
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[self.like]]


# --- weakly supervised segmentation: pylayers.py of akolesnikoff/SEC@c784190, speedinghzl/DSRG@91efdf7 -------


@known_python(("pylayers", "AnnotationLayer"))
class PyAnnotation(UncomputedPython):
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


# --- rotated regions: lib/rotation of mjq11302010044/RRPN@ae64282 ----------------------------------------------

ROTATED = 5  # values of a rotated box


@known_python(("rotation.rproposal_layer", "ProposalLayer"))
class RotatedProposals(UncomputedPython):
    """Scores, moves and the image's size -> regions (R, 6), and their scores."""

    bottoms = (3, None)
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return self.take([(1, ROTATED + 1), (1, 1, 1, 1, 1)])


@known_python(("rotation.anchor_target_layer", "AnchorTargetLayer"))
class RotatedAnchorTargets(UncomputedPython):
    """Scores (1, 2 A, H, W), boxes, the image's size and the image -> labels, targets and weights of the anchors."""

    bottoms = (3, None)
    tops = 4

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        _, c, h, w = self.nchw(bottom[0])
        return [(1, 1, c // 2 * h, w), *[(1, c // 2 * ROTATED, h, w)] * 3]


@known_python(("rotation.rproposal_target_layer", "ProposalTargetLayer"))
class RotatedProposalTargets(UncomputedPython):
    """Regions and boxes -> regions (R, 6), labels, targets and weights."""

    bottoms = (2, None)
    tops = 5

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(1, ROTATED + 1), (1, 1), *[(1, self.parameter("num_classes", 2) * ROTATED)] * 3]
