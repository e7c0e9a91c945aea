"""A network as an ONNX file, layer by layer, in standard operators; blobs and weights keep their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import rmpe_legacy
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.optional import optional

from .graph import Graph, make_graph
from .onnx_graph import NeedsFixedBatch, OnnxGraph
from .onnx_layers import emit, supported_types

BLOB_NAMES = "rmpe_legacy.blobs"  # key of an ONNX file's metadata: value -> blob, as JSON, where they differ
MAX_BYTES = (1 << 31) - 1  # of one protobuf message


def to_onnx(net: Net, until: Sequence[str] = (), about: str = "") -> tuple[Any, Graph]:
    """The onnx.ModelProto of a network up to the blobs `until` (or its outputs), and the graph it was made from.

    The batch may have any size where every layer takes any; `graph.why_fixed` says which does not. NetError or
    LayerError name what cannot be converted.
    """
    optional("onnx", "writing ONNX files")
    graph = make_graph(net, until)
    refuse_unsupported(graph, supported_types(), "ONNX")
    try:
        built = _built(graph)
    except NeedsFixedBatch as reason:
        graph = make_graph(net, until, fixed=str(reason))
        built = _built(graph)
    model = built.model("rmpe_legacy", rmpe_legacy.__version__, about)
    if renamed := _renamed(graph):
        model.metadata_props.add(key=BLOB_NAMES, value=json.dumps(renamed))
    return model, graph


def write_onnx(path: str | PathLike, model: Any) -> None:
    """Write the file; FileError where it would be larger than ONNX files can be."""
    if (size := model.ByteSize()) > MAX_BYTES:
        raise FileError(f"{path}: would be {size / 2**30:.1f} GiB; an ONNX file holds up to 2 GiB. Convert a part, "
                        "with --until BLOB")
    Path(path).write_bytes(model.SerializeToString())


def _renamed(graph: Graph) -> dict[str, str]:
    """Value -> blob, where the names differ: a blob written over an input's, or a name that ONNX cannot hold."""
    finals = {value.name: blob for blob, value in graph.final.items() if value.name != blob}
    return finals | {value.name: value.blob for value in graph.inputs if value.name != value.blob}


def _built(graph: Graph) -> OnnxGraph:
    built = OnnxGraph(graph)
    for node in graph.nodes:
        emit(built, node)
    return built


def refuse_unsupported(graph: Graph, types: Sequence[str], target: str) -> None:
    """NetError that lists every layer whose type the target has no counterpart for here."""
    strange = [str(node.layer.spec.error("cannot be converted")) for node in graph.nodes
               if node.layer is not None and node.layer.written_as not in types]
    if strange:
        what = "1 layer is" if len(strange) == 1 else f"{len(strange)} layers are"
        raise NetError("\n  ".join([
            f"{what} of a type that has no counterpart in {target} here; convert a part without, with --until BLOB:",
            *strange]))
