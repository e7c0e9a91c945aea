"""AttentionMask's choice of windows. They have shapes, those that Caffe's set-up gives, before any value is known.

Sources: sliding_window_index_layer.cu, top_k_old_layer.cu, argmax_layer_all.cpp and others of
chwilms/AttentionMask@2e31e2a.
"""

from __future__ import annotations

from collections.abc import Sequence

from .base import Shape, shape_text
from .registry import register
from .uncomputed import Uncomputed

LEAST = 1000  # places that ArgMaxAll returns at least


@register("CheckAtt", form="")
class CheckAtt(Uncomputed):
    """Two blobs of one shape -> the same; where the first is nowhere larger, its first value is made to be."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != bottom[1]:
            raise self.spec.error("needs two bottoms of one shape; they are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return bottom


@register("ArgMaxAll", form="")
class ArgMaxAll(Uncomputed):
    """Scores for and against -> the numbers of the places that have more for, at least 1000 of the largest."""

    params = ("argmax_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("argmax_param")
        if param.has("axis"):
            along = self.axis(param.axis, len(bottom[0]))
            return [(*bottom[0][:along], LEAST, *bottom[0][along + 1 :])]
        return [(bottom[0][0], 2 if param.out_max_val else 1, LEAST)]


@register("ConvertIndices", form="")
class ConvertIndices(Uncomputed):
    """Numbers of places (1, 1, 1, K) and scores (1, 1, 1, P) -> flags (1, 1, 1, P), and the scores there (K, 1, 1, 1).
    """

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if any(len(shape) != 4 or shape[:3] != (1, 1, 1) for shape in bottom):
            raise self.spec.error("needs bottoms (1, 1, 1, ...); they are "
                                  f"{shape_text(bottom[0])} and {shape_text(bottom[1])}")
        return [bottom[1], (bottom[0][3], 1, 1, 1)]


@register("FlagsToIndices", form="")
class FlagsToIndices(Uncomputed):
    """Flags (1, 1, 1, P) -> the numbers of those set, (K, 1, 1, 1)."""

    bottoms = tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(0, 1, 1, 1)]


@register("SplitIndices", form="")
class SplitIndices(Uncomputed):
    """Flags (1, 1, 1, P), and blobs whose last axes add up to P -> the flags of each."""

    bottoms = (2, None)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        flags, *parts = bottom
        if flags[-1:] != (sum(part[-1] for part in parts),) or self.top_count != len(parts):
            raise self.spec.error("needs as many tops as blobs, whose last axes add up to that of the flags; its "
                                  f"bottoms are {', '.join(map(shape_text, bottom))}")
        return [(1, 1, 1, part[-1]) for part in parts]


@register("SlidingWindowIndex", form="")
class SlidingWindowIndex(Uncomputed):
    """A map (1, C, H, W) and flags (1, 1, 1, (H + 1) * (W + 1)) -> the windows flagged, (K, C, window_h, window_w)."""

    params = ("sliding_window_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (_, c, h, w) = self.spec.get("sliding_window_param"), self.nchw(bottom[0])
        if bottom[1] != (1, 1, 1, (h + 1) * (w + 1)):
            raise self.spec.error(f"needs flags 1 x 1 x 1 x {(h + 1) * (w + 1)}; its second bottom is "
                                  f"{shape_text(bottom[1])}")
        return [(1, c, param.window_h, param.window_w)]


@register("TopKOld", form="")
class TopKOld(Uncomputed):
    """Values, scores, and a blob with a row for each value to keep -> the values with the largest scores, and their
    numbers."""

    bottoms = 3
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(bottom[2][0], *bottom[0][1:]), (bottom[2][0], 1, 1, 1)][: self.top_count]


@register("TileProduct", form="")
class TileProduct(Uncomputed):
    """(N, C, H, W) times a map with one channel -> (N, C, H, W)."""

    bottoms, tops = 2, 1
