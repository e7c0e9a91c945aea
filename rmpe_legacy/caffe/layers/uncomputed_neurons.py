"""Layers of networks that segment neurons, which have shapes, and refuse to run: see `uncomputed`. Sources:
{affinity,connected_component,malis_loss,mergecrop,pooling}_layer.cpp of naibaf7/caffe@2996015."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from .base import Shape, shape_text
from .registry import register
from .uncomputed import Uncomputed, UncomputedLoss


@register("Affinity", form="")
class Affinity(Uncomputed):
    """How alike the neighbours of each place are, across and down: each (N, C, H, W) -> (1, 2, H, W)."""

    params = ("affinity_param",)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        if len(bottom) != self.top_count:
            raise self.spec.error(f"needs a top for each bottom; it has {self.top_count} for {len(bottom)}")
        return [(1, 2, *self.nchw(shape)[2:]) for shape in bottom]


@register("ConnectedComponent", form="")
class ConnectedComponent(Uncomputed):
    """The number of the component in which each place is."""

    bottoms = tops = 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [bottom[0]]


@register("MalisLoss", form="")
class MalisLoss(UncomputedLoss):
    """Compares affinities with the truth, by the paths between places; a second top has the first bottom's shape."""

    params = ("loss_param",)
    bottoms = (3, 4)
    tops = (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        return [(), bottom[0]][: self.top_count]


@register("MergeCrop", form="")
class MergeCrop(Uncomputed):
    """The second bottom's middle, of the first's size, behind the first's channels (STACK), or added to it (ADD)."""

    params = ("mergecrop_param",)
    bottoms, tops = 2, 1

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        one, other = bottom
        is_sum = self.spec.get("mergecrop_param").operation == "ADD"
        if (len(one) != len(other) or len(one) < 3 or one[0] != other[0] or (is_sum and one[1] != other[1])
                or any(a > b for a, b in zip(one[2:], other[2:], strict=True))):
            raise self.spec.error("needs two bottoms of as many images, the second as large or larger, and with ADD of "
                                  f"as many channels; they are {shape_text(one)} and {shape_text(other)}")
        return [(one[0], one[1] if is_sum else one[1] + other[1], *one[2:])]


@register("Pooling", form="dilated")
class DilatedPooling(Uncomputed):
    """Pooling of every dilation-th place, over any number of axes: (N, C, ...) -> the same with fewer places."""

    params = ("pooling_param",)
    bottoms, tops = 1, (1, 2)

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        size = bottom[0][2:]
        fields = (("kernel_size", 0), ("stride", 1), ("pad", 0), ("dilation", 1))
        kernel, stride, pad, step = (self._of_axes(name, default, len(size)) for name, default in fields)
        grid = []
        for n, k, s, p, d in zip(size, kernel, stride, pad, step, strict=True):
            if min(k, s, d) < 1:
                raise self.spec.error("kernel_size, stride and dilation must be above 0")
            places = ceil((n + 2 * p - d * (k - 1) - 1) / s) + 1
            grid.append(places - (p > 0 and (places - 1) * s >= n + p))
        if not size or min(grid) < 1:
            raise self.spec.error(f"its window does not fit on a bottom of {shape_text(bottom[0])}")
        return [(*bottom[0][:2], *grid)] * self.top_count

    def _of_axes(self, name: str, default: int, axes: int) -> list[int]:
        """One number for each axis, from a field given once or for each."""
        param = self.spec.get("pooling_param")
        sides = [f"{name.partition('_')[0]}_{side}" for side in "hw"]
        value = getattr(param, name)
        own = list(value) if isinstance(value, list) else [value] * param.has(name)
        given = own or [getattr(param, side) for side in sides if param.has(side)] or [default]
        if len(given) not in (1, axes):
            raise self.spec.error(f"gives {name} {len(given)} times for {axes} axes")
        return given * axes if len(given) == 1 else given
