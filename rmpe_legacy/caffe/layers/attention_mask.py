"""AttentionMask's choice of windows: which places have objects, and the windows around these.

Sources: check_att_layer.cpp, argmax_layer_2.cpp, argmax_layer_all.cpp, convertIndices.cpp, flagsToIndices_layer.cpp,
splitIndices.cpp, sliding_window_index_layer.cu, top_k_layer.cu, top_k_old_layer.cu and tile_product_layer.cu of
chwilms/AttentionMask@2e31e2a.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Count, Layer, Shape, count, shape_text, shapes_text
from .registry import register

LEAST = 1000  # places that ArgMaxAll returns at least
HAS_OBJECT, HAS_NONE = 0.51, 0.49  # the scores of the first place where no other has an object


class _Choice(Layer):
    """Base: a layer whose tops depend on which values are larger, so that scores get no gradient from it."""

    bottoms: Count = 1
    tops: Count = 1
    works_in_place = False
    chooses_rows = True

    def named(self, bottom: Sequence[Shape]) -> str:
        """The bottoms with their shapes, for an error message."""
        return shapes_text(dict(zip(self.spec.bottom, bottom, strict=False)))

    def check_row(self, bottom: Sequence[Shape]) -> None:
        """Raise LayerError unless all bottoms are (1, 1, 1, ...)."""
        if any(len(shape) != 4 or shape[:3] != (1, 1, 1) for shape in bottom):
            raise self.spec.error(f"needs bottoms (1, 1, 1, K); they are {self.named(bottom)}")


@register("CheckAtt", form="")
class CheckAtt(_Choice):
    """Two blobs of one shape -> the same; where the first is nowhere larger, its first value becomes 0.51, and that of
    the second 0.49."""

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if bottom[0] != bottom[1] or not count(bottom[0]):
            raise self.spec.error(f"needs two bottoms of one shape; they are {self.named(bottom)}")
        return bottom

    def forward(self, x: Tensor, against: Tensor) -> tuple[Tensor, Tensor]:
        x, against = x.detach().clone(), against.detach().clone()
        if not bool((x > against).any()):
            x.view(-1)[0], against.view(-1)[0] = HAS_OBJECT, HAS_NONE
        return x, against


@register("ArgMaxMy", form="")
class ArgMaxMy(_Choice):
    """Scores for and against (1, 1, 1, P) -> the numbers of the K largest scores for, (1, 1, 1, K); K places have more
    for than against. Without `axis`, (1, 1, K, 1), and with out_max_val (1, 2, K, 1): the numbers, then the scores.
    With both, the scores alone.

    Of equal scores, that with the higher number goes first. Before any score is known, K is `least`.
    """

    params = ("argmax_param",)
    bottoms = 2
    least = 0

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("argmax_param")
        self.check_row(bottom[:2])
        if bottom[0] != bottom[1] or (param.has("axis") and self.axis(param.axis, 4) != 3):
            raise self.spec.error(f"needs two bottoms of one shape, and axis 3 or none; they are {self.named(bottom)}")
        rows = self.spec.assumed_rows
        return [self._top(self.least if rows is None else rows)]

    def _top(self, kept: int) -> Shape:
        param = self.spec.get("argmax_param")
        return (1, 1, 1, kept) if param.has("axis") else (1, 2 if param.out_max_val else 1, kept, 1)

    def forward(self, x: Tensor, against: Tensor) -> Tensor:
        param, scores = self.spec.get("argmax_param"), x.detach().reshape(-1)
        kept = max(self.least, int((x > against).sum()))
        if kept > len(scores):
            raise self.spec.error(f"needs at least {kept} places; its bottoms have {len(scores)}")
        best = len(scores) - 1 - scores.flip(0).sort(stable=True, descending=True).indices[:kept]
        numbers, values = best.to(x.dtype), scores[best]
        if param.out_max_val:
            numbers = values if param.has("axis") else torch.cat([numbers, values])
        return numbers.view(self._top(kept))


@register("ArgMaxAll", form="")
class ArgMaxAll(ArgMaxMy):
    """The same of 1000 places or more."""

    least = LEAST


@register("ConvertIndices", form="")
class ConvertIndices(_Choice):
    """Numbers of places (1, 1, 1, K) and scores (1, 1, 1, P) -> flags (1, 1, 1, P), and the scores there (K, 1, 1, 1).

    Differs: a number that is no place's raises; the published code writes outside its blobs.
    """

    bottoms = tops = 2

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check_row(bottom)
        return [bottom[1], (bottom[0][3], 1, 1, 1)]

    def forward(self, numbers: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        at, scores = numbers.detach().reshape(-1).long(), scores.detach()
        self.check_classes(at, scores.numel())
        return torch.zeros_like(scores).index_fill(3, at, 1), scores.reshape(-1)[at].view(-1, 1, 1, 1)


@register("FlagsToIndices", form="")
class FlagsToIndices(_Choice):
    """Flags (1, 1, 1, P) -> the numbers of those set, (K, 1, 1, 1); before any is known, K is 0."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.check_row(bottom)
        return [(self.spec.assumed_rows or 0, 1, 1, 1)]

    def forward(self, flags: Tensor) -> Tensor:
        return (flags.detach().reshape(-1) == 1).nonzero().to(flags.dtype).view(-1, 1, 1, 1)


@register("SplitIndices", form="")
class SplitIndices(_Choice):
    """Flags (1, 1, 1, P), and blobs whose last axes add up to P -> the flags of each."""

    bottoms: Count = (2, None)
    tops: Count = (1, None)
    chooses_rows = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        flags, *parts = bottom
        self.check_row([flags, parts[0]])
        self.sizes = [part[-1] if part else 0 for part in parts]
        if flags[-1] != sum(self.sizes) or self.top_count != len(parts):
            raise self.spec.error("needs as many tops as blobs, whose last axes add up to that of the flags; its "
                                  f"bottoms are {self.named(bottom)}")
        return [(1, 1, 1, size) for size in self.sizes]

    def forward(self, flags: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return flags.detach().split(self.sizes, 3)


@register("SlidingWindowIndex", form="")
class SlidingWindowIndex(_Choice):
    """A map (1, C, H, W) and flags (1, 1, 1, (H + 1) * (W + 1)) of the corners of its pixels -> the windows around
    those flagged, with zeros beyond the map: (K, C, window_h, window_w).

    Differs: where none is flagged the one window is 0; the published layer leaves what was there.
    """

    params = ("sliding_window_param",)
    bottoms = 2
    unforced = (1,)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param, (n, c, h, w) = self.spec.get("sliding_window_param"), self.nchw(bottom[0])
        self.window = (param.window_h, param.window_w)
        if min(self.window) < 1 or self.window[0] % 2 or self.window[1] % 2:
            raise self.spec.error("needs an even window_h and window_w above 0")
        if n != 1 or len(bottom[0]) != 4 or bottom[1] != (1, 1, 1, (h + 1) * (w + 1)):
            raise self.spec.error(f"needs a map (1, C, H, W) and flags 1 x 1 x 1 x {(h + 1) * (w + 1)}; its second "
                                  f"bottom is {shape_text(bottom[1])}")
        return [(self.spec.rows, c, *self.window)]

    def forward(self, x: Tensor, flags: Tensor) -> Tensor:
        (h, w), wide = self.window, x.shape[3]
        at = (flags.detach().reshape(-1) > 0).nonzero().view(-1)
        if not len(at):
            return x[:, :, :1, :1].expand(1, -1, h, w) * 0
        padded = F.pad(x[0], (w // 2, w // 2, h // 2, h // 2))
        rows = (at // (wide + 1)).view(-1, 1, 1) + torch.arange(h, device=x.device).view(1, -1, 1)
        columns = (at % (wide + 1)).view(-1, 1, 1) + torch.arange(w, device=x.device).view(1, 1, -1)
        return padded[:, rows, columns].transpose(0, 1)


@register("TopK", form="")
class TopK(_Choice):
    """Values (N, ...), scores (N, ...), and a blob with a row for each value to keep -> the values with the largest
    scores, in their order, and all their numbers, (K, 1, 1, 1). A row of several scores counts as the largest behind
    the first, at least 0.

    Of equal scores the first counts; in the published layer, its sort decides. Numbers beyond the values are 0.
    """

    bottoms = 3
    tops: Count = (1, 2)
    unforced = (1, 2)

    def kept(self, values: Shape, wanted: Shape) -> int:
        """How many rows of values the top has."""
        return min(wanted[0], values[0])

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        values, scores, wanted = bottom
        if not all(bottom) or not count(scores):
            raise self.spec.error(f"needs values, scores and what to keep; its bottoms are {self.named(bottom)}")
        return [(self.kept(values, wanted), *values[1:]), (wanted[0], 1, 1, 1)][: self.top_count]

    def forward(self, x: Tensor, scores: Tensor, wanted: Tensor) -> tuple[Tensor, ...]:
        if len(scores) != len(x):
            raise self.spec.error(f"needs a row of scores for each of {len(x)} values, not {len(scores)}")
        scores, k = scores.detach().reshape(len(x), -1), min(len(x), len(wanted))
        best = scores[:, 0] if scores.shape[1] == 1 else scores[:, 1:].max(1).values.clamp(min=0)
        order = best.sort(stable=True, descending=True).indices
        order = torch.cat([order[:k].sort().values, order[k:]])
        rest = self.kept(tuple(x.shape), tuple(wanted.shape)) - k
        top = torch.cat([x[order[:k]], x.new_zeros(rest, *x.shape[1:])])
        numbers = F.pad(order[: len(wanted)], (0, max(0, len(wanted) - len(order)))).to(x.dtype)
        return (top, numbers.view(-1, 1, 1, 1))[: self.top_count]


@register("TopKOld", form="")
class TopKOld(TopK):
    """The same with as many rows as are wanted. Differs: those beyond the values are 0; the published layer leaves what
    was there."""

    def kept(self, values: Shape, wanted: Shape) -> int:
        return wanted[0]


@register("TileProduct", form="")
class TileProduct(Layer):
    """(N, C, H, W) times a map with one channel, (N, 1, H, W) -> (N, C, H, W)."""

    bottoms = 2
    works_in_place = False

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, tile = bottom
        if len(x) != 4 or tile != (x[0], 1, *x[2:]):
            raise self.spec.error(f"needs maps (N, C, H, W) and (N, 1, H, W), not {shape_text(x)} and "
                                  f"{shape_text(tile)}")
        return [x]

    def forward(self, x: Tensor, tile: Tensor) -> Tensor:
        return x * tile
