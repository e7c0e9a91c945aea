"""Losses of published forks that have shapes, and refuse to run.

Sources: multichannel_{reweighted_,}sigmoid_cross_entropy_loss_layer.cpp of Chrisding/seal@3f40b21;
{jsd,rsjsd}_loss_layer.cpp of BestiVictory/CJS-CNN@87735ca.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape, count, shape_text
from .registry import register
from .uncomputed import UncomputedLoss


class _PlacesWithBits(UncomputedLoss):
    """Scores (N, K, H, W) and labels whose bits are the classes of a place, (N, B, H, W)."""

    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        (_, classes, h, w), (_, words, *size) = map(self.nchw, bottom)
        if count(tuple(size)) != h * w or not self.has_bits(classes, words):
            raise self.spec.error("needs a label of bits for each place and class; its bottoms are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return super().reshape(*bottom)

    def has_bits(self, classes: int, words: int) -> bool:
        """Whether so many words have a bit for each class."""
        raise NotImplementedError


@register("MultiChannelSigmoidCrossEntropyLoss", form="")
class MultiChannelSigmoidCrossEntropyLoss(_PlacesWithBits):
    """Sigmoid cross entropy of up to 31 classes of a place, which are the bits of one number."""

    def has_bits(self, classes: int, words: int) -> bool:
        return classes <= 31 and words == 1


@register("MultiChannelReweightedSigmoidCrossEntropyLoss", form="")
class MultiChannelReweightedSigmoidCrossEntropyLoss(_PlacesWithBits):
    """The same, in which edges and other places weigh the same, with 32 classes in each number."""

    def has_bits(self, classes: int, words: int) -> bool:
        return classes < 32 * words


class _Divergence(UncomputedLoss):
    """Two distributions of each row."""

    bottoms = 2
    tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if count(bottom[0][1:]) != count(bottom[1][1:]):
            raise self.spec.error("needs as many values of a row in both bottoms; they are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return super().reshape(*bottom)


@register("JSDLoss", form="")
class JSDLoss(_Divergence):
    """Jensen and Shannon's divergence."""


@register("RSJSDLoss", form="")
class RSJSDLoss(_Divergence):
    """The same of cumulative distributions, weighted by their kurtosis."""
