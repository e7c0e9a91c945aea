"""The Python layers by which networks learn to segment from labels of whole images: SEC's, and those that DSRG adds.

Sources: pylayers/pylayers/pylayers.py of akolesnikoff/SEC@c784190 and speedinghzl/DSRG@91efdf7. The losses' gradients
do not depend on the top's diff.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rmpe_legacy.caffe.spec import LayerSpec

from .base import Layer, Shape, shape_text
from .known_python import known_python
from .loss import given
from .pyloss import PyLoss

VOC_CLASSES = 21
SEC_MAP = 41  # height and width of the maps that SEC learns from
LEAST = 0.0001  # min_prob
FALL, BACKGROUND_FALL = 0.996, 0.999  # of the weights of ExpandLossLayer, from one place to the next


@known_python(("pylayers", "SoftmaxLayer"))
class PySoftmax(Layer):
    """Probabilities of at least about 0.0001, over the channels: (N, C, H, W) -> (N, C, H, W)."""

    params = ("python_param",)
    works_in_place = False
    range01 = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4:
            raise self.spec.error(f"takes scores (N, C, H, W), not {shape_text(bottom[0])}")
        return [bottom[0]]

    def forward(self, x: Tensor) -> Tensor:
        y = x.softmax(1) + LEAST
        return y / y.sum(1, keepdim=True)


class _WeakLoss(PyLoss):
    """Base: probabilities (N, C, H, W) and what they are compared with -> (1,)."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0] != bottom[1]:
            raise self.spec.error("needs two bottoms (N, C, H, W) of the same shape; they are "
                                  + " and ".join(map(shape_text, bottom)))
        return [(1,)]


@known_python(("pylayers", "SeedLossLayer"))
class PySeedLoss(_WeakLoss):
    """The mean negative logarithm of the probabilities where an image has cues. The cues get no gradient."""

    def forward(self, p: Tensor, cues: Tensor) -> Tensor:
        loss, slope = _missed(p.detach(), cues.detach())
        return given(loss.view(1), lambda: (slope, None), p, cues, weighted=False)


@known_python(("pylayers", "BalancedSeedLossLayer"))
class PyBalancedSeedLoss(_WeakLoss):
    """The same for the background, channel 0, and for all other classes, added up."""

    def forward(self, p: Tensor, cues: Tensor) -> Tensor:
        parts = [_missed(p.detach()[:, part], cues.detach()[:, part], LEAST) for part in (slice(0, 1), slice(1, None))]
        slope = torch.cat([slope for _, slope in parts], 1)
        return given((parts[0][0] + parts[1][0]).view(1), lambda: (slope, None), p, cues, weighted=False)


def _missed(p: Tensor, cues: Tensor, least: float = 0) -> tuple[Tensor, Tensor]:
    """The mean over images of the negative logarithm of p at the cues (at least so many), and its gradient."""
    share = cues / cues.sum((1, 2, 3), keepdim=True).clamp(min=least) / len(cues)
    return -(share * p.log()).sum(), -share / p


@known_python(("pylayers", "ConstrainLossLayer"))
class PyConstrainLoss(_WeakLoss):
    """How far probabilities are from those of a random field, given as logarithms: Kullback and Leibler's divergence,
    the mean over all places. Both bottoms get a gradient.

    In a network with layers that only DSRG has, the ratios of the probabilities are limited to 0.05 to 20, as there.
    """

    is_limited = False

    def foresee(self, specs: Sequence[LayerSpec]) -> None:
        layers = {spec.get("python_param").layer for spec in specs if spec.type == "Python"}
        self.is_limited = bool(layers & {"DSRGLayer", "BalancedSeedLossLayer"})

    def forward(self, p: Tensor, smooth: Tensor) -> Tensor:
        q, places = smooth.detach().exp(), p.numel() // p.shape[1]
        ratio = q / p.detach()
        inside = torch.ones_like(ratio)
        if self.is_limited:
            inside = ((ratio >= 0.05) & (ratio <= 20)).to(p.dtype)
            ratio = ratio.clamp(0.05, 20)
        log = ratio.log()
        slopes = -inside * q / p.detach() / places, q * (log + inside) / places
        return given(((q * log).sum() / places).view(1), lambda: slopes, p, smooth, weighted=False)


@known_python(("pylayers", "ExpandLossLayer"))
class PyExpandLoss(_WeakLoss):
    """Whether the classes of an image are found in it, and no others: probabilities (N, 21, 41, 41) and labels
    (N, 1, 1, 21) -> (1,).

    A class that the image has, and the background, is judged by a mean in which each next smaller probability counts
    less; one that it does not have, by its largest. Of equal probabilities the first place is the smaller (Differs: the
    published sort leaves this open). The labels get no gradient.
    """

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom[0]) != 4 or bottom[0][1:] != (VOC_CLASSES, SEC_MAP, SEC_MAP) or (
                bottom[1] != (bottom[0][0], 1, 1, VOC_CLASSES)):
            raise self.spec.error("needs probabilities (N, 21, 41, 41) and labels (N, 1, 1, 21); its bottoms are "
                                  + " and ".join(map(shape_text, bottom)))
        return [(1,)]

    def forward(self, p: Tensor, labels: Tensor) -> Tensor:
        n, flat = len(p), p.detach().reshape(len(p), VOC_CLASSES, -1).double()
        places = torch.arange(flat.shape[2] - 1, -1, -1, dtype=flat.dtype, device=flat.device)
        fall = flat.new_tensor([BACKGROUND_FALL] + [FALL] * (VOC_CLASSES - 1)).unsqueeze(1)
        weights = fall**places / (fall**places).sum(1, keepdim=True)
        ordered, order = flat.sort(dim=2, stable=True)
        mean, largest = (ordered * weights).sum(2), flat[:, 1:].amax(2)
        has = (labels.detach()[:, 0, 0, 1:] > 0.5).double()
        present, absent = (mask / mask.sum(1, keepdim=True) / n for mask in (has, 1 - has))
        counts = torch.cat([torch.full_like(mean[:, :1], 1 / n), present], 1)
        loss = -(counts * mean.log()).sum() - (absent * (1 - largest).log()).sum()
        slope = torch.zeros_like(flat).scatter_(2, order, -(counts / mean).unsqueeze(2) * weights)
        of_largest = (absent / (1 - largest)).unsqueeze(2)
        slope[:, 1:] += of_largest * (flat[:, 1:] == largest.unsqueeze(2))
        slope = slope.view(p.shape).to(p.dtype)
        return given(loss.to(p.dtype).view(1), lambda: (slope, None), p, labels, weighted=False)
