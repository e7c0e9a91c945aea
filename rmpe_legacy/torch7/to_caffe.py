"""Torch7 networks as Caffe networks of the RMPE fork: prototxt and weights.

Each module becomes the layers that compute the same; where Caffe has none, an error says so. What is not exact, and
why, is in docs/torch7.md.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath

import numpy as np
import torch

from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.proto.caffemodel import TrainedLayer
from rmpe_legacy.proto.message import Message
from rmpe_legacy.proto.text import format_text

from . import containers, graph, linear, norm, pointwise, shapes, spatial, stn, tables, theta
from .caffe_graph import CaffeGraph
from .kind import Part, kind, roles
from .load import build_module
from .module import Module
from .reader import read_torch7

BATCH = 1009  # images in the shapes that are computed here: a prime, so that no other axis looks like the batch
MAX_UPSAMPLING = 64  # a file can ask for any factor; its kernel has to be stored
DEFAULT_SIZE = 256  # pixels, where no STN says what it takes: inputRes of the authors' opts.lua


@dataclass(frozen=True)
class CaffeNetwork:
    """What ``torch7_to_caffe`` gives: everything that Caffe's two files hold."""

    net: Message  # the NetParameter, without weights
    layers: list[TrainedLayer]  # the weights
    inputs: list[str]  # input blobs, in the order of Torch7's inputs
    outputs: list[str]  # output blobs, in the order of Torch7's outputs
    kind: str  # which of the published networks it is, in words; "" if none

    @property
    def prototxt(self) -> str:
        """The text of the prototxt."""
        return format_text(self.net)


def torch7_to_caffe(source: Module | str | PathLike, input_shape: Sequence[int] | None = None, batch: int = 1,
                    parallel: bool = True, name: str = "", long_size: int | None = None) -> CaffeNetwork:
    """Turn a Torch7 network into a Caffe network of the RMPE fork.

    source: a .t7 file, whose weights are then not copied but left where they lie, or what ``load_torch7`` gave.
    input_shape: (C, H, W) of the input, which Caffe wants to know; None takes the channels from the first
    convolution, and the size from the STN, or 256 x 256 without one. batch: images at once, written into the
    prototxt (the fork's SpatialTransformer is set up for it). parallel: whether the outputs of the parallel SPPE
    stay, if there is one; the authors drop them to test. name: of the network.

    Modules are taken in evaluation mode, with a warning for those saved in training mode. Raises FileError for the
    file, NetError for what Caffe has no layers for.
    """
    if not isinstance(source, Module):
        name = name or fspath(source).replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
        source = build_module(read_torch7(source, long_size), mapped=True)
    if learning := sorted({m.class_name for m in source.modules()
                           if isinstance(m, Module) and m.uses_train and m.training}):
        warnings.warn(f"{', '.join(learning)} are in training mode; the Caffe network has their evaluation mode",
                      stacklevel=2)
    return _Converter(source, parallel).convert(input_shape, batch, name)


@dataclass(frozen=True)
class Value:
    """A blob, and how Torch7 sees it: as it is, with its axes in another order, or in another shape."""

    blob: str
    shape: tuple[int, ...]  # of the blob
    order: tuple[int, ...] | None = None  # axis i of the tensor is axis order[i] of the blob
    view: tuple[int, ...] | None = None  # the tensor's shape, its values in the blob's order

    @property
    def seen(self) -> tuple[int, ...]:
        """The tensor's shape in Torch7."""
        if self.order is not None:
            return tuple(self.shape[i] for i in self.order)
        return self.shape if self.view is None else self.view


@dataclass(frozen=True)
class Grid:
    """The output of a grid generator: where a sampler is to look. Caffe's layer makes its own from theta."""

    theta: Value
    size: tuple[int, int]

    @property
    def seen(self) -> tuple[int, ...]:
        return (self.theta.seen[0], *self.size, 2)


Any = Value | Grid | list
Emitter = Callable[["_Converter", Module, Any, str], Any]
_EMITTERS: dict[type[Module], Emitter] = {}


def _emits(*classes: type[Module]) -> Callable[[Emitter], Emitter]:
    def add(function: Emitter) -> Emitter:
        _EMITTERS.update(dict.fromkeys(classes, function))
        return function

    return add


class _Converter:
    """Walks through a network as its forward would, with blobs in the place of tensors."""

    def __init__(self, network: Module, parallel: bool):
        self.network = network
        self.part = _part(network, {})
        self.parallel = parallel
        self.graph = CaffeGraph()
        self.converted: dict[tuple, Value] = {}  # theta in Caffe's coordinates, made once per size

    def convert(self, input_shape: Sequence[int] | None, batch: int, name: str) -> CaffeNetwork:
        shape = self._input_shape(input_shape)
        count = self.network.input_count if isinstance(self.network, graph.GModule) else 1
        inputs = [self._input(f"data{i + 1}" if count > 1 else "data", shape, batch) for i in range(count)]
        outputs = self._emit_top(inputs if count > 1 else inputs[0])
        blobs = [self.plain(output).blob for output in _flat(outputs)]
        names, keep = self._output_names(len(blobs))
        names = self.graph.finish([blobs[i] for i in keep], [self.graph.unique(names[i]) for i in keep])
        net = self.graph.message(name or "torch7")
        return CaffeNetwork(net, self.graph.trained(), [i.blob for i in inputs], names, kind(self.part))

    def _input(self, name: str, shape: Sequence[int], batch: int) -> Value:
        dims = {"dim": [batch, *shape]}
        self.graph.add("Input", name, [], input_param={"shape": [dims_message(dims)]})
        return Value(name, (BATCH, *shape))

    def _input_shape(self, given: Sequence[int] | None) -> tuple[int, ...]:
        if given is not None:
            shape = tuple(given)
            if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
                raise NetError(f"input_shape {shape} must be positive whole numbers, (C, H, W) for images")
            return shape
        for module in self.network.modules():
            if isinstance(module, linear.Linear):
                return (module.weight.shape[1],)
            if isinstance(module, spatial.SpatialConvolution):
                size = next(((m.height, m.width) for m in self.network.modules()
                             if isinstance(m, stn.AffineGridGeneratorBHWD)), (DEFAULT_SIZE, DEFAULT_SIZE))
                return (module.weight.shape[1] * module.groups, *size)
        raise NetError("the network has no convolution that says what its input is; give input_shape")

    def _emit_top(self, x: Any) -> Any:
        """The whole network; its parts are named by what they are there for, if that is known."""
        if not isinstance(self.network, graph.GModule):
            return self.emit(self.network, x, "")
        names = {part: role or str(int(part) + 1)
                 for part, role in zip(self.network._modules, roles(self.part), strict=True)}
        return self.network.evaluate(x, lambda part, value: self.emit(self.network._modules[part], value, names[part]))

    def _output_names(self, count: int) -> tuple[list[str], list[int]]:
        """The outputs' names, and which are kept: RMPE's are those of the SDTNs, then those of the parallel SPPE."""
        found = roles(self.part)
        stacks = sum(role.startswith("sdtn") for role in found)
        if stacks and "sppe" in found:
            names = [f"heatmaps_{i + 1}" if i < stacks else f"parallel_{i - stacks + 1}" for i in range(count)]
            return names, list(range(count if self.parallel else stacks))
        word = "heatmaps" if kind(self.part).startswith("stacked hourglass") else "output"
        return [word if count == 1 else f"{word}_{i + 1}" for i in range(count)], list(range(count))

    def emit(self, module: Module, x: Any, path: str) -> Any:
        """Write the layers of a module: the value it gives for one it is given."""
        emitter = _EMITTERS.get(type(module))
        if emitter is None:
            raise NetError(f"module {path or '1'} ({module.class_name}): Caffe has no layer for it; convert the part "
                           "of the network without it")
        return emitter(self, module, x, path)

    def layer(self, type: str, path: str, x: Value | Sequence[Value], seen: tuple[int, ...], word: str | None = None,
              **settings) -> Value:
        """Write a layer with one top of shape `seen`, named by the path of its module and a word for what it is."""
        bottoms = [x] if isinstance(x, Value) else x
        word = _WORDS.get(type, type.lower()) if word is None else word
        name, = self.graph.add(type, _join(path, word) if word else path, [b.blob for b in bottoms], **settings)
        return Value(name, seen)

    def plain(self, x: Any) -> Value:
        """A value whose blob is as Torch7 sees it, by a Permute or Reshape where it is not yet."""
        if not isinstance(x, Value):
            raise NetError("a table or a sampling grid stands where a tensor is needed")
        if x.order is not None:
            return self.layer("Permute", x.blob, x, x.seen, permute_param={"order": list(x.order)})
        if x.view is not None and x.view != x.shape:
            if x.view[0] != BATCH:
                raise NetError(f"{x.blob}: a shape of {_shown(x.view)} without the batch axis has no place in Caffe")
            dims = dims_message({"dim": [0, *x.view[1:]]})
            return self.layer("Reshape", x.blob, x, x.view, reshape_param={"shape": dims})
        return Value(x.blob, x.shape)

    def shape_after(self, module: Module, *x: Any, path: str) -> tuple[int, ...]:
        """The shape a module gives: by its own word, or by running it without memory."""
        seen = [value.seen for value in x]
        try:
            if hasattr(module, "output_shape"):
                return module.output_shape(*seen)
            return tuple(module(torch.empty(seen[0], device="meta")).shape)
        except (RmpeError, RuntimeError, IndexError) as error:
            shown = ", ".join(map(_shown, seen))
            reason = str(error).partition("\n")[0].replace(str(BATCH), "N")
            raise NetError(f"module {path or '1'} ({module.class_name}) does not take {shown}: {reason}; is "
                           "input_shape right?") from None


_WORDS = {"Convolution": "conv", "BatchNorm": "bn", "Pooling": "pool", "Deconvolution": "deconv",
          "InnerProduct": "fc", "SpatialTransformer": "transform", "Eltwise": "add"}


def dims_message(fields: dict) -> Message:
    """A BlobShape."""
    from rmpe_legacy.proto.schema import load_schema

    return Message(load_schema()["BlobShape"], fields)


def _part(module: torch.nn.Module, known: dict[int, Part]) -> Part:
    if id(module) not in known:
        outputs = module.output_count if isinstance(module, graph.GModule) else 1
        parts = [_part(child, known) for child in module._modules.values()]
        known[id(module)] = Part.of(getattr(module, "class_name", ""), parts, outputs)
    return known[id(module)]


def _flat(x: Any) -> list:
    return [x] if not isinstance(x, list) else [item for part in x for item in _flat(part)]


def _shown(shape: Sequence[int]) -> str:
    return " x ".join("N" if n == BATCH else str(n) for n in shape)


def _join(path: str, part: object) -> str:
    return f"{path}_{part}" if path else str(part)


def _values(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _same_shape(c: _Converter, type: str, x: Value, path: str, **settings) -> Value:
    """A layer on each element: it does not matter how Torch7 sees the blob."""
    return replace(x, blob=c.layer(type, path, x, x.shape, **settings).blob)


# --- containers


@_emits(containers.Sequential)
def _sequential(c: _Converter, module: containers.Sequential, x: Any, path: str) -> Any:
    for i, part in enumerate(module.parts(), 1):
        x = c.emit(part, x, _join(path, i))
    return x


@_emits(containers.ConcatTable)
def _concat_table(c: _Converter, module: containers.ConcatTable, x: Any, path: str) -> list:
    return [c.emit(part, x, _join(path, i)) for i, part in enumerate(module.parts(), 1)]


@_emits(containers.ParallelTable)
def _parallel_table(c: _Converter, module: containers.ParallelTable, x: list, path: str) -> list:
    return [c.emit(part, x[i - 1], _join(path, i)) for i, part in enumerate(module.parts(), 1)]


@_emits(graph.GModule)
def _graph(c: _Converter, module: graph.GModule, x: Any, path: str) -> Any:
    return module.evaluate(x, lambda part, value: c.emit(module._modules[part], value, _join(path, int(part) + 1)))


@_emits(containers.Identity)
def _identity(c: _Converter, module: Module, x: Any, path: str) -> Any:
    return x


@_emits(graph.JustElement)
def _just_element(c: _Converter, module: Module, x: list, path: str) -> Any:
    return x[0]


@_emits(graph.JustTable)
def _just_table(c: _Converter, module: Module, x: Any, path: str) -> list:
    return [x]


@_emits(tables.SelectTable, tables.NarrowTable, tables.FlattenTable)
def _pick(c: _Converter, module: Module, x: list, path: str) -> Any:
    if isinstance(module, tables.FlattenTable):
        return _flat(x)
    return module(x)  # they only pick from the list


@_emits(containers.Concat)
def _concat(c: _Converter, module: containers.Concat, x: Any, path: str) -> Value:
    return _concatenated(c, [c.emit(part, x, _join(path, i)) for i, part in enumerate(module.parts(), 1)],
                         module.dim, path)


@_emits(tables.JoinTable)
def _join_table(c: _Converter, module: tables.JoinTable, x: list, path: str) -> Value:
    return _concatenated(c, x, module.dim(torch.empty(x[0].seen, device="meta")), path)


def _concatenated(c: _Converter, x: list, axis: int, path: str) -> Value:
    values = [c.plain(value) for value in x]
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    return c.layer("Concat", path, values, tuple(shape), concat_param={"axis": axis})


# --- images


def _window(prefix: str, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> dict:
    """kernel_size, stride and pad once where they are square, else as _h and _w; in lists for convolutions."""
    once = (lambda n: [n]) if prefix == "convolution" else (lambda n: n)
    fields = {}
    for name, (h, w), default in (("kernel", kernel, None), ("stride", stride, 1), ("pad", pad, 0)):
        if (h, w) == (default, default):
            continue
        if h == w:
            fields["kernel_size" if name == "kernel" else name] = once(h)
        else:
            fields |= {f"{name}_h": h, f"{name}_w": w}
    return fields


@_emits(spatial.SpatialConvolution)
def _convolution(c: _Converter, module: spatial.SpatialConvolution, x: Value, path: str) -> Value:
    x = c.plain(x)
    seen = c.shape_after(module, x, path=path)
    param = {"num_output": len(module.weight), **_window("convolution", module.kernel, module.stride, module.pad)}
    if module.groups > 1:
        param["group"] = module.groups
    if module.dilation != (1, 1):
        param["dilation"] = list(module.dilation)
    blobs, param = _with_bias(module, param)
    return c.layer("Convolution", path, x, seen, blobs=blobs, learns=module.weight.requires_grad,
                   convolution_param=param)


def _with_bias(module: Module, param: dict) -> tuple[list[np.ndarray], dict]:
    if module.bias is None:
        return [_values(module.weight)], {**param, "bias_term": False}
    return [_values(module.weight), _values(module.bias)], param


@_emits(spatial.SpatialFullConvolution)
def _full_convolution(c: _Converter, module: spatial.SpatialFullConvolution, x: Value, path: str) -> Value:
    if isinstance(x, list) or module.adjust != (0, 0):
        raise NetError(f"module {path} ({module.class_name}): Caffe's Deconvolution has no adjW and adjH")
    x = c.plain(x)
    param = {"num_output": module.weight.shape[1],
             **_window("convolution", module.kernel, module.stride, module.pad)}
    blobs, param = _with_bias(module, param)
    spatial_size = (s * (n - 1) + k - 2 * p for n, s, k, p in zip(
        x.shape[2:], module.stride, module.kernel, module.pad, strict=True))
    return c.layer("Deconvolution", path, x, (BATCH, param["num_output"], *spatial_size), blobs=blobs,
                   learns=module.weight.requires_grad, convolution_param=param)


@_emits(spatial.SpatialUpSamplingNearest)
def _upsampling(c: _Converter, module: spatial.SpatialUpSamplingNearest, x: Value, path: str) -> Value:
    """Ones as a kernel, moved on by its own size, repeat each pixel."""
    x, k = c.plain(x), module.scale
    if k > MAX_UPSAMPLING:
        raise NetError(f"module {path} ({module.class_name}): a factor of {k}; up to {MAX_UPSAMPLING} is converted")
    channels = x.shape[1]
    param = {"num_output": channels, "bias_term": False, "kernel_size": [k], "group": channels, "stride": [k]}
    return c.layer("Deconvolution", path, x, c.shape_after(module, x, path=path), "up", learns=False,
                   blobs=[np.ones((channels, 1, k, k), np.float32)], convolution_param=param)


@_emits(spatial.SpatialMaxPooling, spatial.SpatialAveragePooling)
def _pooling(c: _Converter, module: spatial.SpatialMaxPooling, x: Value, path: str) -> Value:
    """Caffe rounds the number of windows up; what it has more than Torch7 is cut off, for the others are the same."""
    x = c.plain(x)
    seen = c.shape_after(module, x, path=path)
    average = isinstance(module, spatial.SpatialAveragePooling)
    if average and any(module.pad) and not module.count_include_pad:
        raise NetError(f"module {path} ({module.class_name}): Caffe's average counts the padding; this one does not")
    param = {"pool": "AVE"} if average else {"pool": "MAX"}
    param |= _window("pooling", module.kernel, module.stride, module.pad)
    caffe = tuple(_caffe_positions(*v) for v in zip(x.shape[2:], module.kernel, module.stride, module.pad,
                                                    strict=True))
    if caffe != seen[2:]:
        param["engine"] = "CAFFE"  # cuDNN counts in its own way
    y = c.layer("Pooling", path, x, (*x.shape[:2], *caffe), pooling_param=param)
    for axis in (2, 3):
        if y.shape[axis] > seen[axis]:
            y = _cut(c, y, axis, 0, seen[axis], _join(path, "crop_h" if axis == 2 else "crop_w"))
    if average and not module.divide:
        y = c.layer("Power", path, y, y.shape, power_param={"scale": float(math.prod(module.kernel))})
    return y


def _caffe_positions(size: int, kernel: int, stride: int, pad: int) -> int:
    """How many windows Caffe has along an axis (pooling_layer.cpp:86-101 of RMPE@5188c23)."""
    count = -(-(size + 2 * pad - kernel) // stride) + 1
    return count - (pad > 0 and (count - 1) * stride >= size + pad)


def _cut(c: _Converter, x: Value, axis: int, start: int, length: int, path: str) -> Value:
    """A part of a blob along an axis."""
    points = [p for p in (start, start + length) if 0 < p < x.shape[axis]]
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    if not points:
        return x
    names = c.graph.add("Slice", path, [x.blob], len(points) + 1,
                        slice_param={"axis": axis, "slice_point": points})
    return Value(names[1 if start else 0], shape)


@_emits(norm.BatchNormalization)
def _batch_norm(c: _Converter, module: norm.BatchNormalization, x: Value, path: str) -> Value:
    x = c.plain(x)
    c.shape_after(module, x, path=path)
    statistics = [_values(module.running_mean), _values(module.running_var), np.ones(1, np.float32)]
    y = c.layer("BatchNorm", path, x, x.shape, blobs=statistics, learns=False,
                batch_norm_param={"use_global_stats": True, "eps": module.eps})
    if module.weight is None:
        return y
    blobs, param = _with_bias(module, {})
    param = {"bias_term": True} if module.bias is not None else {}
    return c.layer("Scale", path, y, x.shape, blobs=blobs, learns=module.weight.requires_grad, scale_param=param)


@_emits(norm.SpatialCrossMapLRN)
def _lrn(c: _Converter, module: norm.SpatialCrossMapLRN, x: Value, path: str) -> Value:
    x = c.plain(x)
    if module.size % 2 == 0:
        raise NetError(f"module {path} ({module.class_name}): a size of {module.size}; Caffe's LRN takes odd ones")
    return c.layer("LRN", path, x, x.shape, lrn_param={
        "local_size": module.size, "alpha": module.alpha, "beta": module.beta, "k": module.k})


# --- elements and tables


@_emits(tables.CAddTable, tables.CSubTable, tables.CMulTable, tables.CDivTable, tables.CMaxTable)
def _eltwise(c: _Converter, module: Module, x: list, path: str) -> Value:
    """Bottoms in the order of the table, so that the sum is rounded in the same order."""
    values = [c.plain(value) for value in x]
    if any(value.shape != values[0].shape for value in values):
        raise NetError(f"module {path} ({module.class_name}): its inputs differ in shape: "
                       + ", ".join(_shown(value.shape) for value in values))
    if len(values) == 1:
        return values[0]
    if module.class_name == "nn.CMinTable":
        raise NetError(f"module {path} ({module.class_name}): Caffe has no layer for it")
    if isinstance(module, tables.CDivTable):
        values[1] = c.layer("Power", path, values[1], values[1].shape, power_param={"power": -1.0})
    operation = {tables.CAddTable: "SUM", tables.CSubTable: "SUM", tables.CMaxTable: "MAX"}.get(type(module), "PROD")
    param = {"operation": operation} if operation != "SUM" else {}
    if isinstance(module, tables.CSubTable):
        param["coeff"] = [1.0, -1.0]
    word = {"SUM": "sub" if "coeff" in param else "add", "MAX": "max"}.get(operation, "mul")
    return c.layer("Eltwise", path, values, values[0].shape, word, eltwise_param=param)


@_emits(pointwise.Threshold, pointwise.CudnnReLU)
def _relu(c: _Converter, module: Module, x: Value, path: str) -> Value:
    if isinstance(module, pointwise.Threshold) and (module.threshold != 0 or module.val != 0):
        raise NetError(f"module {path} ({module.class_name}({module.threshold:g}, {module.val:g})): Caffe has no "
                       "layer for thresholds other than 0")
    return _same_shape(c, "ReLU", x, path)


@_emits(pointwise.LeakyReLU)
def _leaky_relu(c: _Converter, module: pointwise.LeakyReLU, x: Value, path: str) -> Value:
    return _same_shape(c, "ReLU", x, path, relu_param={"negative_slope": module.slope})


@_emits(pointwise.PReLU)
def _prelu(c: _Converter, module: pointwise.PReLU, x: Value, path: str) -> Value:
    x = c.plain(x)
    slopes = _values(module.weight)
    if module.per_channel:
        return c.layer("PReLU", path, x, x.shape, blobs=[slopes])
    return c.layer("PReLU", path, x, x.shape, blobs=[slopes.reshape(())], prelu_param={"channel_shared": True})


@_emits(pointwise.ELU)
def _elu(c: _Converter, module: pointwise.ELU, x: Value, path: str) -> Value:
    return _same_shape(c, "ELU", x, path, elu_param={"alpha": module.alpha})


@_emits(pointwise.MulConstant, pointwise.AddConstant, pointwise.Power, pointwise.Sqrt)
def _power(c: _Converter, module: Module, x: Value, path: str) -> Value:
    if isinstance(module, pointwise.AddConstant) and module.constant is None:
        raise NetError(f"module {path} ({module.class_name}): a vector as its constant is not converted")
    param = {"scale": module.constant} if isinstance(module, pointwise.MulConstant) else \
        {"shift": module.constant} if isinstance(module, pointwise.AddConstant) else \
        {"power": module.power if isinstance(module, pointwise.Power) else 0.5}
    return _same_shape(c, "Power", x, path, power_param=param)


_SAME = {"nn.Sigmoid": "Sigmoid", "cudnn.Sigmoid": "Sigmoid", "nn.Tanh": "TanH", "cudnn.Tanh": "TanH",
         "nn.Abs": "AbsVal", "nn.Exp": "Exp", "nn.Log": "Log"}


@_emits(pointwise.Function)
def _function(c: _Converter, module: Module, x: Value, path: str) -> Value:
    if module.class_name == "nn.Square":
        return _same_shape(c, "Power", x, path, power_param={"power": 2.0})
    if module.class_name not in _SAME:
        raise NetError(f"module {path} ({module.class_name}): Caffe has no layer for it")
    return _same_shape(c, _SAME[module.class_name], x, path)


@_emits(pointwise.SoftMax, pointwise.LogSoftMax)
def _softmax(c: _Converter, module: pointwise.SoftMax, x: Value, path: str) -> Value:
    x = c.plain(x)
    if len(x.shape) not in (2, 4):
        raise NetError(f"module {path} ({module.class_name}): takes 2 or 4 dimensions with a batch, not "
                       f"{_shown(x.shape)}")
    y = c.layer("Softmax", path, x, x.shape)
    return c.layer("Log", path, y, x.shape) if module.log else y


@_emits(pointwise.Dropout, pointwise.SpatialDropout)
def _dropout(c: _Converter, module: Module, x: Value, path: str) -> Value:
    if module.stochastic:
        raise NetError(f"module {path} ({module.class_name}): it is random in evaluation too; Caffe's is not")
    if getattr(module, "scales_in_training", False):
        return x
    return _same_shape(c, "Power", x, path, power_param={"scale": 1 - module.p})


@_emits(linear.Mul)
def _mul(c: _Converter, module: linear.Mul, x: Value, path: str) -> Value:
    return _same_shape(c, "Power", x, path, power_param={"scale": float(module.weight)})


@_emits(linear.CMul, linear.Add)
def _scale(c: _Converter, module: Module, x: Value, path: str) -> Value:
    """Learnt values for each element of a sample."""
    x = c.plain(x)
    bias = not isinstance(module, linear.CMul) or module.adds
    values = _values(module.bias if isinstance(module, linear.Add) else module.weight)
    if values.size != math.prod(x.shape[1:]):
        raise NetError(f"module {path} ({module.class_name}): {values.size} values for samples of "
                       f"{_shown(x.shape[1:])}; only one for each element is converted")
    param = {"num_axes": -1}
    return c.layer("Bias" if bias else "Scale", path, x, x.shape, blobs=[values.reshape(x.shape[1:])],
                   **{"bias_param" if bias else "scale_param": param})


@_emits(linear.Linear)
def _linear(c: _Converter, module: linear.Linear, x: Value, path: str) -> Value:
    """InnerProduct flattens by itself, in the order of a View before it."""
    if x.order is not None or len(x.seen) != 2 or x.seen[0] != BATCH:
        x = c.plain(x)
    outputs, inputs = module.weight.shape
    if x.seen != (BATCH, inputs):
        raise NetError(f"module {path or '1'} ({module.class_name}): takes N x {inputs}, not {_shown(x.seen)}; is "
                       "input_shape right?")
    blobs, param = _with_bias(module, {"num_output": outputs})
    return c.layer("InnerProduct", path, x, (BATCH, outputs), blobs=blobs, learns=module.weight.requires_grad,
                   inner_product_param=param)


# --- shapes


@_emits(shapes.View, shapes.Reshape, shapes.Squeeze, shapes.Unsqueeze)
def _view(c: _Converter, module: Module, x: Any, path: str) -> Value:
    """Written only where a layer has to see the new shape."""
    x = x if isinstance(x, Value) and x.order is None else c.plain(x)
    return replace(x, view=c.shape_after(module, x, path=path))


@_emits(shapes.Transpose)
def _transpose(c: _Converter, module: shapes.Transpose, x: Any, path: str) -> Value:
    """Written only where a layer has to see the new order: the sampler's swaps before and after cancel."""
    x = x if isinstance(x, Value) and x.view is None else c.plain(x)
    dims = len(x.shape)
    order = list(x.order or range(dims))
    shift = dims - module.input_dims if module.input_dims is not None else 0
    for a, b in module.pairs:
        if not max(a, b) + shift < dims:
            raise NetError(f"module {path} ({module.class_name}): swaps axes that {_shown(x.seen)} does not have")
        order[a + shift], order[b + shift] = order[b + shift], order[a + shift]
    return replace(x, order=None if order == sorted(order) else tuple(order))


@_emits(shapes.Narrow, shapes.Select)
def _narrow(c: _Converter, module: Module, x: Any, path: str) -> Value:
    x = c.plain(x)
    seen = c.shape_after(module, x, path=path)
    axis = module.number - 1 if module.number > 0 else module.number + len(x.shape)
    select = isinstance(module, shapes.Select)
    start = torch.arange(x.shape[axis])
    start = int(start[module.index - 1 if module.index > 0 else module.index]) if select else \
        int(module(start.view([-1 if i == axis else 1 for i in range(len(x.shape))])).flatten()[0])
    y = _cut(c, x, axis, start, 1 if select else seen[axis], _join(path, "slice"))
    return replace(y, view=seen) if select else y


# --- the spatial transformer


@_emits(stn.AffineGridGeneratorBHWD)
def _grid(c: _Converter, module: stn.AffineGridGeneratorBHWD, x: Any, path: str) -> Grid:
    size = module.height, module.width
    if not torch.allclose(module.base_grid.float(), stn.base_grid(*size), atol=1e-6):
        raise NetError(f"module {path} ({module.class_name}): its baseGrid is not the one of stnbhwd; Caffe makes its "
                       "own")
    c.shape_after(module, x, path=path)
    return Grid(x, size)


@_emits(stn.AffineTransformMatrixGenerator)
def _matrix(c: _Converter, module: stn.AffineTransformMatrixGenerator, x: Any, path: str) -> Value:
    if module.rotation or module.scale or module.translation:
        raise NetError(f"module {path} ({module.class_name}): only all six parameters are converted")
    x = c.plain(x)
    return replace(x, view=c.shape_after(module, x, path=path))


@_emits(stn.BilinearSamplerBHWD)
def _sampler(c: _Converter, module: stn.BilinearSamplerBHWD, x: list, path: str) -> Value:
    """Torch7 samples (N, H, W, C), Caffe (N, C, H, W); its theta is in other coordinates."""
    image, grid = x
    if not isinstance(grid, Grid):
        raise NetError(f"module {path} ({module.class_name}): its grid comes from no AffineGridGeneratorBHWD")
    c.shape_after(module, image, grid, path=path)
    if image.order != (0, 2, 3, 1):
        image = c.plain(image)
        n, h, w, channels = image.shape
        image = c.layer("Permute", path, image, (n, channels, h, w), permute_param={"order": [0, 3, 1, 2]})
    n, channels, *size = image.shape
    theta = _caffe_theta(c, grid.theta, tuple(size), grid.size)
    h, w = grid.size
    y = c.layer("SpatialTransformer", path, [image, theta], (n, channels, h, w),
                st_param={"output_H": h, "output_W": w})
    return replace(y, order=(0, 2, 3, 1))


def _caffe_theta(c: _Converter, x: Value, image: tuple[int, int], output: tuple[int, int]) -> Value:
    """theta in Caffe's coordinates, by a fixed InnerProduct; one for all samplers of one theta and size."""
    key = (x.blob, image, output)
    if key not in c.converted:
        matrix, shift = theta.to_caffe(image, output)
        c.converted[key] = c.layer(
            "InnerProduct", f"{x.blob}_caffe_{output[0]}", x, (BATCH, 6), "", learns=False,
            blobs=[matrix.astype(np.float32), shift.astype(np.float32)], inner_product_param={"num_output": 6})
    return c.converted[key]


@_emits(stn.GetAlpha)
def _get_alpha(c: _Converter, module: stn.GetAlpha, x: Value, path: str) -> Value:
    """The inverse map from stock layers: the fork's de_transform inverts nothing (st_layer.cpp reads it nowhere).

    For [a b t; d e u] it is [e -b; -d a] / (a e - b d), and minus that times (t, u).
    """
    c.shape_after(module, x, path=path)
    x = c.plain(replace(x, view=(BATCH, 6)))
    names = c.graph.add("Slice", _join(path, "parts"), [x.blob], 6, slice_param={"axis": 1})
    a, b, t, d, e, u = (Value(name, (BATCH, 1)) for name in names)

    def product(name: str, *factors: Value) -> Value:
        return c.layer("Eltwise", _join(path, name), factors, (BATCH, 1), "", eltwise_param={"operation": "PROD"})

    def total(name: str, *parts: Value, coeff: list[float]) -> Value:
        return c.layer("Eltwise", _join(path, name), parts, (BATCH, 1), "", eltwise_param={"coeff": coeff})

    def minus(name: str, value: Value) -> Value:
        return c.layer("Power", _join(path, name), value, (BATCH, 1), "", power_param={"scale": -1.0})

    determinant = total("det", product("ae", a, e), product("bd", b, d), coeff=[1.0, -1.0])
    inverse = c.layer("Power", _join(path, "inverse"), determinant, (BATCH, 1), "",
                      power_param={"power": -1.0})
    yy, xx = product("yy", e, inverse), product("xx", a, inverse)
    yx, xy = minus("yx", product("b_over_det", b, inverse)), minus("xy", product("d_over_det", d, inverse))
    y1 = total("y1", product("yyt", yy, t), product("yxu", yx, u), coeff=[-1.0, -1.0])
    x1 = total("x1", product("xyt", xy, t), product("xxu", xx, u), coeff=[-1.0, -1.0])
    alpha = c.layer("Concat", path or "alpha", [yy, yx, y1, xy, xx, x1], (BATCH, 6), "", concat_param={"axis": 1})
    return replace(alpha, view=(BATCH, 2, 3))
