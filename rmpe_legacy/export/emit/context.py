"""What an emitter gets to work with, and the registries of emitters: one per target, keyed by layer type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.errors import LayerError
from rmpe_legacy.registry import Registry

from ..graph import ROWS, Dims
from ..onnx_graph import OnnxGraph


@dataclass(frozen=True)
class EmitContext:
    """One layer of the network that is being written.

    Attributes:
        layer: The layer, with its parameters read and its blobs filled.
        x: Its bottoms: names of ONNX values, or Python expressions.
        bottom_shapes: The bottoms' shapes; a size that depends on the batch is a string.
        top_shapes: The tops' shapes.
    """

    layer: Layer
    x: tuple[str, ...]
    bottom_shapes: tuple[Dims, ...]
    top_shapes: tuple[Dims, ...]
    cannot: ClassVar[str] = "cannot be converted"

    def refuse(self, reason: str) -> LayerError:
        """Return the error for a feature that the target, or its emitter, does not support."""
        return self.layer.spec.error(f"{self.cannot}: {reason}")

    @staticmethod
    def has_symbols(sizes: Dims) -> bool:
        """Return whether some of the sizes vary with the inputs."""
        return any(isinstance(size, str) for size in sizes)


@dataclass(frozen=True)
class OnnxContext(EmitContext):
    """A layer that is being written as ONNX. Its emitter adds nodes to the graph; the last ones produce the tops.

    Attributes:
        graph: The ONNX graph so far.
        y: The names of the tops.
    """

    graph: OnnxGraph
    y: tuple[str, ...]
    cannot: ClassVar[str] = "cannot be converted to ONNX"

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; returns the name of its output, which is made from the layer's name."""
        return self.graph.node(op, inputs, **attributes)

    def output(self, op: str, *inputs: str, **attributes: Any) -> None:
        """Add the node that gives the layer's first top."""
        self.graph.node(op, inputs, [self.y[0]], **attributes)

    def constant(self, value: Any) -> str:
        """Return the name of a float32 constant."""
        return self.graph.constant(value)

    def integers(self, values: int | Sequence[int] | np.ndarray) -> str:
        """Return the name of an int64 constant."""
        return self.graph.integers(values)

    def blob(self, index: int) -> np.ndarray:
        """Return a parameter's values, in the shape that the layer declared."""
        return self.layer.blobs()[index].detach().cpu().numpy()

    def weight(self, index: int, shape: Sequence[int] | None = None) -> str:
        """Return the name of a parameter, stored under its key in the state dict; reshaped if `shape` is given."""
        values = self.blob(index)
        name = f"{self.layer.spec.name}.{self.layer.declared[index].name}"
        return self.graph.parameter(name, values if shape is None else values.reshape(shape))

    def maps(self) -> str:
        """Return the name of the first bottom as (N, C, H, W); axes that it lacks are 1, as Caffe's height() has them.
        """
        axes = range(len(self.bottom_shapes[0]), 4)
        return self.node("Unsqueeze", self.x[0], self.integers([*axes])) if axes else self.x[0]

    def size(self, index: int = 0) -> tuple[int, ...]:
        """Return a bottom's sizes after the batch axis. If they depend on the batch, it gets one fixed size."""
        return self._fixed(self.bottom_shapes[index][1:])

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Return a bottom's sizes, batch included. If they depend on the batch, it gets one fixed size."""
        return self._fixed(self.bottom_shapes[index])

    def _fixed(self, sizes: Dims) -> tuple[int, ...]:
        if any(isinstance(size, str) and size.endswith(ROWS) for size in sizes):
            raise self.refuse(f"its bottom's sizes {sizes} depend on values")
        if self.has_symbols(sizes):
            self.fix_batch(f"is written for one size of the batch, as its bottom's sizes {sizes} depend on it")
        return self.graph.graph.at_own_sizes(sizes)

    def fix_batch(self, reason: str) -> None:
        """Note that the layer cannot be written for batches of any size; the network is then written for one.

        Raises:
            LayerError: The user asked for sizes of inputs that cannot be fixed.
        """
        if self.graph.graph.dynamic is not None:
            raise self.graph.graph.refuse_dynamic(self.layer, "it is written for fixed sizes only")
        self.graph.fix_batch(str(self.layer.spec.error(reason)))

    def sizes_of(self, x: str, begin: int, end: int | None = None) -> str:
        """Return the name of a value's sizes from axis `begin` on, int64, as they are when the file runs."""
        return self.node("Shape", x, start=begin, **({} if end is None else {"end": end}))


class Writer(Protocol):
    """The part of the model.py writer that emitters use."""

    def use(self, part: str) -> str:
        """Copy a class or function of parts/ into the file; returns its name."""

    def module(self, layer: Layer, constructor: str, state: dict[str, Tensor]) -> str:
        """Make a submodule named after the layer; returns an expression: "self.conv1".

        Args:
            layer: The layer.
            constructor: The expression that makes the submodule.
            state: Its parameters by name, in the shapes that the submodule declares.
        """

    def buffer(self, layer: Layer, values: Tensor) -> str:
        """Store a constant tensor of any shape beside the weights; returns an expression: "self.priors"."""


@dataclass(frozen=True)
class PythonContext(EmitContext):
    """A layer that is being written to model.py. Its emitter returns one expression, with commas for several tops.

    Attributes:
        writer: The file that is being written.
    """

    writer: Writer
    cannot: ClassVar[str] = "cannot be written as a PyTorch module"

    def call(self, part: str, *arguments: Any) -> str:
        """Return a call of a function of parts/."""
        return f"{self.writer.use(part)}({', '.join(map(str, arguments))})"

    def part(self, name: str, *names: str, arguments: str) -> str:
        """Return a call, on the first bottom, of a submodule whose class is in parts/.

        Args:
            name: The class.
            names: The names of its parameters, in Caffe's order of the blobs.
            arguments: What its constructor is called with.
        """
        return f"{self.submodule(f'{self.writer.use(name)}({arguments})', *names)}({self.x[0]})"

    def maps(self) -> str:
        """Return the first bottom as (N, C, H, W); axes that it lacks are 1, as Caffe's height() has them."""
        return self.x[0] + "[..., None]" * (4 - len(self.bottom_shapes[0]))

    def plane(self, index: int = 0, top: bool = False) -> tuple[int, int]:
        """Return height and width of a bottom, or of a top.

        Raises:
            LayerError: The inputs can have any size.
        """
        h, w = (self.top_shapes if top else self.bottom_shapes)[index][2:]
        if not isinstance(h, int) or not isinstance(w, int):
            raise self.refuse("it is written for fixed sizes only")
        return h, w

    def submodule(self, constructor: str, *names: str) -> str:
        """Make a submodule whose parameters `names` are the layer's blobs, in Caffe's order."""
        return self.writer.module(self.layer, constructor, dict(zip(names, self.layer.blobs(), strict=True)))


ONNX: Registry[str, Callable[[OnnxContext], None]] = Registry("ONNX emitter of layer type")
PYTHON: Registry[str, Callable[[PythonContext], str]] = Registry("Python emitter of layer type")
emits_onnx = ONNX.register
emits_python = PYTHON.register
