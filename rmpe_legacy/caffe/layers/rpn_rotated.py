"""Proposals and targets of rotated regions, which have shapes and refuse to run. Source: lib/rotation of
mjq11302010044/RRPN@ae64282."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape
from .known_python import known_python
from .uncomputed_python import UncomputedPython

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
