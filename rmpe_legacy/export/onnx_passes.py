"""Rewrites the nodes of an ONNX graph into fewer that compute the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .graph import Dims
from .onnx_graph import OnnxGraph, as_stored

# What is computed once, when the file is written: elementary operations, whose results every runtime rounds alike.
_FOLDED = frozenset({"Add", "Sub", "Mul", "Div", "Split", "Gather", "Reshape", "Concat", "Identity"})


def simplify(built: OnnxGraph) -> None:
    """Compute what depends on constants alone, and join reshapes and transposes of reshapes and transposes.

    A value between joined nodes, or one that becomes a constant, is no longer made by a node. Outputs stay.
    """
    shapes = {value.name: value.shape for value in (
        *built.graph.inputs, *(top for node in built.graph.nodes for top in node.top))}
    outputs = {value.name for value in built.graph.outputs}
    _fold_constants(built, outputs)
    _join(built, outputs, shapes)
    _drop_unread(built)


def _fold_constants(built: OnnxGraph, outputs: set[str]) -> None:
    from onnx.reference import ReferenceEvaluator

    kept = []
    for node in built.nodes:
        if node.op_type in _FOLDED and not outputs & set(node.output) and all(
                name in built.initializers for name in node.input):
            values = {name: built.initializers[name] for name in node.input}
            found = ReferenceEvaluator(node, opsets={"": built.opset}).run(None, values)
            for name, value in zip(node.output, found, strict=True):
                built.initializers[name] = as_stored(np.asarray(value))
        else:
            kept.append(node)
    built.nodes = kept


def _join(built: OnnxGraph, outputs: set[str], shapes: dict[str, Dims]) -> None:
    """Let a reshape read what the one before it read, and join Transposes; drop what then changes nothing."""
    maker = {name: node for node in built.nodes for name in node.output}
    readers = Counter(name for node in built.nodes for name in node.input)
    same: dict[str, str] = {}  # a value -> the one that it equals
    kept = []
    for node in built.nodes:
        node.input[:] = [same.get(name, name) for name in node.input]
        before = maker.get(node.input[0]) if node.input else None
        if before is not None and readers[node.input[0]] == 1 and node.input[0] not in outputs:
            if _reshapes_rows(built, node) and _reshapes_rows(built, before):
                node.input[0] = before.input[0]
            elif node.op_type == before.op_type == "Transpose":
                order = [_order(before)[axis] for axis in _order(node)]
                node.input[0] = before.input[0]
                node.attribute[0].ints[:] = order
        if node.output[0] not in outputs and _changes_nothing(built, node, shapes):
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    built.nodes = kept


def _reshapes_rows(built: OnnxGraph, node: Any) -> bool:
    """Whether a node keeps the first axis and reshapes the rest, without a look at the other axes."""
    if node.op_type == "Flatten":
        return all(attribute.name != "axis" or attribute.i == 1 for attribute in node.attribute)
    target = _target(built, node)
    return target is not None and target[:1] == [0] and 0 not in target[1:]


def _target(built: OnnxGraph, node: Any) -> list[int] | None:
    """Return the shape that a Reshape gives, if it is a constant."""
    if node.op_type != "Reshape" or node.input[1] not in built.initializers:
        return None
    return built.initializers[node.input[1]].tolist()


def _order(node: Any) -> list[int]:
    return list(node.attribute[0].ints)


def _changes_nothing(built: OnnxGraph, node: Any, shapes: dict[str, Dims]) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Transpose":
        return _order(node) == sorted(_order(node))
    target = _target(built, node)
    shape = None if target is None else shapes.get(node.input[0])
    return target is not None and shape is not None and len(target) == len(shape) and target.count(-1) < 2 and all(
        size in (0, -1, have) for size, have in zip(target, shape, strict=True))


def _drop_unread(built: OnnxGraph) -> None:
    """Drop nodes and constants that nothing reads, of which joining leaves some."""
    outputs = [value.name for value in built.graph.outputs]
    built.nodes = needed_nodes(built.nodes, outputs)
    read = {*outputs, *(name for node in built.nodes for name in _read(node))}
    built.initializers = {name: value for name, value in built.initializers.items() if name in read}


def needed_nodes(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """Return the nodes that some values depend on, in their order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            found.append(node)
            wanted |= _read(node)
    return found[::-1]


def _read(node: Any) -> set[str]:
    """Return the values that a node reads, also in graphs of its own, such as a loop's body."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names |= {name for inner in graph.node for name in _read(inner)} | {value.name for value in graph.output}
    return names
