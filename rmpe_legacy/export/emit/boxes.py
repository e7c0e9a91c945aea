"""What the emitters of layers with boxes have in common: boxes of regions, and their suppression."""

from __future__ import annotations

from collections.abc import Sequence

from rmpe_legacy.caffe.layers.base import FLT_MAX

from .context import OnnxContext

_LOWEST = -float("inf")


def split(ctx: OnnxContext, x: str, *widths: int, axis: int = -1) -> list[str]:
    return ctx.graph.nodes_of("Split", [x, ctx.integers(list(widths))], len(widths), axis=axis)


def table(ctx: OnnxContext, index: int, values: int) -> str:
    """Return a bottom as rows of so many values."""
    if len(ctx.bottom_shapes[index]) == 2:
        return ctx.x[index]
    return ctx.node("Reshape", ctx.x[index], ctx.integers([-1, values]))


def regions(ctx: OnnxContext, index: int = 1) -> tuple[str, str]:
    """Return the image numbers (R, 1) and the corners (R, 4) of a bottom."""
    image, corners = split(ctx, table(ctx, index, 5), 1, 4)
    return image, corners


def finite_regions(ctx: OnnxContext) -> tuple[str, str]:
    """Return what `regions` does, but nan for infinite corners, as ``RoiLayer.regions`` does."""
    image, corners = regions(ctx)
    return image, ctx.node("Add", corners, ctx.node("Mul", corners, ctx.constant(0.0)))


def low_high_size(ctx: OnnxContext, boxes: str) -> tuple[str, str, str]:
    """Return the low and the high corner of boxes (.., 4), and what lies between, one more than the difference."""
    low, high = split(ctx, boxes, 2, 2)
    return low, high, ctx.node("Add", ctx.node("Sub", high, low), ctx.constant(1.0))


def padded(ctx: OnnxContext, corners: str, ratio: float) -> str:
    if not ratio:
        return corners
    low, high, size = low_high_size(ctx, corners)
    pad = ctx.node("Mul", size, ctx.constant(ratio))
    return ctx.node("Concat", ctx.node("Sub", low, pad), ctx.node("Add", high, pad), axis=-1)


def half_away(ctx: OnnxContext, x: str) -> str:
    """Round as C does: halves go away from 0."""
    rounded = ctx.node("Floor", ctx.node("Add", ctx.node("Abs", x), ctx.constant(0.5)))
    return ctx.node("Mul", ctx.node("Sign", x), rounded)


def moved(ctx: OnnxContext, moves: str, low: str, size: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Return Cascade R-CNN's boxes: moves (.., 4) of corners and sizes that broadcast with (.., 2)."""
    moves = ctx.node("Add", ctx.node("Mul", moves, ctx.constant(std)), ctx.constant(mean))
    shift, stretch = split(ctx, moves, 2, 2)
    high = ctx.node("Sub", ctx.node("Add", low, size), ctx.constant(1.0))
    centre = ctx.node("Mul", ctx.constant(0.5), ctx.node("Add", high, low))
    sides = ctx.node("Mul", size, ctx.node("Exp", stretch))
    beyond = ctx.node("Sub", sides, ctx.constant(1.0))
    corner = ctx.node("Sub", ctx.node("Add", ctx.node("Mul", shift, size), centre),
                      ctx.node("Div", beyond, ctx.constant(2.0)))
    return ctx.node("Concat", corner, ctx.node("Sub", ctx.node("Add", corner, sides), ctx.constant(1.0)), axis=-1)


def suppressed(ctx: OnnxContext, boxes: str, scores: str, most: int | str, limit: float, pixels: bool = True,
                centred: bool = False) -> str:
    """Return which boxes stay, best first, (K, 3) of image, class and place; scores of -inf do not count.

    Args:
        ctx: The layer.
        boxes: (images, P, 4).
        scores: (images, classes, P).
        most: How many of a class stay at most; or the name of that number.
        limit: A box goes if a better one overlaps it by more.
        pixels: Both ends of a box belong to it.
        centred: Boxes are centre and size.
    """
    if not 0 <= limit <= 1:
        raise ctx.refuse(f"an overlap of {limit:g}, which is not within 0 and 1")
    if pixels:
        low, high = split(ctx, boxes, 2, 2)
        boxes = ctx.node("Concat", low, ctx.node("Add", high, ctx.constant(1.0)), axis=-1)
    most = ctx.integers(most) if isinstance(most, int) else most
    return ctx.node("NonMaxSuppression", boxes, scores, most, ctx.constant([limit]), ctx.constant([-FLT_MAX]),
                    center_point_box=int(centred))


def only(ctx: OnnxContext, kept: str, scores: str) -> str:
    """Return scores with -inf where not kept."""
    return ctx.node("Where", kept, scores, ctx.constant(_LOWEST))


def last_places(ctx: OnnxContext, found: str) -> str:
    """Return the places (K) of what `_suppressed` found."""
    return ctx.node("Squeeze", split(ctx, found, 1, 1, 1)[2], ctx.integers([1]))


def unsqueezed(ctx: OnnxContext, x: str, *axes: int) -> str:
    return ctx.node("Unsqueeze", x, ctx.integers(list(axes)))
