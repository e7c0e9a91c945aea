"""Walks through a Torch7 network like a forward pass, with blobs instead of tensors, and writes Caffe layers.

The layers for each module are in ``emitters``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.registry import Registry
from rmpe_legacy.torch7.modules import graph, linear, spatial, stn
from rmpe_legacy.torch7.modules.base import Module
from rmpe_legacy.torch7.network_kind import Part, kind, roles

from .caffe_graph import CaffeGraph, CaffeNetwork

BATCH = 1009  # batch size for computing shapes: a prime, so that no other axis is confused with it
DEFAULT_SIZE = 256  # pixels, without an STN that determines it: inputRes of the authors' opts.lua


@dataclass(frozen=True)
class Value:
    """A blob, and how Torch7 sees it: unchanged, with permuted axes, or reshaped."""

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
    """The output of a grid generator. Caffe's layer computes its own grid from theta."""

    theta: Value
    size: tuple[int, int]

    @property
    def seen(self) -> tuple[int, ...]:
        return (self.theta.seen[0], *self.size, 2)


Item = Value | Grid | list
Emitter = Callable[..., Any]  # (converter, module of its class, what `takes` says, path) -> Item
_EMITTERS: Registry[type[Module], tuple[Emitter, type]] = Registry("Torch7 module")


def emits(*classes: type[Module], takes: type = Value) -> Callable[[Emitter], Emitter]:
    """Register the emitter of these modules; `takes`: a Value, a list, or object for anything."""

    def add(function: Emitter) -> Emitter:
        for cls in classes:
            _EMITTERS.add(cls, (function, takes))
        return function

    return add


class Converter:
    """Walks through a network like its forward, with blobs instead of tensors."""

    def __init__(self, network: Module, parallel: bool):
        self.network = network
        self.part = _part(network, {})
        self.parallel = parallel
        self.graph = CaffeGraph()
        self.converted: dict[tuple, Value] = {}  # theta in Caffe's coordinates, computed once per size

    def convert(self, input_shape: Sequence | None, batch: int, name: str) -> CaffeNetwork:
        """Convert the whole network; arguments as for ``torch7_to_caffe``.

        Raises:
            NetError: `batch` is less than 1, or Caffe has no layers for a part of the network.
        """
        shapes = self._input_shapes(input_shape)
        if batch < 1:
            raise NetError(f"batch {batch} must be at least 1")
        single = len(shapes) == 1
        inputs = [self._input("data" if single else f"data{i}", shape, batch) for i, shape in enumerate(shapes, 1)]
        outputs = self._emit_top(inputs[0] if single else inputs)
        blobs = [self.plain(output).blob for output in flat(outputs)]
        named = [(blob, name) for blob, name in zip(blobs, self._output_names(blobs), strict=True)
                 if self.parallel or not name.startswith("parallel")]
        names = self.graph.finish([blob for blob, _ in named], [self.graph.unique(name) for _, name in named])
        net = self.graph.message(name)
        return CaffeNetwork(net, self.graph.trained(), [i.blob for i in inputs], names, kind(self.part))

    def _input(self, name: str, shape: Sequence[int], batch: int) -> Value:
        self.graph.add("Input", name, [], input_param={"shape": [blob_shape([batch, *shape])]})
        return Value(name, (BATCH, *shape))

    def _input_shapes(self, given: Sequence | None) -> list[tuple[int, ...]]:
        """Return one shape per input, without the batch axis."""
        count = self.network.input_count if isinstance(self.network, graph.GModule) else None
        if given is None:
            return [self._default_shape()] * (count or 1)
        several = bool(given) and all(isinstance(shape, list | tuple) for shape in given)
        shapes = list(map(tuple, given)) if several else [tuple(given)] * (count or 1)
        if len(shapes) != (count or len(shapes)) or not all(
                s and all(isinstance(n, int) and n > 0 for n in s) for s in shapes):
            raise NetError(f"input_shape {given}: expected positive whole numbers, (C, H, W) for images, for each of "
                           f"{count or len(shapes)} inputs")
        return shapes

    def _default_shape(self) -> tuple[int, ...]:
        for module in self.network.modules():
            if isinstance(module, linear.Linear):
                return (module.weight.shape[1],)
            if isinstance(module, spatial.SpatialConvolution):
                size = next(((m.height, m.width) for m in self.network.modules()
                             if isinstance(m, stn.AffineGridGeneratorBHWD)), (DEFAULT_SIZE, DEFAULT_SIZE))
                return (module.weight.shape[1] * module.groups, *size)
        raise NetError("the network has no convolution from which its input shape could be inferred; give input_shape")

    def _emit_top(self, x: Item) -> Item:
        """Convert the whole network; its parts are named by their roles, if known."""
        if not isinstance(self.network, graph.GModule):
            return self.emit(self.network, x, "")
        names = {part: role or str(int(part) + 1)
                 for part, role in zip(self.network._modules, roles(self.part), strict=True)}
        return self.network.evaluate(x, lambda part, value: self.emit(self.network._modules[part], value, names[part]))

    def _output_names(self, blobs: Sequence[str]) -> list[str]:
        """Return names for the outputs: those of an SDTN, or of an hourglass alone, are heatmaps."""
        alone = kind(self.part).startswith("stacked hourglass")
        parts = {"sdtn": "heatmaps", "parallel": "parallel"}
        words = [next((word for part, word in parts.items() if blob.startswith(part)),
                      "heatmaps" if alone else "output") for blob in blobs]
        return [word if len(blobs) == 1 else f"{word}_{words[: i + 1].count(word)}" for i, word in enumerate(words)]

    def emit(self, module: Module, x: Item, path: str) -> Item:
        """Write the layers of a module, and return its output value.

        Raises:
            NetError: Caffe has no layer for the module, or its input has the wrong type.
        """
        emitter, takes = _EMITTERS.get(type(module), (None, object))
        if emitter is None:
            raise unsupported(module, path, "Caffe has no layer for it; convert the part of the network without it")
        if takes is list and x == []:
            raise unsupported(module, path, "is given an empty table")
        if not isinstance(x, takes):
            raise unsupported(module, path, f"is given {_KINDS[type(x)]} instead of {_KINDS[takes]}")
        return emitter(self, module, x, path)

    def layer(self, type: str, path: str, x: Value | Sequence[Value], seen: tuple[int, ...], word: str | None = None,
              **settings) -> Value:
        """Write a layer with one top of shape `seen`, named by the path of its module and a role."""
        bottoms = [x] if isinstance(x, Value) else x
        word = _WORDS.get(type, type.lower()) if word is None else word
        name, = self.graph.add(type, join(path, word) if word else path, [b.blob for b in bottoms], **settings)
        return Value(name, seen)

    def plain(self, x: Item) -> Value:
        """Make the blob of a value match Torch7's view, by a Permute or Reshape if necessary.

        Raises:
            NetError: The value is a table or a sampling grid.
        """
        if not isinstance(x, Value):
            raise NetError("a table or a sampling grid was found where a tensor is expected")
        if x.order is not None:
            return self.layer("Permute", x.blob, x, x.seen, permute_param={"order": list(x.order)})
        if x.view is not None and x.view != x.shape:
            return self.layer("Reshape", x.blob, x, x.view, reshape_param={"shape": blob_shape([0, *x.view[1:]])})
        return Value(x.blob, x.shape)

    def image(self, module: Module, x: Item, path: str) -> Value:
        """Return a plain value, checked to be a batch of images, (N, C, H, W).

        Raises:
            NetError: It is not.
        """
        x = self.plain(x)
        if len(x.shape) != 4:
            raise unsupported(module, path, f"takes N x C x H x W, not {shown(x.shape)}; is input_shape right?")
        return x

    def shape_after(self, module: Module, *x: Value | Grid, path: str) -> tuple[int, ...]:
        """Return a module's output shape: as it declares, or by running it on meta tensors.

        Raises:
            NetError: The module does not accept the input shapes.
        """
        seen = [value.seen for value in x]
        try:
            if hasattr(module, "output_shape"):
                return module.output_shape(*seen)
            return tuple(module(torch.empty(seen[0], device="meta")).shape)
        except (RmpeError, RuntimeError, IndexError) as error:
            reason = str(error).partition("\n")[0].replace(str(BATCH), "N")
            raise unsupported(module, path, f"does not take {', '.join(map(shown, seen))}: {reason}; is input_shape "
                              "right?") from None


def unsupported(module: Module, path: str, reason: str) -> NetError:
    """Return the error for a module that cannot be converted."""
    return NetError(f"module {path or '1'} ({module.class_name}): {reason}")


_KINDS = {Value: "a tensor", list: "a table", Grid: "a sampling grid"}
_WORDS = {"Convolution": "conv", "BatchNorm": "bn", "Pooling": "pool", "Deconvolution": "deconv",
          "InnerProduct": "fc", "SpatialTransformer": "transform", "Eltwise": "add"}


def blob_shape(dims: list[int]) -> Message:
    """Return a BlobShape message."""
    return Message(load_schema()["BlobShape"], {"dim": dims})


def _part(module: torch.nn.Module, known: dict[int, Part]) -> Part:
    if id(module) not in known:
        outputs = module.output_count if isinstance(module, graph.GModule) else 1
        parts = [_part(child, known) for child in module._modules.values() if child is not None]
        known[id(module)] = Part.of(getattr(module, "class_name", ""), parts, outputs)
    return known[id(module)]


def flat(x: Item) -> list:
    """Flatten a table of tables."""
    return [x] if not isinstance(x, list) else [item for part in x for item in flat(part)]


def shown(shape: Sequence[int]) -> str:
    """Format a shape: N x 3 x 4."""
    return " x ".join("N" if n == BATCH else str(n) for n in shape)


def join(path: str, part: object) -> str:
    """Return the path of a module inside the one at `path`."""
    return f"{path}_{part}" if path else str(part)


def values_of(tensor: torch.Tensor) -> np.ndarray:
    """Return a parameter's values as an array in its shape that shares its memory."""
    return tensor.detach().cpu().numpy()


def same_shape(c: Converter, type: str, x: Value, path: str, **settings) -> Value:
    """Write an elementwise layer, for which Torch7's view of the blob does not matter."""
    return replace(x, blob=c.layer(type, path, x, x.shape, **settings).blob)
