"""A network as an ONNX file, layer by layer, in standard operators; blobs and weights keep their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import rmpe_legacy
from rmpe_legacy.errors import NetError
from rmpe_legacy.net import Net

from .graph import Graph, make_graph
from .onnx_graph import NeedsFixedBatch, OnnxGraph
from .onnx_layers import emit, supported_types


def to_onnx(net: Net, until: Sequence[str] = (), about: str = "") -> tuple[Any, Graph]:
    """The onnx.ModelProto of a network up to the blobs `until` (or its outputs), and the graph it was made from.

    The batch may have any size where every layer takes any; `graph.why_fixed` says which does not. NetError or
    LayerError name what cannot be converted.
    """
    graph = make_graph(net, until)
    refuse_unsupported(graph, supported_types(), "ONNX")
    try:
        built = _built(graph)
    except NeedsFixedBatch as reason:
        graph = make_graph(net, until, fixed=str(reason))
        built = _built(graph)
    return built.model("rmpe_legacy", rmpe_legacy.__version__, about), graph


def _built(graph: Graph) -> OnnxGraph:
    built = OnnxGraph(graph)
    for node in graph.nodes:
        emit(built, node)
    return built


def refuse_unsupported(graph: Graph, types: Sequence[str], target: str) -> None:
    """NetError that lists every layer whose type the target has no counterpart for here."""
    strange = [str(node.layer.spec.error("cannot be converted")) for node in graph.nodes
               if node.layer is not None and node.layer.spec.type not in types]
    if strange:
        what = "1 layer is" if len(strange) == 1 else f"{len(strange)} layers are"
        raise NetError("\n  ".join([
            f"{what} of a type that has no counterpart in {target} here; convert a part without, with --until BLOB:",
            *strange]))
