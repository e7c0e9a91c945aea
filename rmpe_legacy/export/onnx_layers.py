"""What each Caffe layer becomes in ONNX: one function a type. See `emit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.conv import Convolution
from rmpe_legacy.caffe.layers.pooling import Windows
from rmpe_legacy.errors import LayerError
from rmpe_legacy.wording import utf8

from .graph import Dims, Node
from .onnx_graph import NeedsFixedBatch, OnnxGraph

FLT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Here:
    """One layer's place in the graph: the names of its bottoms and tops, their shapes, its weights."""

    graph: OnnxGraph
    layer: Layer
    x: tuple[str, ...]
    y: tuple[str, ...]
    bottom: tuple[Dims, ...]
    top: tuple[Dims, ...]

    def node(self, op: str, *inputs: str, **attributes) -> str:
        """A node whose output gets a name made up from the layer's."""
        return self.graph.node(op, inputs, **attributes)

    def last(self, op: str, *inputs: str, **attributes) -> None:
        """The node that gives the layer's first top."""
        self.graph.node(op, inputs, [self.y[0]], **attributes)

    def constant(self, value: float | Sequence[float]) -> str:
        return self.graph.constant(value)

    def integers(self, values: int | Sequence[int]) -> str:
        return self.graph.integers(values)

    def blob(self, index: int) -> np.ndarray:
        """A parameter's values, in the shape that the layer declared."""
        return self.layer.blobs()[index].detach().cpu().numpy()

    def weight(self, index: int, shape: Sequence[int] | None = None) -> str:
        """A parameter as an initializer, called as in the state dict; as another shape if given."""
        values = self.blob(index)
        name = f"{self.layer.spec.name}.{self.layer.declared[index].name}"
        return self.graph.parameter(name, values if shape is None else values.reshape(shape))

    def size(self, index: int = 0) -> tuple[int, ...]:
        """The sizes of a bottom behind its batch."""
        sizes = self.bottom[index][1:]
        if not all(isinstance(size, int) for size in sizes):
            raise NeedsFixedBatch(f"{self.layer.spec.name}: {sizes} depend on the batch")
        return sizes

    def refuse(self, reason: str) -> LayerError:
        return self.layer.spec.error(f"cannot be converted to ONNX: {reason}")


Emitter = Callable[[Here], None]
_EMITTERS: dict[str, Emitter] = {}


def emits(*types: str) -> Callable[[Emitter], Emitter]:
    """Register what writes the nodes of these layer types."""

    def add(function: Emitter) -> Emitter:
        _EMITTERS.update(dict.fromkeys(types, function))
        return function

    return add


def supported_types() -> list[str]:
    """The layer types that can be written."""
    from . import onnx_detection, onnx_forks, onnx_pose  # noqa: F401  they register

    return sorted(_EMITTERS)


def emit(graph: OnnxGraph, node: Node) -> None:
    """Add one layer's nodes. LayerError if it asks for something that ONNX, or this writer, has no words for."""
    if node.layer is None:
        graph.layer = node.top[0].name
        graph.reshape(node.bottom[0].name, node.bottom[0].shape, node.top[0].shape, node.top[0].name)
        return
    graph.layer = utf8(node.layer.spec.name) or "unnamed"
    _EMITTERS[node.layer.written_as](Here(
        graph, node.layer, tuple(v.name for v in node.bottom), tuple(v.name for v in node.top),
        tuple(v.shape for v in node.bottom), tuple(v.shape for v in node.top)))


# --- value by value ---------------------------------------------------------------------------------------------


@emits("ReLU")
def _relu(at: Here) -> None:
    if slope := at.layer.negative_slope:
        at.last("LeakyRelu", *at.x, alpha=slope)
    else:
        at.last("Relu", *at.x)


@emits("PReLU")
def _prelu(at: Here) -> None:
    at.last("PRelu", *at.x, at.weight(0, (-1, *[1] * (len(at.bottom[0]) - 2))))


@emits("ELU")
def _elu(at: Here) -> None:
    at.last("Elu", *at.x, alpha=at.layer.alpha)


@emits("Sigmoid")
def _sigmoid(at: Here) -> None:
    if at.layer.spec.dialect == "bvlc":
        _sigmoid_bvlc(at, at.x[0], at.y)
    else:  # not ONNX's Sigmoid: onnxruntime approximates it, and the small values of its lower end are far off
        at.last("Reciprocal", at.node("Add", at.node("Exp", at.node("Neg", *at.x)), at.constant(1)))


def _sigmoid_bvlc(at: Here, x: str, y: Sequence[str] | int = 1) -> str:
    """BVLC's 0.5 tanh(0.5 x) + 0.5."""
    half = at.constant(0.5)
    return at.graph.node("Add", [at.node("Mul", at.node("Tanh", at.node("Mul", x, half)), half), half], y)


@emits("Swish")
def _swish(at: Here) -> None:
    beta = at.layer.beta
    at.last("Mul", at.x[0], _sigmoid_bvlc(at, at.x[0] if beta == 1 else at.node("Mul", at.x[0], at.constant(beta))))


@emits("TanH")
def _tanh(at: Here) -> None:
    at.last("Tanh", *at.x)


@emits("AbsVal")
def _abs(at: Here) -> None:
    at.last("Abs", *at.x)


@emits("BNLL")
def _bnll(at: Here) -> None:
    at.last("Softplus", *at.x)


@emits("Power")
def _power(at: Here) -> None:
    layer = at.layer
    if layer.diff_scale == 0:
        with np.errstate(all="ignore"):
            value = 1.0 if layer.power == 0 else float(np.float32(layer.shift) ** np.float32(layer.power))
        at.last("Expand", at.constant(value), at.node("Shape", *at.x))
        return
    _chain(at, at.x[0], ("Mul", layer.scale, 1), ("Add", layer.shift, 0), ("Pow", layer.power, 1))


@emits("Exp")
def _exp(at: Here) -> None:
    _chain(at, at.x[0], ("Mul", at.layer.inner, 1), ("Exp", None, None), ("Mul", at.layer.outer, 1))


@emits("Log")
def _log(at: Here) -> None:
    layer = at.layer
    _chain(at, at.x[0], ("Mul", layer.scale, 1), ("Add", layer.shift, 0), ("Log", None, None), ("Mul", layer.factor, 1))


def _chain(at: Here, x: str, *steps: tuple[str, float | None, float | None]) -> None:
    """Operators one after the other, each (op, constant, constant that changes nothing); the last gives the top."""
    steps = [step for step in steps if step[1] is None or step[1] != step[2]] or [("Identity", None, None)]
    for i, (op, value, _) in enumerate(steps):
        inputs = [x] if value is None else [x, at.constant(value)]
        x = at.graph.node(op, inputs, at.y if i == len(steps) - 1 else 1)


@emits("Threshold")
def _threshold(at: Here) -> None:
    limit = at.constant(at.layer.spec.get("threshold_param").threshold)
    at.last("Cast", at.node("Greater", *at.x, limit), to=_FLOAT)


@emits("Clip")
def _clip(at: Here) -> None:
    low, high = at.constant(at.layer.min), at.constant(at.layer.max)
    if at.layer.min <= at.layer.max:
        at.last("Clip", *at.x, low, high)
    else:  # Caffe takes the lower limit last
        at.last("Max", at.node("Min", *at.x, high), low)


@emits("Dropout")
def _dropout(at: Here) -> None:
    at.last("Identity", *at.x)


@emits("Eltwise")
def _eltwise(at: Here) -> None:
    layer = at.layer
    # In place, the published code clears bottom 0 before it reads it: see layers.eltwise.
    start = 1 if layer.in_place and layer.operation != "PROD" else 0
    terms = list(at.x[start:])
    if layer.operation == "SUM":
        terms = [x if c == 1 else at.node("Mul", x, at.constant(c))
                 for x, c in zip(terms, layer.coeff[start:], strict=True)]
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[layer.operation]
    if len(terms) == 1:
        at.last("Identity", terms[0])
        return
    total = terms[0]
    for term in terms[1:-1]:
        total = at.node(op, total, term)
    at.last(op, total, terms[-1])


# --- weights ----------------------------------------------------------------------------------------------------


@emits("Convolution", "Deconvolution")
def convolution(at: Here) -> None:
    layer = at.layer
    dims = len(layer.kernel)
    if layer.channel_axis != 1:
        raise at.refuse(f"its channels are axis {layer.channel_axis}; ONNX has them on axis 1")
    if not 1 <= dims <= 3 or not all(layer.dilation):
        raise at.refuse(f"{dims} spatial axes with dilation {layer.dilation}; ONNX runtimes take 1 to 3 axes, and a "
                        "dilation of 1 or more")
    is_conv = isinstance(layer, Convolution)
    more = layer.sticking_out(at.size()[1:]) if is_conv else [0] * dims
    pads = [*layer.pad, *(p + m for p, m in zip(layer.pad, more, strict=True))]
    weights = [at.weight(i) for i in range(len(layer.declared))]
    for x, y in zip(at.x, at.y, strict=True):
        at.graph.node("Conv" if is_conv else "ConvTranspose", [x, *weights], [y], kernel_shape=list(layer.kernel),
                      strides=list(layer.stride), pads=pads, dilations=list(layer.dilation), group=layer.group)


@emits("InnerProduct")
def _inner_product(at: Here) -> None:
    layer, x = at.layer, at.x[0]
    if len(at.bottom[0]) != 2 or layer.lead != 1:
        x = at.node("Flatten", x, axis=layer.lead)
    inputs = [x, *(at.weight(i) for i in range(len(layer.declared)))]
    if len(at.top[0]) == 2:
        at.last("Gemm", *inputs, transB=int(not layer.transpose))
    else:
        rows = at.node("Gemm", *inputs, transB=int(not layer.transpose))
        at.graph.reshape(rows, (), at.top[0], at.y[0])


@emits("BatchNorm")
def _batch_norm(at: Here) -> None:
    layer, channels = at.layer, at.layer.declared[0].shape[0]
    if not layer.use_global_stats:
        _normalize_by_batch(at)
        return
    mean, variance, factor = (layer.blobs()[i].detach() for i in range(3))
    factor = torch.where(factor == 0, 0, 1 / factor)
    name = layer.spec.name
    stored = [at.graph.parameter(f"{name}.{word}", (values * factor).cpu().numpy())
              for word, values in (("mean", mean), ("variance", variance))]
    same = [at.constant([value] * channels) for value in (1.0, 0.0)]
    at.last("BatchNormalization", *at.x, *same, *stored, epsilon=layer.eps)


def _normalize_by_batch(at: Here) -> None:
    axes = at.integers([i for i in range(len(at.bottom[0])) if i != 1])
    centred = at.node("Sub", *at.x, at.node("ReduceMean", *at.x, axes))
    variance = at.node("ReduceMean", at.node("Mul", centred, centred), axes)
    at.last("Div", centred, at.node("Sqrt", at.node("Add", variance, at.constant(at.layer.eps))))


@emits("Scale", "Bias")
def _along(at: Here) -> None:
    """An operand spread over the axes behind it: learnt, or the second bottom."""
    layer, dims = at.layer, len(at.bottom[0])
    is_scale = layer.spec.type == "Scale"
    y = at.x[0]
    if len(at.x) == 2:
        behind = range(len(at.bottom[1]), dims - layer.at)
        operand = at.x[1] if not behind else at.node("Unsqueeze", at.x[1], at.integers(list(behind)))
    else:
        operand = _spread(at, 0, layer.at)
    has_bias = is_scale and layer.spec.get("scale_param").bias_term
    y = at.graph.node("Mul" if is_scale else "Add", [y, operand], 1 if has_bias else at.y)
    if has_bias:
        at.last("Add", y, _spread(at, len(layer.declared) - 1, layer.bias_at))


def _spread(at: Here, index: int, axis: int) -> str:
    """A parameter with axes of size 1 behind it, so that it goes with the bottom's axes from `axis` on."""
    shape = at.layer.declared[index].shape
    return at.weight(index, shape + (1,) * (len(at.bottom[0]) - axis - len(shape)))


@emits("Embed")
def _embed(at: Here) -> None:
    rows = at.node("Cast", *at.x, to=_INT64)
    if len(at.layer.declared) == 1:
        at.last("Gather", at.weight(0), rows)
    else:
        at.last("Add", at.node("Gather", at.weight(0), rows), at.weight(1))


@emits("Parameter")
def _parameter(at: Here) -> None:
    at.last("Identity", at.weight(0))


# --- windows and normalisation ----------------------------------------------------------------------------------


@emits("Pooling")
def _pooling(at: Here) -> None:
    layer = at.layer
    if layer.method == "STOCHASTIC":
        raise at.refuse("pool STOCHASTIC; use MAX or AVE")
    if len(at.y) == 2:
        _maximum_with_mask(at)
    else:
        _pool(at, at.x[0], layer.windows, layer.method, at.y)


@emits("SPP")
def _spp(at: Here) -> None:
    layer = at.layer
    if layer.height == 1:
        _pool(at, at.x[0], layer.levels[0], layer.method, at.y)
        return
    levels = [at.node("Flatten", _pool(at, at.x[0], windows, layer.method)) for windows in layer.levels]
    at.last("Concat", *levels, axis=1)


def _pool(at: Here, x: str, windows: Windows, method: str, to: Sequence[str] | int = 1) -> str:
    """The maximum or mean of each window, with exactly Caffe's windows: sizes rounded down after its padding."""
    size = at.size()[1:]
    fill = -FLT_MAX if method == "MAX" else 0.0
    x, pads = _margin(at, x, windows, fill)
    shape = {"kernel_shape": list(windows.kernel), "strides": list(windows.stride), "pads": pads}
    if method == "MAX":
        return at.graph.node("MaxPool", [x], to, **shape)
    cells = windows.kernel[0] * windows.kernel[1]
    areas = windows.areas(torch.empty(1, 1, *size)).numpy()
    if (areas == cells).all():
        return at.graph.node("AveragePool", [x], to, count_include_pad=1, **shape)
    mean = at.node("AveragePool", x, count_include_pad=1, **shape)
    with np.errstate(divide="ignore"):  # a window outside the plane has no cells
        return at.graph.node("Mul", [mean, at.graph.constant(cells / areas)], to)


def _margin(at: Here, x: str, windows: Windows, fill: float) -> tuple[str, list[int]]:
    """What the operator itself may pad, [top, left, bottom, right]; more than a window takes is padded before it."""
    left, right, top, bottom = (max(m, 0) for m in windows.margin(at.size()[1:]))
    pads = [top, left, bottom, right]
    if all(p < k for p, k in zip(pads, windows.kernel * 2, strict=True)) and not _has_empty(at, windows):
        return x, pads
    return at.node("Pad", x, at.integers([0, 0, top, left, 0, 0, bottom, right]), at.constant(fill)), [0, 0, 0, 0]


def _has_empty(at: Here, windows: Windows) -> bool:
    """Whether a window lies outside the plane altogether."""
    size = at.size()[1:]
    return any((n - 1) * s >= extent + p for n, s, p, extent in zip(
        windows.grid(size), windows.stride, windows.pad, size, strict=True))


def _maximum_with_mask(at: Here) -> None:
    windows, (_, h, w) = at.layer.windows, at.size()
    x, pads = _margin(at, at.x[0], windows, -FLT_MAX)
    if x != at.x[0] or _has_empty(at, windows):
        raise at.refuse("a mask of windows that lie outside the bottom; give a smaller stride")
    place = at.graph.node("MaxPool", [x], [at.y[0], f"{at.y[1]}/place"], kernel_shape=list(windows.kernel),
                          strides=list(windows.stride), pads=pads)
    place = at.node("Mod", f"{at.y[1]}/place", at.integers(h * w))  # ONNX counts through all planes
    at.graph.node("Cast", [place], [at.y[1]], to=_FLOAT)


@emits("LRN")
def _lrn(at: Here) -> None:
    layer = at.layer
    if layer.across and not layer.in_place and min(layer.alpha, layer.beta, layer.k) > 0:
        at.last("LRN", *at.x, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    squares, pad, k = at.node("Mul", at.x[0], at.x[0]), layer.size // 2, 1.0
    if layer.across:
        k, (channels, h, w) = layer.k, at.size()
        planes = at.node("Reshape", squares, at.integers([-1, 1, channels, h * w]))
        mean = at.node("AveragePool", planes, kernel_shape=[layer.size, 1], pads=[pad, 0, pad, 0], count_include_pad=1)
        mean = at.node("Reshape", mean, at.integers([-1, channels, h, w]))
    else:
        mean = at.node("AveragePool", squares, kernel_shape=[layer.size] * 2, pads=[pad] * 4, count_include_pad=1)
    base = at.node("Add", at.node("Mul", mean, at.constant(layer.alpha)), at.constant(k))
    factor = at.node("Pow", base, at.constant(-layer.beta))
    # In place and across channels, the published code reads back what it has just written: see layers.lrn.
    at.last("Mul", factor if layer.across and layer.in_place else at.x[0], factor)


@emits("MVN")
def _mvn(at: Here) -> None:
    layer, x = at.layer, at.x[0]
    if len(at.bottom[0]) < 4:
        x = at.graph.reshape(x, at.bottom[0], at.top[0])
    axes = at.integers([1, 2, 3] if layer.across else [2, 3])
    mean = at.node("ReduceMean", x, axes)
    if not layer.by_deviation:
        at.last("Sub", x, mean)
        return
    centred = at.node("Sub", x, mean)
    deviation = at.node("Sqrt", at.node("ReduceMean", at.node("Mul", centred, centred), axes))
    at.last("Div", centred, at.node("Add", deviation, at.constant(layer.eps)))


@emits("Normalize")
def _normalize(at: Here) -> None:
    layer, dims = at.layer, len(at.bottom[0])
    axes = at.integers(list(range(1, dims)) if layer.across_spatial else [1])
    squares = at.node("ReduceSumSquare", at.x[0], axes)
    norm = at.node("Sqrt", at.node("Add", squares, at.constant(layer.eps)))
    scale = at.weight(0, () if layer.channel_shared else (-1, *[1] * (dims - 2)))
    at.last("Mul", at.node("Div", at.x[0], norm), scale)


@emits("Softmax")
def _softmax(at: Here) -> None:
    at.last("Softmax", *at.x, axis=at.layer.along)


# --- sums, choices, moves ---------------------------------------------------------------------------------------


@emits("Reduction")
def _reduction(at: Here) -> None:
    param, dims = at.layer.spec.get("reduction_param"), len(at.bottom[0])
    op = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[param.operation]
    axes = at.integers(list(range(len(at.top[0]), dims)))
    y = at.graph.node(op, [*at.x, axes], at.y if param.coeff == 1 else 1, keepdims=0)
    if param.coeff != 1:
        at.last("Mul", y, at.constant(param.coeff))


@emits("ArgMax")
def _argmax(at: Here) -> None:
    layer, x, along = at.layer, at.x[0], at.layer.along
    if along is None:
        x, along = at.node("Flatten", x), 1
    size = at.size()
    size = int(np.prod(size)) if layer.along is None else at.bottom[0][along]
    if not isinstance(size, int):
        raise NeedsFixedBatch("it looks for the largest along the batch")
    # At a tie the later place goes first: turned round, the first is the last.
    turned = at.node("Slice", x, *map(at.integers, ([-1], [-size - 1], [along], [-1])))
    values, places = at.graph.nodes_of("TopK", [turned, at.integers([layer.top_k])], 2, axis=along)
    places = at.node("Cast", at.node("Sub", at.integers(size - 1), places), to=_FLOAT)
    if layer.along is not None:
        at.last("Identity", values if layer.values else places)
    elif layer.values:
        both = [at.node("Unsqueeze", part, at.integers([1])) for part in (places, values)]
        at.graph.reshape(at.node("Concat", *both, axis=1), (), at.top[0], at.y[0])
    else:
        at.graph.reshape(places, (), at.top[0], at.y[0])


@emits("BatchReindex")
def _batch_reindex(at: Here) -> None:
    at.last("Gather", at.x[0], at.node("Cast", at.x[1], to=_INT64), axis=0)


@emits("Concat")
def _concat(at: Here) -> None:
    if len(at.x) == 1:
        at.last("Identity", *at.x)
    else:
        at.last("Concat", *at.x, axis=at.layer.along)


@emits("Slice")
def _slice(at: Here) -> None:
    if len(at.y) == 1:
        at.last("Identity", *at.x)
        return
    sizes = [shape[at.layer.along] for shape in at.top]
    if not all(isinstance(size, int) for size in sizes):
        raise NeedsFixedBatch("it cuts along the batch")
    at.graph.node("Split", [*at.x, at.integers(sizes)], at.y, axis=at.layer.along)


@emits("Split")
def _split(at: Here) -> None:
    for y in at.y:
        at.graph.node("Identity", at.x, [y])


@emits("Reshape")
def _reshape(at: Here) -> None:
    at.graph.reshape(at.x[0], at.bottom[0], at.top[0], at.y[0])


@emits("Flatten")
def _flatten(at: Here) -> None:
    if len(at.top[0]) == 2 and at.bottom[0][:1] == at.top[0][:1]:
        at.last("Flatten", *at.x)
    else:
        at.graph.reshape(at.x[0], at.bottom[0], at.top[0], at.y[0])


@emits("Permute")
def _permute(at: Here) -> None:
    at.last("Transpose", *at.x, perm=at.layer.order)


@emits("Crop")
def _crop(at: Here) -> None:
    starts, ends, axes = [], [], []
    for axis, part in enumerate(at.layer.parts):
        have, want = at.bottom[0][axis], at.top[0][axis]
        if part == slice(None) or have == want:
            continue
        if not (isinstance(have, int) and isinstance(want, int)):
            raise NeedsFixedBatch("it crops the batch")
        starts, ends, axes = [*starts, part.start], [*ends, part.stop], [*axes, axis]
    if axes:
        at.last("Slice", at.x[0], *map(at.integers, (starts, ends, axes)))
    else:
        at.last("Identity", at.x[0])


@emits("Tile")
def _tile(at: Here) -> None:
    at.last("Tile", *at.x, at.integers(list(at.layer.times)))


_FLOAT, _INT64 = 1, 7  # TensorProto.FLOAT, TensorProto.INT64
