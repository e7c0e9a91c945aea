"""What each Caffe layer becomes in a written-out model.py: one function a type, which gives an expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.caffe.layers.conv import Convolution
from rmpe_legacy.caffe.layers.pooling import Windows
from rmpe_legacy.errors import LayerError

from .graph import Dim, Dims


class Writer(Protocol):
    """What an emitter asks of the file that is being written."""

    def use(self, part: str) -> str:
        """A piece of parts.py is needed; its name."""

    def module(self, layer: Layer, constructor: str, state: dict[str, Tensor]) -> str:
        """Make a submodule of the layer's name with these parameters: "self.conv1"."""

    def buffer(self, layer: Layer, values: Tensor) -> str:
        """Keep a constant tensor beside the weights: "self.priors"."""


@dataclass(frozen=True)
class Here:
    """One layer's place: the expressions of its bottoms, how many tops, shapes, its parameters."""

    writer: Writer
    layer: Layer
    x: tuple[str, ...]
    bottom: tuple[Dims, ...]
    top: tuple[Dims, ...]

    def call(self, part: str, *arguments: Any) -> str:
        """A call of a piece of parts.py."""
        return f"{self.writer.use(part)}({', '.join(map(str, arguments))})"

    def part(self, name: str, *names: str, arguments: str) -> str:
        """A call, on the first bottom, of a submodule whose class is in parts.py; `names` are its parameters."""
        return f"{self.submodule(f'{self.writer.use(name)}({arguments})', *names)}({self.x[0]})"

    def submodule(self, constructor: str, *names: str) -> str:
        """Make a submodule; `names` are its parameters, in Caffe's order of the blobs."""
        return self.writer.module(self.layer, constructor, dict(zip(names, self.layer.blobs(), strict=True)))

    def refuse(self, reason: str) -> LayerError:
        return self.layer.spec.error(f"cannot be written as a PyTorch module: {reason}")


Emitter = Callable[[Here], str]
_EMITTERS: dict[str, Emitter] = {}


def emits(*types: str) -> Callable[[Emitter], Emitter]:
    """Register what writes the expression of these layer types."""

    def add(function: Emitter) -> Emitter:
        _EMITTERS.update(dict.fromkeys(types, function))
        return function

    return add


def supported_types() -> list[str]:
    """The layer types that can be written."""
    from . import python_forks  # noqa: F401  it registers

    return sorted(_EMITTERS)


def expression(at: Here) -> str:
    """What computes a layer's tops from its bottoms: one expression, a tuple's where there are several tops."""
    return _EMITTERS[at.layer.written_as](at)


def number(value: float) -> str:
    """A number as one would write it; a float with the digits that single precision needs."""
    if isinstance(value, int | np.integer):
        return str(int(value))
    if not np.isfinite(value):
        return f'float("{value}")'
    short = float(str(np.float32(value)))
    value = short if np.float32(short) == np.float32(value) and float(np.float32(value)) == value else float(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else repr(value)


def sizes(values: Sequence[int]) -> str:
    """A size per axis: one number if all are the same, else a tuple."""
    return str(values[0]) if len(set(values)) == 1 else pair(values)


def pair(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))})"


def arguments(*positional: object, **settings: tuple[str, str]) -> str:
    """What stands in a call's brackets; settings are given as (value, default), and stand there if they differ."""
    return ", ".join([*map(str, positional),
                      *(f"{name}={value}" for name, (value, default) in settings.items() if value != default)])


# --- value by value ---------------------------------------------------------------------------------------------


@emits("ReLU")
def _relu(at: Here) -> str:
    slope = at.layer.negative_slope
    return f"F.leaky_relu({at.x[0]}, {number(slope)})" if slope else f"F.relu({at.x[0]})"


@emits("PReLU")
def _prelu(at: Here) -> str:
    return at.part("PReLU", "slope", arguments=arguments(*at.layer.declared[0].shape))


@emits("ELU")
def _elu(at: Here) -> str:
    return f"F.elu({arguments(at.x[0], alpha=(number(at.layer.alpha), '1'))})"


@emits("Sigmoid")
def _sigmoid(at: Here) -> str:
    return f"torch.sigmoid({at.x[0]})" if at.layer.spec.dialect != "bvlc" else _sigmoid_bvlc(at.x[0])


def _sigmoid_bvlc(x: str) -> str:
    return f"(0.5 * torch.tanh(0.5 * {x}) + 0.5)"


@emits("Swish")
def _swish(at: Here) -> str:
    beta = number(at.layer.beta)
    return f"{at.x[0]} * {_sigmoid_bvlc(at.x[0] if beta == '1' else f'({beta} * {at.x[0]})')}"


@emits("TanH")
def _tanh(at: Here) -> str:
    return f"torch.tanh({at.x[0]})"


@emits("AbsVal")
def _abs(at: Here) -> str:
    return f"{at.x[0]}.abs()"


@emits("BNLL")
def _bnll(at: Here) -> str:
    return at.call("bnll", at.x[0])


@emits("Power")
def _power(at: Here) -> str:
    layer, x = at.layer, at.x[0]
    if layer.diff_scale == 0:
        with np.errstate(all="ignore"):
            value = 1.0 if layer.power == 0 else np.float32(layer.shift) ** np.float32(layer.power)
        return f"torch.full_like({x}, {number(float(value))})"
    inner = _times_plus(x, layer.scale, layer.shift)
    return inner if layer.power == 1 else f"({inner}) ** {_operand(layer.power)}"


@emits("Exp")
def _exp(at: Here) -> str:
    layer = at.layer
    inner = at.x[0] if layer.inner == 1 else f"{at.x[0]} * {number(layer.inner)}"
    return f"torch.exp({inner})" + ("" if layer.outer == 1 else f" * {number(layer.outer)}")


@emits("Log")
def _log(at: Here) -> str:
    layer = at.layer
    inner = _times_plus(at.x[0], layer.scale, layer.shift)
    return f"torch.log({inner})" + ("" if layer.factor == 1 else f" * {number(layer.factor)}")


def _times_plus(x: str, scale: float, shift: float) -> str:
    x = x if scale == 1 else f"{x} * {_operand(scale)}"
    return x if shift == 0 else f"{x} + {number(shift)}" if shift > 0 else f"{x} - {number(-shift)}"


def _operand(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


@emits("Threshold")
def _threshold(at: Here) -> str:
    return f"({at.x[0]} > {number(at.layer.spec.get('threshold_param').threshold)}).to({at.x[0]}.dtype)"


@emits("Clip")
def _clip(at: Here) -> str:
    low, high = at.layer.min, at.layer.max
    if low <= high:
        return f"{at.x[0]}.clamp({number(low)}, {number(high)})"
    return f"{at.x[0]}.clamp(max={number(high)}).clamp(min={number(low)})"


@emits("Dropout")
def _dropout(at: Here) -> str:
    return f"{at.writer.module(at.layer, f'nn.Dropout({number(at.layer.ratio)})', {})}({at.x[0]})"


@emits("Eltwise")
def _eltwise(at: Here) -> str:
    layer = at.layer
    # In place, the published code clears bottom 0 before it reads it: see layers.eltwise.
    start = 1 if layer.in_place and layer.operation != "PROD" else 0
    terms = list(at.x[start:])
    if layer.operation == "MAX":
        total = terms[0]
        for term in terms[1:]:
            total = f"torch.maximum({total}, {term})"
        return total
    if layer.operation == "SUM":
        terms = [x if c == 1 else f"{_operand(c)} * {x}" for x, c in zip(terms, layer.coeff[start:], strict=True)]
    return (" + " if layer.operation == "SUM" else " * ").join(terms)


# --- weights ----------------------------------------------------------------------------------------------------


@emits("Convolution", "Deconvolution")
def convolution(at: Here) -> str:
    layer = at.layer
    dims = len(layer.kernel)
    if layer.channel_axis != 1:
        raise at.refuse(f"its channels are axis {layer.channel_axis}; torch has them on axis 1")
    if not 1 <= dims <= 3 or not all(layer.dilation):
        raise at.refuse(f"{dims} spatial axes with dilation {layer.dilation}; torch takes 1 to 3 axes, and a dilation "
                        "of 1 or more")
    is_conv = isinstance(layer, Convolution)
    if is_conv and any(layer.sticking_out([n for n in at.bottom[0][2:] if isinstance(n, int)])):
        raise at.refuse("its only window sticks out of the bottom, which torch does not do; give more pad")
    kind = f"nn.{'Conv' if is_conv else 'ConvTranspose'}{dims}d"
    names = ["weight", "bias"][: len(layer.declared)]
    inside = arguments(
        layer.channels, layer.num_output, sizes(layer.kernel), stride=(sizes(layer.stride), "1"),
        padding=(sizes(layer.pad), "0"), dilation=(sizes(layer.dilation), "1"), groups=(str(layer.group), "1"),
        bias=(str(layer.bias_term), "True"))
    module = at.submodule(f"{kind}({inside})", *names)
    calls = [f"{module}({x})" for x in at.x]
    return ", ".join(calls)


@emits("InnerProduct")
def _inner_product(at: Here) -> str:
    layer = at.layer
    names, is_2d = ["weight", "bias"][: len(layer.declared)], len(at.bottom[0]) == 2
    bias = {"bias": (str(len(names) == 2), "True")}
    if layer.lead == 1 and not layer.transpose:
        module = at.submodule(f"nn.Linear({arguments(layer.inputs, layer.num_output, **bias)})", *names)
        return f"{module}({at.x[0]}{'' if is_2d else '.flatten(1)'})"
    return at.part("InnerProduct", *names, arguments=arguments(
        layer.inputs, layer.num_output, axis=(str(layer.lead), "1"), **bias, transpose=(str(layer.transpose), "False")))


@emits("BatchNorm")
def _batch_norm(at: Here) -> str:
    layer = at.layer
    if not layer.use_global_stats:
        return at.call("normalize_by_batch", at.x[0], number(layer.eps))
    return at.part("BatchNorm", "mean", "variance", "scale_factor",
                   arguments=arguments(*layer.declared[0].shape, eps=(number(layer.eps), "1e-05")))


@emits("Scale")
def _scale(at: Here) -> str:
    layer, has_bias = at.layer, at.layer.spec.get("scale_param").bias_term
    if len(at.x) == 2:
        y = f"{at.x[0]} * {_spread(at, layer.at)}"
        return y if not has_bias else f"{_bias_module(at, layer.bias_at)}({y})"
    scale, *bias = layer.blobs()
    if has_bias and bias[-1].shape != scale.shape:
        raise at.refuse("its bias has another shape than its scale; use a Bias layer")
    at.writer.use("Scale")
    inside = arguments(*scale.shape, axis=(str(layer.at), "1"), bias=(str(bool(has_bias)), "True"))
    state = {"scale": scale} | ({"bias": bias[-1]} if has_bias else {})
    return f"{at.writer.module(layer, f'Scale({inside})', state)}({at.x[0]})"


@emits("Bias")
def _bias(at: Here) -> str:
    if len(at.x) == 2:
        return f"{at.x[0]} + {_spread(at, at.layer.at)}"
    return f"{_bias_module(at, at.layer.at)}({at.x[0]})"


def _bias_module(at: Here, axis: int) -> str:
    at.writer.use("Bias")
    bias = at.layer.blobs()[-1]
    return at.writer.module(at.layer, f"Bias({arguments(*bias.shape, axis=(str(axis), '1'))})", {"bias": bias})


def _spread(at: Here, axis: int) -> str:
    """The second bottom with axes behind its own, so that it goes with the first one's from `axis` on."""
    behind = len(at.bottom[0]) - axis - len(at.bottom[1])
    return at.x[1] if not behind else f"{at.x[1]}[..., {', '.join(['None'] * behind)}]"


@emits("Embed")
def _embed(at: Here) -> str:
    layer = at.layer
    names = ["weight", "bias"][: len(layer.declared)]
    bias = (str(len(names) == 2), "True")
    return at.part("Embed", *names, arguments=arguments(layer.rows, layer.num_output, bias=bias))


@emits("Parameter")
def _parameter(at: Here) -> str:
    return at.writer.buffer(at.layer, at.layer.blobs()[0])


@emits("EltwiseAffine")
def _eltwise_affine(at: Here) -> str:
    return at.part("EltwiseAffine", "slope", "bias", arguments=arguments(*at.layer.declared[0].shape))


@emits("Normalize")
def _normalize(at: Here) -> str:
    layer = at.layer
    return at.part("Normalize", "scale", arguments=arguments(
        *layer.declared[0].shape, eps=(number(layer.eps), "1e-10"), whole=(str(layer.across_spatial), "False")))


# --- windows and normalisation ----------------------------------------------------------------------------------


@emits("Pooling")
def _pooling(at: Here) -> str:
    layer = at.layer
    if layer.method == "STOCHASTIC":
        raise at.refuse("pool STOCHASTIC; use MAX or AVE")
    if layer.kernel is None:
        return f"{at.x[0]}.{'amax' if layer.method == 'MAX' else 'mean'}((2, 3), keepdim=True)" \
            if len(at.top) == 1 else at.call("max_pool_with_mask", at.x[0], pair(layer.windows.kernel))
    if len(at.top) == 2:
        return at.call("max_pool_with_mask", at.x[0], *_windows(layer.windows))
    return _pool(at, layer.windows, layer.method)


def _pool(at: Here, windows: Windows, method: str) -> str:
    """Torch's own where its choice of windows is Caffe's whatever the size; else Caffe's written out."""
    same = not windows.floor and all(s <= k and 2 * p <= k for k, s, p in zip(
        windows.kernel, windows.stride, windows.pad, strict=True))
    if not same or (any(windows.pad) and not all(windows.pad)):
        return at.call("max_pool" if method == "MAX" else "average_pool", at.x[0], *_windows(windows))
    name = "max_pool2d" if method == "MAX" else "avg_pool2d"
    inside = arguments(at.x[0], sizes(windows.kernel), sizes(windows.stride), padding=(sizes(windows.pad), "0"))
    return f"F.{name}({inside}, ceil_mode=True)"


def _windows(windows: Windows) -> list[str]:
    arguments = [pair(windows.kernel), pair(windows.stride), pair(windows.pad), f"floor={windows.floor}"]
    defaults = ["", "(1, 1)", "(0, 0)", "floor=False"]
    while arguments[-1] == defaults[len(arguments) - 1]:
        arguments.pop()
    return arguments


@emits("SPP")
def _spp(at: Here) -> str:
    return at.call("pyramid_pool", at.x[0], at.layer.height, f"maximum={at.layer.method == 'MAX'}")


@emits("LRN")
def _lrn(at: Here) -> str:
    layer = at.layer
    inside = arguments(at.x[0], layer.size, f"alpha={number(layer.alpha)}", f"beta={number(layer.beta)}",
                       k=(number(layer.k if layer.across else 1), "1"))
    if layer.across and not layer.in_place:
        return f"F.local_response_norm({inside})"
    return at.call("response_norm", inside, f"across={layer.across}", f"in_place={layer.across and layer.in_place}")


@emits("MVN")
def _mvn(at: Here) -> str:
    layer, x = at.layer, at.x[0]
    if len(at.bottom[0]) < 4:
        x = f"{x}.reshape({_target(x, at.bottom[0], at.top[0])})"
    return at.call("mean_variance_norm", x, f"across={layer.across}", f"variance={layer.by_deviation}",
                   f"eps={number(layer.eps)}")


@emits("Softmax")
def _softmax(at: Here) -> str:
    return f"{at.x[0]}.softmax({at.layer.along})"


# --- sums, choices, moves ---------------------------------------------------------------------------------------


@emits("Reduction")
def _reduction(at: Here) -> str:
    param, x = at.layer.spec.get("reduction_param"), at.x[0]
    axes = pair(range(len(at.top[0]), len(at.bottom[0]))).replace(",)", ")")
    y = {"SUM": f"{x}.sum({axes})", "ASUM": f"{x}.abs().sum({axes})", "SUMSQ": f"({x} * {x}).sum({axes})",
         "MEAN": f"{x}.mean({axes})"}[param.operation]
    return y if param.coeff == 1 else f"{y} * {number(param.coeff)}"


@emits("ArgMax")
def _argmax(at: Here) -> str:
    layer = at.layer
    x, axis = (at.x[0], layer.along) if layer.along is not None else (f"{at.x[0]}.reshape(len({at.x[0]}), -1)", 1)
    found = at.call("largest", x, axis, layer.top_k)
    if layer.along is not None:
        return f"{found}[{0 if layer.values else 1}]"
    target = _target(at.x[0], at.bottom[0], at.top[0])
    if layer.values:
        return f"torch.stack({found}[::-1], 1).reshape({target})"
    return f"{found}[1].reshape({target})"


@emits("BatchReindex")
def _batch_reindex(at: Here) -> str:
    return f"{at.x[0]}[{at.x[1]}.long()]"


@emits("Concat")
def _concat(at: Here) -> str:
    return at.x[0] if len(at.x) == 1 else f"torch.cat([{', '.join(at.x)}], {at.layer.along})"


@emits("Slice")
def _slice(at: Here) -> str:
    parts = [shape[at.layer.along] for shape in at.top]
    if len(parts) == 1:
        return at.x[0]
    if len(set(parts)) == 1:
        return f"{at.x[0]}.chunk({len(parts)}, {at.layer.along})"
    return f"{at.x[0]}.split([{', '.join(map(str, parts))}], {at.layer.along})"


@emits("Split")
def _split(at: Here) -> str:
    return ", ".join(at.x * len(at.top))


@emits("Reshape")
def _reshape(at: Here) -> str:
    return f"{at.x[0]}.reshape({_target(at.x[0], at.bottom[0], at.top[0])})"


@emits("Flatten")
def _flatten(at: Here) -> str:
    if len(at.top[0]) == 2 and at.bottom[0][:1] == at.top[0][:1]:
        return f"{at.x[0]}.flatten(1)"
    return _reshape(at)


def _target(x: str, have: Dims, want: Dims) -> str:
    """The arguments of a reshape: sizes that depend on the batch are taken from x, or left to be found."""

    def one(i: int, dim: Dim) -> str:
        return str(dim) if isinstance(dim, int) else f"{x}.shape[{i}]" if have[i : i + 1] == (dim,) else "-1"

    return ", ".join(one(i, dim) for i, dim in enumerate(want)) or "()"


@emits("Permute")
def _permute(at: Here) -> str:
    return f"{at.x[0]}.permute({', '.join(map(str, at.layer.order))})"


@emits("Crop")
def _crop(at: Here) -> str:
    parts = [":" if part == slice(None) or at.bottom[0][i] == at.top[0][i] else f"{part.start}:{part.stop}"
             for i, part in enumerate(at.layer.parts)]
    while parts and parts[-1] == ":":
        parts.pop()
    return f"{at.x[0]}[{', '.join(parts)}]" if parts else at.x[0]


@emits("Tile")
def _tile(at: Here) -> str:
    return f"{at.x[0]}.repeat({', '.join(map(str, at.layer.times))})"


# --- detection and pose -----------------------------------------------------------------------------------------


@emits("PriorBox")
def _prior_box(at: Here) -> str:
    return at.writer.buffer(at.layer, at.layer.forward(torch.empty(0)))


@emits("DetectionOutput")
def _detection_output(at: Here) -> str:
    layer, how = at.layer, at.layer.how
    if layer.files is not None:
        raise at.refuse("save_output_param writes files; remove it")
    loc, conf, prior = (at.x[i] for i in range(3))
    offset = f"{loc}.reshape(len({loc}), {layer.priors}, {layer.places}, 4)"
    variance = f"torch.ones_like({prior}[0, 0]).reshape(-1, 4)" if how.in_target else f"{prior}[0, 1].reshape(-1, 4)"
    boxes = at.call("decode_boxes", offset, f"{prior}[0, 0].reshape(-1, 4)", variance, f'"{how.code}"')
    scores = f"{conf}.reshape(len({conf}), {layer.priors}, {layer.classes})"
    above = number(how.confidence_threshold) if how.confidence_threshold > np.finfo(np.float32).min \
        else 'float("-inf")'
    return at.call("detections", arguments(
        boxes, scores, f"background={how.background}", f"above={above}", f"threshold={number(how.nms_threshold)}",
        eta=(number(how.eta), "1"), top_k=(str(how.top_k), "-1"), keep_top_k=(str(how.keep_top_k), "-1"),
        clip=(str(how.clip), "True"), number_images=(str(layer.is_ssd), "False")))


@emits("SpatialTransformer")
def _spatial_transformer(at: Here) -> str:
    layer, theta = at.layer, at.x[1]
    if any(value is not None for value in layer.fixed):
        theta = at.call("with_fixed", theta, *("None" if v is None else number(v) for v in layer.fixed))
    elif len(at.bottom[1]) != 2:
        theta = f"{theta}.flatten(1)"
    if layer.mode == "paper":
        theta = at.call("inverse_map", theta)
    elif layer.mode == "published-identity":
        theta = at.call("with_fixed", theta, 1, 0, 0, 0, 1, 0)
    return at.call("spatial_transformer", at.x[0], theta, *layer.out)


@emits("PredictionHeatmap")
def _prediction_heatmap(at: Here) -> str:
    x = at.x[0]
    if len(at.bottom[0]) < 4:
        x = f"{x}[{', '.join([':'] * len(at.bottom[0]) + ['None'] * (4 - len(at.bottom[0])))}]"
    return at.call("heatmap_peaks", x)
