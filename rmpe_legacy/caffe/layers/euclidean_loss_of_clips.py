"""EuclideanLoss of clips. Source: C3D-v1.0/src/caffe/layers/euclidean_loss_layer.cpp of facebookarchive/C3D@71336a2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Shape, shape_text
from .loss import EuclideanLoss, given
from .registry import Choice, chooses, register


@register("EuclideanLoss", form="c3d")
class ClipEuclideanLoss(EuclideanLoss):
    """Half the mean over clips of the bottoms' squared distance: (N, C, L, H, W) and its like -> a scalar. Only the
    first bottom gets a gradient."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if not bottom[0] or bottom[0] != bottom[1]:
            raise self.spec.error("needs two bottoms of the same size, not " + " and ".join(map(shape_text, bottom)))
        return [()]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        apart, n = a.detach() - b.detach(), len(a)
        return given((apart * apart).sum() / n / 2, lambda: (apart / n, None), a, b)


@chooses("EuclideanLoss")
def _choose(spec: LayerSpec) -> Choice:
    """The bases' also takes four axes, and gives both bottoms a gradient."""
    return Choice("", ("c3d",))
