"""Changes what an ONNX model reads and gives, for as long as it takes to open it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rmpe_legacy.optional import optional

from .onnx_passes import needed_nodes


def given_name(name: str) -> str:
    """Return the name of the input that stands for a value in a model of ``rewired``."""
    return f"given/{name}"


@contextmanager
def rewired(model: Any, given: Mapping[str, int | None], outputs: Sequence[str] | None = None) -> Iterator[None]:
    """Let nodes read inputs in place of values that others compute.

    With `outputs`, nodes that these do not depend on are left out: onnxruntime would run them all the same.

    Args:
        model: An onnx.ModelProto. It is as before afterwards.
        given: The values to read from an input, ``given_name(value)``, and how many axes each has; None if unknown.
        outputs: The values to give in place of the model's outputs; None for these.
    """
    onnx = optional("onnx", "changing an ONNX model")
    graph = model.graph
    kept = {field: list(getattr(graph, field)) for field in ("input", "output", "value_info", "node")}
    read = [list(node.input) for node in graph.node]
    if outputs is not None:
        graph.ClearField("output")
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    if given:
        graph.ClearField("value_info")
        graph.input.extend(onnx.helper.make_tensor_value_info(
            given_name(name), onnx.TensorProto.FLOAT, None if axes is None else [None] * axes)
            for name, axes in given.items())
        for node in graph.node:
            node.input[:] = [given_name(name) if name in given else name for name in node.input]
    if outputs is not None:
        needed = needed_nodes(graph.node, outputs)
        graph.ClearField("node")
        graph.node.extend(needed)
    try:
        yield
    finally:
        for field, values in kept.items():
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        for node, names in zip(graph.node, read, strict=True):
            node.input[:] = names
