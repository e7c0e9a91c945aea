"""The RMPE fork's own layers in ONNX's standard operators: the composites of rmpe_legacy.ops, node by node."""

from __future__ import annotations

import numpy as np

from .onnx_layers import _FLOAT, Here, emits

GRID_SAMPLE_IN_DOUBLE = 20  # the first version whose GridSample onnxruntime has in double precision


@emits("EltwiseAffine")
def _eltwise_affine(at: Here) -> None:
    spread = () if at.layer.shared else (-1, *[1] * (len(at.bottom[0]) - 2))
    at.last("Add", at.node("Mul", at.x[0], at.weight(0, spread)), at.weight(1, spread))


@emits("SpatialTransformer")
def _spatial_transformer(at: Here) -> None:
    """ops.spatial_transformer_composite. Sampling is in double precision: in single, GridSample's own rounding of the
    coordinates moves values by some 1e-5 of the image's range."""
    at.graph.needs(GRID_SAMPLE_IN_DOUBLE)
    theta = _theta(at)
    if at.layer.mode == "paper":
        theta = _inverse(at, theta)
    elif at.layer.mode == "published-identity":
        theta = _identity(at)
    grid = _grid(at, theta)
    image = at.node("Cast", at.x[0], to=_DOUBLE)
    sampled = at.node("GridSample", image, grid, mode="linear", padding_mode="zeros", align_corners=0)
    at.last("Cast", sampled, to=_FLOAT)


def _theta(at: Here) -> str:
    """(N, 6): the bottom's numbers and those that the prototxt fixes, each in its place."""
    fixed = [value for value in at.layer.fixed if value is not None]
    if len(fixed) == 6:
        return _repeated(at, fixed)
    free = at.node("Flatten", at.x[1]) if len(at.bottom[1]) != 2 else at.x[1]
    if not fixed:
        return free
    places = iter(range(6 - len(fixed)))
    others = iter(range(6 - len(fixed), 6))
    order = [next(places if value is None else others) for value in at.layer.fixed]
    return at.node("Gather", at.node("Concat", free, _repeated(at, fixed), axis=1), at.integers(order), axis=1)


def _repeated(at: Here, row: list[float]) -> str:
    """A row of numbers for each image."""
    images = at.node("Shape", at.x[0], start=0, end=1)
    return at.node("Expand", at.constant([row]), at.node("Concat", images, at.integers([len(row)]), axis=0))


def _identity(at: Here) -> str:
    return _repeated(at, [1, 0, 0, 0, 1, 0])


def _inverse(at: Here, theta: str) -> str:
    """The maps that undo these, in double precision; the identity for one that cannot be undone."""
    a, b, c, d, e, f = at.graph.nodes_of("Split", [at.node("Cast", theta, to=_DOUBLE), at.integers([1] * 6)], 6, axis=1)

    def minor(p: str, q: str, r: str, s: str) -> str:
        return at.node("Sub", at.node("Mul", p, q), at.node("Mul", r, s))

    determinant = minor(a, e, b, d)
    singular = at.node("Equal", determinant, at.graph.constant(0, np.float64))
    divisor = at.node("Where", singular, at.graph.constant(1, np.float64), determinant)
    parts = [e, at.node("Neg", b), minor(b, f, e, c), at.node("Neg", d), a, minor(d, c, a, f)]
    adjugate = at.node("Concat", *parts, axis=1)
    inverse = at.node("Cast", at.node("Div", adjugate, divisor), to=_FLOAT)
    return at.node("Where", singular, _identity(at), inverse)


def _grid(at: Here, theta: str) -> str:
    """(N, out_h, out_w, 2), double: where each cell of the output reads the image, as GridSample counts."""
    (out_h, out_w), size = at.layer.out, at.size()[1:]
    u, v = (np.arange(n, dtype=np.float64) / n * 2 - 1 for n in (out_h, out_w))
    rows = at.node("Reshape", theta, at.integers([-1, 2, 3, 1, 1]))
    columns = [at.node("Squeeze", part, at.integers([2]))
               for part in at.graph.nodes_of("Split", [rows, at.integers([1, 1, 1])], 3, axis=2)]
    point = at.node("Mul", columns[0], at.graph.constant(u.astype(np.float32)[:, None]))
    # One rounding for this product and sum, as a GPU build of the fork fuses them.
    more = at.node("Mul", at.node("Cast", columns[1], to=_DOUBLE),
                   at.graph.constant(v.astype(np.float32).astype(np.float64), np.float64))
    point = at.node("Cast", at.node("Add", at.node("Cast", point, to=_DOUBLE), more), to=_FLOAT)
    point = at.node("Add", at.node("Add", point, columns[2]), at.constant(1.0))
    sides = np.reshape(size, (2, 1, 1))
    point = at.node("Mul", at.node("Div", point, at.constant(2.0)), at.constant(sides))
    point = at.node("Mul", at.node("Cast", point, to=_DOUBLE), at.graph.constant(2, np.float64))
    one = at.graph.constant(1, np.float64)
    point = at.node("Div", at.node("Add", point, one), at.graph.constant(sides, np.float64))
    # Far outside all is 0 in any case, and coordinates stay numbers that whatever samples can make whole.
    point = at.node("Clip", at.node("Sub", point, one), *(at.graph.constant(end, np.float64) for end in (-2, 2)))
    return at.node("Transpose", at.node("Gather", point, at.integers([1, 0]), axis=1), perm=[0, 2, 3, 1])  # x before y


@emits("PredictionHeatmap")
def _prediction_heatmap(at: Here) -> None:
    """ops.prediction_heatmap's composite: places are numbered as the published code's matrix has them."""
    *_, h, w = at.layer.nchw(at.bottom[0])
    joints, stride = at.top[0][3] // 3, min(h, w)
    y, x = np.arange(h)[:, None], np.arange(w)
    kept = ((y + stride >= h) | (x == 0)).ravel()
    place = np.where(kept, (x * stride + y).ravel(), h * w)
    value = at.node("Reshape", at.x[0], at.integers([-1, joints, h * w]))
    lowest = at.constant(-float("inf"))
    value = at.node("Where", at.node("IsNaN", value), lowest, value)
    if not kept.all():
        value = at.node("Where", at.graph.constant(kept, np.bool_), value, lowest)
    if h > stride and w > 1:  # the first of the places that stay 0
        pads = at.integers([0, 0, 0, 0, 0, 1])
        value, place = at.node("Pad", value, pads, at.constant(0.0)), np.append(place, (w - 1) * stride + h)
    score = at.node("ReduceMax", value, at.integers([2]))
    first = at.node("Where", at.node("Equal", value, score), at.integers(place.tolist()), at.integers(h * w))
    first = at.node("ReduceMin", first, at.integers([2]))
    xy = [at.node("Cast", at.node(op, first, at.integers(stride)), to=_FLOAT) for op in ("Div", "Mod")]
    at.last("Reshape", at.node("Concat", *xy, score, axis=2), at.integers([1, 1, -1, 3 * joints]))


_DOUBLE = 11  # TensorProto.DOUBLE
