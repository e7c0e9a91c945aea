"""Layers that move values and change none: Concat, Slice, Reshape, Flatten, Permute, Split, Silence, Crop, Tile.

Sources: {concat,slice,reshape,flatten,permute,split,silence,crop,tile}_layer.cpp of RMPE@5188c23.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .base import MAX_AXES, Layer, Shape, count, shape_text
from .registry import register


def _old_axis(layer: Layer, param, old: str, dims: int) -> int:
    """The axis from `axis`, or from the field that older files have in its place."""
    if param.has("axis") and param.has(old):
        raise layer.spec.error(f"give axis or {old}, not both")
    return layer.axis(getattr(param, old), dims, old) if param.has(old) else layer.axis(param.axis, dims)


@register("Concat")
class Concat(Layer):
    """Bottoms one after the other along an axis."""

    bottoms = (1, None)
    shares_data = None

    def setup(self, *bottom: Shape) -> None:
        self.shares_data = self.shares_diff = len(bottom) == 1
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot work in place; give its top another name")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        self.along = _old_axis(self, self.spec.get("concat_param"), "concat_dim", len(bottom[0]))
        rest = [(s[: self.along], s[self.along + 1 :]) for s in bottom]
        if any(len(s) != len(bottom[0]) for s in bottom) or any(r != rest[0] for r in rest):
            raise self.spec.error(f"its bottoms must agree in all but axis {self.along}: "
                                  + ", ".join(map(shape_text, bottom)))
        return [(*rest[0][0], sum(s[self.along] for s in bottom), *rest[0][1])]

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] if len(bottoms) == 1 else torch.cat(bottoms, self.along)


@register("Slice")
class Slice(Layer):
    """Cuts a bottom along an axis: at slice_point, or into equal parts."""

    tops = (1, None)
    shares_data = None

    def setup(self, *bottom: Shape) -> None:
        self.shares_data = self.shares_diff = len(self.spec.top) == 1
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot work in place; give its top another name")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("slice_param")
        self.along = _old_axis(self, param, "slice_dim", len(bottom[0]))
        size, parts = bottom[0][self.along], self.top_count
        if param.slice_point:
            ends = [0, *param.slice_point, size]
            self.sizes = [b - a for a, b in pairwise(ends)]
            if len(self.sizes) != parts or any(s <= 0 for s in self.sizes):
                raise self.spec.error(f"slice_point {list(param.slice_point)} must be {parts - 1} increasing places "
                                      f"inside an axis of {size}, for {parts} tops")
        elif size % parts:
            raise self.spec.error(f"{parts} tops do not divide an axis of {size} evenly; give slice_point")
        else:
            self.sizes = [size // parts] * parts
        before, after = bottom[0][: self.along], bottom[0][self.along + 1 :]
        return [(*before, s, *after) for s in self.sizes]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(self.sizes, self.along)


@register("Reshape")
class Reshape(Layer):
    """The same values in another shape: dim 0 copies the bottom's, -1 is what is left over."""

    works_in_place = False
    shares_data = shares_diff = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("reshape_param")
        shape, dims = bottom[0], list(param.shape.dim)
        if len(dims) > MAX_AXES:
            raise self.spec.error(f"its shape has {len(dims)} axes; a blob has up to {MAX_AXES}")
        start = param.axis if param.axis >= 0 else len(shape) + param.axis + 1
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        if not 0 <= start <= end <= len(shape):
            raise self.spec.error(f"axis {param.axis} and num_axes {param.num_axes} are outside a bottom with "
                                  f"{len(shape)} axes")
        if dims.count(-1) > 1 or any(d < -1 for d in dims):
            raise self.spec.error(f"shape {dims} may hold -1 once, and no other negative number")
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= len(shape):
                    raise self.spec.error(f"dim {i} of its shape is 0, but the bottom has no axis {start + i} to copy")
                dims[i] = shape[start + i]
        rest = count(shape[:start]) * count([d for d in dims if d != -1]) * count(shape[end:])
        if -1 in dims and rest and count(shape) % rest == 0:
            dims[dims.index(-1)] = count(shape) // rest
        top = (*shape[:start], *dims, *shape[end:])
        if -1 in dims or count(top) != count(shape):
            raise self.spec.error(f"a bottom of {shape_text(shape)} cannot be reshaped to {shape_text(top)}")
        self.shape = top
        return [top]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


@register("Flatten")
class Flatten(Layer):
    """Axes `axis` to `end_axis` as one; an end_axis just before `axis` puts an axis of 1 in."""

    works_in_place = False
    shares_data = shares_diff = True

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("flatten_param")
        start = self.axis(param.axis, len(bottom[0]))
        end = self.axis(param.end_axis, len(bottom[0]), "end_axis") + 1
        if end < start:
            raise self.spec.error(f"end_axis {param.end_axis} lies before axis {param.axis}")
        self.shape = (*bottom[0][:start], count(bottom[0][start:end]), *bottom[0][end:])
        return [self.shape]

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


@register("Permute", dialects=("rmpe", "ssd"))
class Permute(Layer):
    """Axes in another order; those not named follow in theirs."""

    shares_data = None

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        order, dims = list(self.spec.get("permute_param").order), len(bottom[0])
        if any(i >= dims for i in order) or len(set(order)) != len(order):
            raise self.spec.error(f"order {order} must name each of the {dims} axes at most once")
        self.order = order + [i for i in range(dims) if i not in order]
        self.shares_data = self.shares_diff = self.order == sorted(self.order)
        if self.in_place and not self.shares_data:
            raise self.spec.error("cannot move values in place; give its top another name")
        return [tuple(bottom[0][i] for i in self.order)]

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order).contiguous()


@register("Split")
class Split(Layer):
    """One bottom under several names; their gradients add up."""

    works_in_place = False
    shares_data = True

    tops = (1, None)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for _ in range(self.top_count))  # views: each top has a gradient of its own


@register("Silence")
class Silence(Layer):
    """Takes bottoms so that they are no outputs. Their gradient is zero."""

    bottoms = (1, None)
    tops = 0

    def forward(self, *bottoms: Tensor) -> tuple[()]:
        return ()


@register("Crop")
class Crop(Layer):
    """The part of the first bottom that has the second one's size from `axis` on, `offset` in.

    One offset goes for all axes; 0 without any.
    """

    bottoms = 2
    works_in_place = False

    def setup(self, *bottom: Shape) -> None:
        param = self.spec.get("crop_param")
        self.start = self.axis(param.axis, len(bottom[0]))
        if len(param.offset) > 1 and self.start + len(param.offset) != len(bottom[0]):
            raise self.spec.error(f"offset is given {len(param.offset)} times for {len(bottom[0]) - self.start} axes; "
                                  "give it once, or once per axis")

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        x, like = bottom
        if len(x) <= self.start:
            raise self.spec.error(f"is to crop from axis {self.start} on, its bottom is {shape_text(x)}")
        axes = len(x) - self.start
        offset = list(self.spec.get("crop_param").offset) or [0]
        offset = offset * axes if len(offset) == 1 else offset
        if len(offset) != axes or len(like) < len(x):
            raise self.spec.error(f"a bottom of {shape_text(x)} cannot be cropped to {shape_text(like)}: the second "
                                  "bottom needs as many axes")
        sizes = like[self.start : len(x)]
        if any(size + o > have for size, o, have in zip(sizes, offset, x[self.start :], strict=True)):
            raise self.spec.error(f"a crop to {shape_text(like)} from offset {offset} on, axis {self.start} and "
                                  f"after, reaches outside a bottom of {shape_text(x)}")
        self.parts = (slice(None),) * self.start + tuple(slice(o, o + s) for o, s in zip(offset, sizes, strict=True))
        return [(*x[: self.start], *sizes)]

    def forward(self, x: Tensor, _like: Tensor) -> Tensor:
        return x[self.parts].contiguous()


@register("Tile")
class Tile(Layer):
    """Copies one after the other along an axis."""

    def reshape(self, *bottom: Shape) -> Sequence[Shape]:
        param = self.spec.get("tile_param")
        along = self.axis(param.axis, len(bottom[0]))
        if not param.has("tiles") or param.tiles < 1:
            raise self.spec.error("tiles must be given, and positive")
        if self.in_place and param.tiles > 1:
            raise self.spec.error("cannot work in place; give its top another name")
        self.times = [param.tiles if i == along else 1 for i in range(len(bottom[0]))]
        return [tuple(size * n for size, n in zip(bottom[0], self.times, strict=True))]

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(self.times)
