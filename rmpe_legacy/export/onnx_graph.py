"""Builds an ONNX graph node by node: names, constants, and the ONNX version it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rmpe_legacy.caffe.layers.base import Layer
from rmpe_legacy.errors import NetError
from rmpe_legacy.wording import utf8

from .dynamic import axes_text
from .graph import Dims, Graph
from .onnx_model import OnnxModel

OPSET = 18  # of 2022: the version written unless an emitter calls `needs`
FLOAT, INT64, BOOL, DOUBLE = 1, 7, 9, 11  # TensorProto.DataType
_IR_OF = {18: 8, 20: 9}  # opset -> IR version of the same release


class OnnxGraph:
    """An ONNX graph under construction. Emitters add each layer's nodes and constants.

    Values are identified by name: a blob's value has the blob's name, intermediate ones are named "layer/operator".
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.taken = {value.name for node in graph.nodes for value in (*node.bottom, *node.top)}
        self.taken |= {value.name for value in graph.inputs}
        self.nodes: list[Any] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.opset = OPSET
        self.batch_fixed_by = ""  # why this network cannot take batches of any size; "" if it can
        self.layer = ""  # name of the layer whose nodes are being added
        self.shapes: dict[str, Dims] = {}  # shapes of blobs whose size depends on values
        self.made_by: list[Layer | None] = []  # of each node, the layer
        self.now: Layer | None = None  # the layer whose nodes are being added
        self._node_names: set[str] = set()
        self._parameters: dict[str, list[str]] = {}  # wanted name -> names
        self._constants: dict[tuple, str] = {}

    def needs(self, opset: int) -> None:
        """Require at least this ONNX opset."""
        self.opset = max(self.opset, opset)

    def fix_batch(self, reason: str) -> None:
        """Note why the network cannot be written for batches of any size. The graph built so far is then discarded."""
        self.batch_fixed_by = self.batch_fixed_by or reason

    def node(self, op: str, inputs: Sequence[str], outputs: Sequence[str] | int = 1, **attributes: Any) -> str:
        """Add a node; returns the name of its first output. outputs: names, or how many names to generate."""
        from onnx import helper

        if isinstance(outputs, int):
            outputs = [self._fresh(f"{self.layer}/{op.lower()}", self.taken) for _ in range(outputs)]
        name = self._fresh(self.layer, self._node_names, f"{self.layer}/{op.lower()}")
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), name, **attributes))
        self.made_by.append(self.now)
        return outputs[0]

    def nodes_of(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs; returns their generated names."""
        self.node(op, inputs, count, **attributes)
        return list(self.nodes[-1].output)

    def parameter(self, name: str, values: np.ndarray) -> str:
        """Add a weight of any shape as an initializer, without a copy; returns its name, with a number appended if
        other values have the name.
        """
        values = as_stored(values)
        known = self._parameters.setdefault(name, [])
        for initializer in known:
            if same_bits(self.initializers[initializer], values):
                return initializer
        fresh = self._fresh(utf8(name), self.taken)
        self.initializers[fresh] = values
        known.append(fresh)
        return fresh

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add a constant, such as axes or factors, as an initializer; equal constants share one. Returns its name."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            text = "_".join(map(str, array.ravel().tolist())) if 0 < array.size <= 4 else f"of_{self.layer}"
            self._constants[key] = self.parameter(f"constant/{array.dtype.name}_{text}", array)
        return self._constants[key]

    def integers(self, values: Sequence[int] | np.ndarray | int) -> str:
        """Add an int64 constant, ONNX's type for shapes, axes and indices. Returns its name."""
        return self.constant(values, np.int64)

    def reshape(self, x: str, have: Dims, want: Dims, to: str | None = None) -> str:
        """Reshape x; sizes that depend on the inputs are copied from it, or inferred. Returns the result's name."""
        target = [dim if isinstance(dim, int) else 0 if i < len(have) and have[i] == dim else -1
                  for i, dim in enumerate(want)]
        if target.count(-1) > 1 and self.graph.dynamic is not None:
            shape = self._shape(x, have, want, target)
        else:
            if target.count(-1) > 1:
                self.fix_batch(f"{self.layer}: two sizes of its top, {want}, depend on the batch")
            shape = self.integers(target)
        return self.node("Reshape", [x, shape], 1 if to is None else [to])

    def _shape(self, x: str, have: Dims, want: Dims, target: Sequence[int]) -> str:
        """Return a shape put together when the file runs, from sizes of other axes of x; one may stay -1."""
        parts = [self.node("Shape", [x], start=have.index(dim), end=have.index(dim) + 1)
                 if size == -1 and dim in have else self.integers([size])
                 for size, dim in zip(target, want, strict=True)]
        if sum(size == -1 and dim not in have for size, dim in zip(target, want, strict=True)) > 1:
            raise NetError(f"{self.layer}: cannot be converted to ONNX with a dynamic "
                           f"{axes_text(self.graph.dynamic or ())}: two sizes of its top, {want}, are not sizes of its "
                           f"bottom, {have}. Leave out --dynamic, or convert the layers before it, with --until")
        return self.node("Concat", parts, axis=0)

    def _fresh(self, name: str, taken: set[str], otherwise: str | None = None) -> str:
        """Reserve a free name: `name`, `otherwise`, or the latter with a number appended."""
        base = name if otherwise is None or name not in taken else otherwise
        fresh, n = base, 2
        while fresh in taken:
            fresh, n = f"{base}_{n}", n + 1
        taken.add(fresh)
        return fresh

    def model(self, producer: str, version: str, about: str) -> OnnxModel:
        """Return the model, after onnx.checker has accepted it."""
        import onnx
        from onnx import TensorProto, helper

        inputs = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, v.shape) for v in self.graph.inputs]
        outputs = [helper.make_tensor_value_info(v.name, TensorProto.FLOAT, self.shapes.get(v.name, v.shape))
                   for v in self.graph.outputs]
        # The checker copies a model twice, so that it gets the weights as inputs.
        weights = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape)
                   for name, values in self.initializers.items()]
        graph = helper.make_graph(self.nodes, utf8(self.graph.name or "network"), [*inputs, *weights], outputs,
                                  doc_string=utf8(about))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)],
                                  ir_version=_IR_OF[self.opset], producer_name=producer, producer_version=version)
        onnx.checker.check_model(model)
        del model.graph.input[len(inputs) :]
        return OnnxModel(model, self.initializers)


def as_stored(values: np.ndarray) -> np.ndarray:
    """Return values as a file holds them, in C's order and the least significant byte first."""
    # Not ascontiguousarray, which makes a single value a row of one.
    return np.asarray(values, values.dtype.newbyteorder("<"), order="C")


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether arrays, as stored, have the same type, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a is b or np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))
